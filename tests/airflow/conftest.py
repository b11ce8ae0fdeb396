"""One real Airflow and one real stack that hands its flights to it, for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import airflow
from tests.support.airflow import AirflowServer
from tests.support.databases import Databases
from tests.support.missing import missing
from tests.support.stacks import Stack

PACE = {
    "AIRFLOW_LEASE_SECONDS": "4",
    "AIRFLOW_LOOK_SECONDS": "1",
    "AIRFLOW_RETRY_SECONDS": "2",
    "AIRFLOW_TIMEOUT": "10",
    "CANCEL_SECONDS": "2",
}


class Pair:
    """A stack and the Airflow that it hands its flights to."""

    def __init__(self, server: AirflowServer, stack: Stack) -> None:
        self.airflow = server
        self.stack = stack
        self.token = stack.owner_token()
        body = {"name": "airflow", "role": "operator", "scopes": ["read", "rockets:write", "runs:execute"]}
        self.service_token = str(self.call("POST", "/api/v1/service-tokens", body, wanted=201)["token"])
        server.connect_to(stack.url, self.service_token)
        server.start()

    def call(self, method: str, path: str, body: Any = None, *, wanted: int = 200) -> Any:
        """A call as the owner, answered with this status."""
        status, answer, _ = self.stack.request(method, path, body, token=self.token)
        assert status == wanted, (method, path, status, answer)
        return answer

    # --- rockets

    def launch(self, *, seconds: int = 1) -> dict[str, Any]:
        """A new rocket."""
        body = {"source": "Earth", "destination": "Mars", "estimated_time": seconds}
        return dict(self.call("POST", "/api/v1/job", body, wanted=201))

    def rocket(self, rocket_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/api/v1/job/{rocket_id}"))

    def history(self, rocket_id: str) -> list[dict[str, Any]]:
        return list(self.call("GET", f"/api/v1/job/{rocket_id}/history"))

    def wait_for_rocket(self, rocket_id: str, state: str, *, seconds: float = 180) -> dict[str, Any]:
        """The rocket, as soon as it is in this state."""
        self.wait_for(lambda: self.rocket(rocket_id)["state"] == state, seconds=seconds, what=f"the state {state}")
        return self.rocket(rocket_id)

    # --- runs

    def add_job(self, **facts: Any) -> str:
        """A job that Airflow executes: a CSV file into a table; returns its id."""
        csv = self.airflow.home / "data" / "probes.csv"
        if not csv.exists():
            csv.write_text("id,name\n" + "".join(f"{number},probe {number}\n" for number in range(1000)))
        task = {
            "extractor_config": {"type": "csv", "path": "probes.csv"},
            "loader_config": {"type": "duckdb", "db_path": "landed.duckdb", "table_name": "probes"},
        }
        body = {"job_name": "probes", "schedule": "@manual", "is_active": True, "tasks": [task], "executor": "airflow"}
        return str(self.call("POST", "/api/v1/jobs", {**body, **facts})["job_id"])

    def start(self, job_id: str) -> str:
        return str(self.call("POST", f"/api/v1/jobs/{job_id}/run")["run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/api/v1/runs/{run_id}"))

    def wait_for_run(self, run_id: str, *states: str, seconds: float = 180) -> dict[str, Any]:
        """The run, as soon as it is in one of these states."""
        wanted = states or ("succeeded", "failed", "cancelled")
        self.wait_for(lambda: self.run(run_id)["state"] in wanted, seconds=seconds, what=f"the run to be {wanted}")
        return self.run(run_id)

    def log(self, run_id: str) -> str:
        lines = self.call("GET", f"/api/v1/runs/{run_id}/logs")["lines"]
        return "\n".join(line["message"] for line in lines)

    def wait_for(self, is_so: Any, *, seconds: float = 180, what: str = "it") -> Any:
        try:
            return self.stack.wait_for(is_so, seconds=seconds, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.airflow.output()[-9000:]}") from error


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Pair]:
    """A stack and an Airflow that all tests share: leave both as they were."""
    if not airflow.is_installed():
        missing("Apache Airflow (make airflow)")
    folder: Path = tmp_path_factory.mktemp("airflow")
    server = AirflowServer(folder / "airflow")
    access = {"AIRFLOW_URL": server.url, "AIRFLOW_USERNAME": server.username, "AIRFLOW_PASSWORD": server.password}
    access["DATA_ROOTS"] = str(server.home / "data")
    stack = Stack(folder / "stack", database_url=databases.separate(), **access, **PACE)
    try:
        stack.start()
        yield Pair(server, stack)
    finally:
        server.remove()
        if stack.process is not None:
            stack.stop()
