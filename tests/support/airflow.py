"""A real Apache Airflow 3 for tests: API server, scheduler and DAG processor on loopback, in an environment of its own.

It is installed by `make airflow` outside the checkout. What executes runs there is the package as it is built from the
checkout, with the engine's requirements: neither Flask nor the checkout itself is in reach.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from sqlalchemy.engine import make_url

from tests.support.databases import PostgresServer, render
from tests.support.stacks import CHECKOUT, free_port
from webapp.supervisor import PR_SET_PDEATHSIG, call_prctl

VENV = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hohmann" / "airflow"
START_SECONDS = 240
PARTS = {
    "api-server": ["api-server"],
    # Their servers of logs would listen on every interface.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
LOOPBACK = {"127.0.0.1", "::1"}


def is_installed() -> bool:
    """Whether `make airflow` has been here."""
    return (VENV / "bin" / "airflow").exists()


def build_package(folder: Path) -> Path:
    """The folder in which this checkout is installed as a package, without what it does not need to move data."""
    from flit_core.wheel import make_wheel_in

    folder.mkdir()
    wheel = make_wheel_in(CHECKOUT / "pyproject.toml", folder).file
    site = folder / "site"
    options = ["-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--target", site]
    subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", *options, wheel], check=True, capture_output=True)
    return site


class AirflowServer:
    """One Airflow with a home of its own. `start` and `kill` as often as wanted; the port stays the same."""

    def __init__(self, home: Path, *, dags: Path = CHECKOUT / "dags") -> None:
        self.home = home
        self.dags_folder = dags
        self.postgres = PostgresServer()  # SQLite's lock ends Airflow's scheduler now and then
        self.database_url = self._make_database()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.username, self.password = "hohmann", secrets.token_urlsafe(12)
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        home.mkdir(parents=True)
        (home / "passwords.json").write_text(json.dumps({self.username: self.password}))
        (home / "data").mkdir()
        self.environment = {**_plain_environment(), **self._settings(build_package(home / "package"))}
        self._token = ""
        self.run("db", "migrate")

    def _settings(self, site: Path) -> dict[str, str]:
        """Quick where it can be, because tests wait; the rest is as Airflow has it."""
        options = {
            ("CORE", "LOAD_EXAMPLES"): "False",
            ("DATABASE", "SQL_ALCHEMY_CONN"): render(make_url(self.database_url).set(drivername="postgresql+psycopg2")),
            ("CORE", "DAGS_FOLDER"): str(self.dags_folder),
            ("CORE", "EXECUTOR"): "LocalExecutor",
            ("CORE", "PARALLELISM"): "4",
            ("CORE", "EXECUTION_API_SERVER_URL"): f"{self.url}/execution/",
            ("CORE", "SIMPLE_AUTH_MANAGER_USERS"): f"{self.username}:admin",
            ("CORE", "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"): str(self.home / "passwords.json"),
            ("WORKERS", "EXECUTION_API_TIMEOUT"): "60",  # a machine under load answers late
            ("API", "HOST"): "127.0.0.1",
            ("API", "PORT"): str(self.port),
            ("API", "BASE_URL"): self.url,
            ("API", "WORKERS"): "1",
            ("API", "SECRET_KEY"): secrets.token_urlsafe(32),
            ("API_AUTH", "JWT_SECRET"): secrets.token_urlsafe(48),
            ("SCHEDULER", "SCHEDULER_IDLE_SLEEP_TIME"): "0.2",
            ("SCHEDULER", "SCHEDULER_HEARTBEAT_SEC"): "1",
            # After a kill its tasks are found soon; a scheduler on a busy machine must not take its own for orphans.
            ("SCHEDULER", "SCHEDULER_HEALTH_CHECK_THRESHOLD"): "20",
            ("SCHEDULER", "ORPHANED_TASKS_CHECK_INTERVAL"): "5",
            ("SCHEDULER", "TASK_INSTANCE_HEARTBEAT_SEC"): "2",
            ("LOGGING", "LOGGING_LEVEL"): "WARNING",
        }
        return {
            **{f"AIRFLOW__{section}__{name}": value for (section, name), value in options.items()},
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": str(site),
            "PYTHONDONTWRITEBYTECODE": "1",  # the folder of DAGs is the checkout's
            "HOHMANN_HOME": str(self.home),
            "HOHMANN_ALLOW_PRIVATE_ADDRESSES": "1",
        }

    def _make_database(self) -> str:
        name = f"airflow_{secrets.token_hex(6)}"
        self._administer(f"CREATE DATABASE {name}")
        return render(make_url(self.postgres.url).set(drivername="postgresql", database=name))

    def _administer(self, statement: str) -> None:
        connection = psycopg2.connect(render(make_url(self.postgres.url).set(drivername="postgresql")))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What stands in its database."""
        connection = psycopg2.connect(self.database_url)
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            found = list(cursor.fetchall())
        connection.close()
        return found

    def remove(self) -> None:
        """Stop it, and leave no database behind."""
        self.stop()
        self._administer(f"DROP DATABASE {make_url(self.database_url).database} WITH (FORCE)")
        self.postgres.stop()

    def connect_to(self, hohmann_url: str, token: str) -> None:
        """Tell Airflow where Hohmann is, before it starts, as its connection `hohmann`."""
        found = {"conn_type": "http", "host": hohmann_url, "password": token}
        self.environment["AIRFLOW_CONN_HOHMANN"] = json.dumps(found)

    def run(self, *arguments: str) -> str:
        """A command of Airflow's; returns what it prints."""
        done = subprocess.run(
            [VENV / "bin" / "airflow", *arguments], env=self.environment, cwd=self.home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def start(self) -> "AirflowServer":
        """Start all parts; returns when Airflow is healthy, knows the DAGs, and listens on loopback alone."""
        for name, arguments in PARTS.items():
            with (self.home / f"{name}.log").open("ab") as log:
                self.parts[name] = subprocess.Popen(
                    [VENV / "bin" / "airflow", *arguments],
                    env=self.environment, cwd=self.home, stdout=log, stderr=log, start_new_session=True,
                    # A test run that is killed leaves none of it behind.
                    preexec_fn=lambda: call_prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
                )  # fmt: skip
        self.wait_for(self._is_healthy, what="Airflow to be healthy")
        self.wait_for(lambda: len(self.dags()) >= 2, what="Airflow to know the DAGs")
        elsewhere = {address for address in self.listens_on() if address not in LOOPBACK}
        assert elsewhere == set(), f"Airflow listens on {elsewhere}"
        return self

    def _is_healthy(self) -> bool:
        try:
            found = self.ask("GET", "/api/v2/monitor/health")
        except OSError:
            return False
        return all(found[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def dags(self) -> list[str]:
        """The DAGs that it knows."""
        return [found["dag_id"] for found in self.ask("GET", "/api/v2/dags")["dags"]]

    def processes(self) -> list[psutil.Process]:
        """All processes of it that are alive."""
        found: list[psutil.Process] = []
        for part in self.parts.values():
            if psutil.pid_exists(part.pid):
                root = psutil.Process(part.pid)
                found += [root, *root.children(recursive=True)]
        return found

    def listens_on(self) -> set[str]:
        """The addresses that its processes listen on."""
        connections = [one for process in self.processes() for one in process.net_connections(kind="inet")]
        return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}

    def kill(self) -> None:
        """kill -9 of everything at once, tasks included, as when the power fails."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; what is left after some seconds is killed."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        processes = self.processes()
        for process in processes if number == signal.SIGKILL else [psutil.Process(p.pid) for p in self.parts.values()]:
            _signal(process, number)
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            _signal(process, signal.SIGKILL)
        for part in self.parts.values():
            part.wait(10)
        self.parts = {}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call of its REST API as its user. Raises OSError when it does not answer."""
        headers = {"Content-Type": "application/json"}
        if path.startswith("/api/") and "monitor" not in path:
            self._token = self._token or self._log_in()
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def _log_in(self) -> str:
        body = {"username": self.username, "password": self.password}
        return str(self.ask("POST", "/auth/token", body)["access_token"])

    def state_of(self, dag_id: str, dag_run_id: str) -> str:
        """The state of a DAG run, "" when it is not there."""
        try:
            return str(self.ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}")["state"])
        except urllib.error.HTTPError:
            return ""

    def tasks_of(self, dag_id: str, dag_run_id: str) -> dict[str, str]:
        """The states of the tasks of a DAG run, by their names."""
        found = self.ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances")
        return {one["task_id"]: one["state"] for one in found["task_instances"]}

    def output(self) -> str:
        """What its parts and tasks have written, for a failure's message."""
        logs = [*self.home.glob("*.log"), *self.home.glob("logs/dag_id=*/**/*.log")]
        return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in sorted(logs))

    def wait_for(self, is_so: Any, *, seconds: float = START_SECONDS, what: str = "it") -> Any:
        """Wait until the function returns something true; returns that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := is_so():
                return found
            dead = [name for name, part in self.parts.items() if part.poll() is not None]
            assert not dead, f"{dead} ended\n{self.output()[-6000:]}"
            time.sleep(0.1)
        raise AssertionError(f"waited {seconds} s for {what}\n{self.output()[-12000:]}")


def _plain_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HOHMANN_", "TEST_", "AIRFLOW_", "PYTEST_", "DATABASE_URL", "PYTHONPATH"))
    }


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
