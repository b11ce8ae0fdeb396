"""Runs of jobs, executed by a real Airflow."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest

from tests.airflow.conftest import Pair
from tests.jobs import syncs

pytestmark = [pytest.mark.xdist_group("airflow"), pytest.mark.slow]
RUNS = "hohmann_run_dag"


def rows(pair: Pair, query: str, file: str = "landed.duckdb") -> list[Any]:
    with duckdb.connect(str(pair.airflow.home / "data" / file), read_only=True) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def held(pair: Pair, file: str) -> Iterator[None]:
    """Keep a DuckDB file as another load would: a run that wants to write it waits until the block ends."""
    with (pair.airflow.home / "data" / f"{file}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def task(file: str, **extractor: Any) -> dict[str, Any]:
    return {
        "extractor_config": extractor or {"type": "csv", "path": "probes.csv"},
        "loader_config": {"type": "duckdb", "db_path": file, "table_name": "probes"},
    }


def test_runs_of_every_kind_by_hand_and_by_schedule_are_executed_on_airflow(pair: Pair) -> None:
    secret = {"type": "api", "url": f"{pair.stack.url}/api/v1/job", "bearer_token": pair.token, "retries": 0}
    pair.launch(seconds=1)  # something that the API has
    etl = pair.start(pair.add_job(tasks=[task("etl.duckdb"), task("api.duckdb", **secret)]))
    sync = start_sync(pair)
    scheduled = pair.add_job(schedule="* * * * * *", overlap="skip", tasks=[task("scheduled.duckdb")])
    done = pair.wait_for_run(etl)
    assert done["state"] == "succeeded", (done, pair.log(etl))
    assert (done["executor"], done["triggered_by"], done["attempt"]) == ("airflow", "manual", 1)
    assert rows(pair, "SELECT count(*) FROM probes", "etl.duckdb") == [(1000,)]
    assert [step["outcome"] for step in done["steps"]] == ["succeeded"] * len(done["steps"])
    assert "Task 1 of 2 landed: 1,000 rows read, 1,000 written" in pair.log(etl)
    assert done["peak_memory_mb"] > 1
    synced = pair.wait_for_run(sync)
    assert synced["state"] == "succeeded", (synced, pair.log(sync))
    assert rows(pair, "SELECT count(*) FROM lake_main.probes", "lake.duckdb") == [(3,)]
    pair.wait_for(lambda: [run["state"] for run in runs_of(pair, scheduled)][:1] == ["succeeded"])
    first = runs_of(pair, scheduled)[0]
    assert first["triggered_by"] == "scheduler"
    assert first["scheduled_for"]
    pair.call("PATCH", f"/api/v1/jobs/{scheduled}", {"is_active": False})
    assert_nowhere_in_airflow(pair, pair.token, pair.service_token)


def runs_of(pair: Pair, job_id: str) -> list[dict[str, Any]]:
    return list(pair.call("GET", f"/api/v1/jobs/{job_id}/runs"))


def start_sync(pair: Pair) -> str:
    """A sync job from a SQLite file to a DuckDB file that lie where Airflow's workers are."""
    data = pair.airflow.home / "data"
    syncs.make_source(data / "probes.db")
    body = syncs.job_body()
    body["source"]["config"] = json.dumps({"path": str(data / "probes.db")})
    body["destination"]["config"] = json.dumps({"path": str(data / "lake.duckdb")})
    pair.call("POST", "/api/v1/project/olake/jobs", body)
    job_id = next(job["id"] for job in pair.call("GET", "/api/v1/jobs") if job["name"] == "copy")
    pair.call("PATCH", f"/api/v1/jobs/{job_id}", {"executor": "airflow"})
    return pair.start(job_id)


def assert_nowhere_in_airflow(pair: Pair, *wanted: str) -> None:
    """What is secret is neither in its database nor in its logs."""
    for path in pair.airflow.home.rglob("*"):
        if path.is_file() and path.suffix == ".log":
            assert [text[:8] for text in wanted if text.encode() in path.read_bytes()] == [], path
    confs = [conf for (conf,) in pair.airflow.query("SELECT conf FROM dag_run WHERE conf IS NOT NULL")]
    assert {key for conf in confs for key in conf} == {"job_id", "run_id"}
    for table in ("dag_run", "xcom", "log", "rendered_task_instance_fields", "task_instance"):
        found = str(pair.airflow.query(f"SELECT t::text FROM {table} t"))
        assert [text[:8] for text in wanted if text in found] == [], table


def test_a_run_is_cancelled_there_and_one_that_fails_says_why(pair: Pair) -> None:
    with held(pair, "held.duckdb"):
        run_id = pair.start(pair.add_job(tasks=[task("held.duckdb")]))
        broken = pair.start(pair.add_job(tasks=[task("broken.duckdb", type="csv", path="absent.csv")]))
        dag_run = pair.wait_for_run(run_id, "running")["airflow_dag_run_id"]
        pair.call("POST", f"/api/v1/runs/{run_id}/cancel", wanted=202)
        ended = pair.wait_for_run(run_id, seconds=20)
        assert ended["state"] == "cancelled"
        assert ended["error_message"] == "cancelled by alice"
        pair.wait_for(lambda: pair.airflow.state_of(RUNS, dag_run) == "failed")
    failed = pair.wait_for_run(broken)
    assert (failed["state"], failed["error_origin"], failed["attempt"]) == ("failed", "source", 1)
    assert "absent.csv" in failed["error_message"]


def test_airflow_is_killed_in_mid_flight_and_what_it_flew_lands_when_it_is_back(pair: Pair) -> None:
    with held(pair, "crash.duckdb"):
        # A slow Airflow brings the rocket up late, when the run has waited in vain for the file and is tried again.
        patient = {"max_attempts": 10, "retry_delay_seconds": 0}
        run_id = pair.start(pair.add_job(tasks=[task("crash.duckdb")], **patient))
        rocket = pair.launch(seconds=20)
        pair.wait_for_rocket(rocket["id"], "InFlight")
        pair.wait_for_run(run_id, "running")
        pair.airflow.kill()
        try:
            waits = pair.launch(seconds=1)
            pair.wait_for(lambda: "Airflow does not answer" in last_message(pair, waits["id"]), what="the reason")
            lost = pair.wait_for_run(run_id, "queued")
            assert lost["attempts"][-1]["outcome"] == "lost", lost["attempts"]
            pair.wait_for(lambda: "Airflow does not answer" in (pair.run(run_id)["waits_for"] or ""))
        finally:
            pair.airflow.start()
    assert pair.wait_for_rocket(waits["id"], "Landed_On_Mars")["status"] == "succeeded"
    assert pair.wait_for_rocket(rocket["id"], "Landed_On_Mars")["status"] == "succeeded"
    ended = pair.wait_for_run(run_id)
    assert (ended["state"], ended["attempt"]) == ("succeeded", len(lost["attempts"]) + 1), pair.log(run_id)
    assert rows(pair, "SELECT count(*) FROM probes", "crash.duckdb") == [(1000,)]


def last_message(pair: Pair, rocket_id: str) -> str:
    return str(pair.history(rocket_id)[-1]["message"])
