"""Rockets without a job, flown by a real Airflow."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from tests.airflow.conftest import Pair
from webapp.config import Settings
from webapp.orchestrators.airflow.rest import Airflow, AirflowRefused

pytestmark = [pytest.mark.xdist_group("airflow"), pytest.mark.slow]
ROCKETS = "rocket_flight_dag"


def test_a_rocket_flies_from_its_making_to_mars_and_another_is_lost_with_its_task(pair: Pair) -> None:
    made, doomed = pair.launch(seconds=1), pair.launch(seconds=8)
    assert (made["state"], made["status"]) == ("Preparing", "pending")
    # Somebody takes the second one back to the workshop, so that what its tasks say next is forbidden: one fails.
    pair.wait_for(lambda: pair.rocket(doomed["id"])["state"] in ("Ready", "InFlight"))
    for state in ("RUD", "Preparing"):
        pair.call("PATCH", f"/api/v1/job/{doomed['id']}", {"state": state})
    landed = pair.wait_for_rocket(made["id"], "Landed_On_Mars")
    assert (landed["status"], landed["location"]) == ("succeeded", "Mars")
    assert landed["airflow_dag_run_id"] == made["airflow_dag_run_id"]
    states = [entry["state"] for entry in pair.history(made["id"])]
    assert list(dict.fromkeys(states)) == ["Preparing", "Ready", "InFlight", "Landed_On_Mars"]
    pair.wait_for(lambda: pair.airflow.state_of(ROCKETS, made["airflow_dag_run_id"]) == "success")
    lost = pair.wait_for_rocket(doomed["id"], "RUD")
    assert lost["status"] == "failed"
    pair.wait_for(lambda: pair.airflow.state_of(ROCKETS, doomed["airflow_dag_run_id"]) == "failed")


def test_a_flight_that_is_failed_or_deleted_in_airflow_is_lost_here_and_an_aborted_one_is_stopped_there(
    pair: Pair,
) -> None:
    failed, deleted, aborted = (pair.launch(seconds=600) for _ in range(3))
    for rocket in (failed, deleted, aborted):
        wait_until_airflow_runs(pair, rocket)
    for rocket in (failed, deleted):  # a run that goes on cannot be deleted
        pair.airflow.ask("PATCH", run_of(rocket), {"state": "failed"})
    pair.airflow.ask("DELETE", run_of(deleted))
    pair.call("PATCH", f"/api/v1/job/{aborted['id']}", {"status": "cancelled"})
    for rocket in (failed, deleted):
        assert pair.wait_for_rocket(rocket["id"], "RUD")["status"] == "failed"
    assert pair.rocket(aborted["id"])["status"] == "cancelled"
    pair.wait_for(lambda: pair.airflow.state_of(ROCKETS, aborted["airflow_dag_run_id"]) == "failed")
    # The next flight of the same rocket is another DAG run.
    again = pair.call("POST", f"/api/v1/job/{failed['id']}/trigger")["dag_run_id"]
    assert again != failed["airflow_dag_run_id"]
    pair.wait_for(lambda: pair.airflow.state_of(ROCKETS, again) in ("queued", "running"))
    pair.call("DELETE", f"/api/v1/job/{failed['id']}", wanted=204)


def test_a_flight_waits_with_its_reason_while_the_dag_is_paused(pair: Pair) -> None:
    pair.airflow.ask("PATCH", f"/api/v2/dags/{ROCKETS}", {"is_paused": True})
    try:
        rocket = pair.launch(seconds=600)
        pair.wait_for(lambda: "paused in Airflow" in messages(pair, rocket), what="the reason")
        assert pair.rocket(rocket["id"])["status"] == "pending"
    finally:
        pair.airflow.ask("PATCH", f"/api/v2/dags/{ROCKETS}", {"is_paused": False})
    wait_until_airflow_runs(pair, rocket)
    pair.call("PATCH", f"/api/v1/job/{rocket['id']}", {"status": "cancelled"})


def run_of(rocket: dict[str, Any]) -> str:
    return f"/api/v2/dags/{ROCKETS}/dagRuns/{rocket['airflow_dag_run_id']}"


def messages(pair: Pair, rocket: dict[str, Any]) -> str:
    return "\n".join(entry["message"] for entry in pair.history(rocket["id"]))


def wait_until_airflow_runs(pair: Pair, rocket: dict[str, Any]) -> None:
    """Its DAG run has begun, and Hohmann knows it."""
    pair.wait_for(lambda: pair.airflow.state_of(ROCKETS, rocket["airflow_dag_run_id"]) == "running")
    pair.wait_for(lambda: pair.rocket(rocket["id"])["status"] == "running")


def test_handing_over_twice_is_one_dag_run_and_a_stale_token_is_fetched_again(pair: Pair) -> None:
    settings = Settings(
        airflow_url=pair.airflow.url, airflow_username=pair.airflow.username, airflow_password=pair.airflow.password
    )
    airflow = Airflow(replace(settings, airflow_token="not.good.anymore"))
    dag_run_id, conf = f"twice_{uuid.uuid4()}", {"job_id": str(uuid.uuid4())}
    for _ in range(2):
        airflow.trigger(ROCKETS, dag_run_id, conf)
    with pytest.raises(AirflowRefused, match="another run"):
        airflow.trigger(ROCKETS, dag_run_id, {"job_id": "another"})
    with pytest.raises(AirflowRefused, match="knows no DAG"):
        airflow.trigger("no_such_dag", dag_run_id, conf)
    airflow.stop(ROCKETS, dag_run_id)
    airflow.stop(ROCKETS, dag_run_id)
    assert airflow.state_of(ROCKETS, dag_run_id) == "failed"
    assert airflow.state_of(ROCKETS, "no_such_run") is None
    with pytest.raises(AirflowRefused, match="AIRFLOW_PASSWORD"):
        Airflow(replace(settings, airflow_password="wrong")).state_of(ROCKETS, dag_run_id)
    with pytest.raises(AirflowRefused, match="AIRFLOW_TOKEN"):
        only_a_token = replace(settings, airflow_username="", airflow_token="not.good.anymore")
        Airflow(only_a_token).state_of(ROCKETS, dag_run_id)
