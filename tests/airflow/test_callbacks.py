"""What tasks of Airflow say to Hohmann: who may, in which order, and what comes too late. No Airflow runs here."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests import factories
from tests.support.people import Person
from webapp.accounts import operations as accounts
from webapp.config import Executor, Role, Settings
from webapp.dates import utcnow
from webapp.db import db
from webapp.edge.models import KeptAnswer
from webapp.jobs import operations as jobs
from webapp.jobs.models import ExecutorChoice
from webapp.orchestrators.airflow import flights, handover, outbox, settling
from webapp.orchestrators.airflow.dispatcher import Dispatcher
from webapp.orchestrators.airflow.models import AirflowFlight, FlightState
from webapp.orchestrators.airflow.outbox import Result
from webapp.rockets.models import Rocket
from webapp.runs import claims, recovery
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.states import RunState

NOBODY_THERE = "http://127.0.0.1:9"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, airflow_url=NOBODY_THERE, executor=Executor.AIRFLOW)


class Tasks:
    """What an Airflow would do with the flights of this instance."""

    def __init__(self, app: Flask, client: FlaskClient, settings: Settings, work: Any, look: Any, token: str) -> None:
        self.app, self.client, self.settings, self.work, self.look = app, client, settings, work, look
        self.headers = {"Authorization": f"Bearer {token}"}

    def hand_over(self) -> int:
        with self.work():
            return handover.enlist_due_runs(self.settings)

    def start_run(self, **facts: Any) -> uuid.UUID:
        """A run that was handed to Airflow."""
        with self.work():
            job = factories.make_job(**facts)
            run_id = runs.add_run(runs.new_run(job, trigger=runs.Trigger.MANUAL, asked_by="alice")).id
        self.hand_over()
        return run_id

    def run(self, run_id: uuid.UUID) -> Run:
        with self.look() as session:
            run = session.scalars(sa.select(Run).where(Run.id == run_id)).one()
            session.expunge(run)
            return run

    def flights(self) -> list[AirflowFlight]:
        with self.look() as session:
            found = list(session.scalars(sa.select(AirflowFlight).order_by(AirflowFlight.number)))
            session.expunge_all()
            return found

    def to_be_stopped(self) -> list[str]:
        return [one.dag_run_id for one in self.flights() if one.state is FlightState.ENDED and one.next_at is not None]

    def begin(self, run_id: uuid.UUID, *, key: str = "key-of-the-task", dag_run_id: str = "", **more: Any) -> Any:
        body = {"dag_run_id": dag_run_id or self.run(run_id).dag_run_id, "key": key}
        headers = more.get("headers", self.headers)
        return self.client.post(f"/api/v1/airflow/runs/{run_id}/begin", json=body, headers=headers)

    def token(self, run_id: uuid.UUID, **more: Any) -> dict[str, str]:
        answer = self.begin(run_id, **more)
        assert answer.status_code == 200, answer.get_json()
        return {"Authorization": f"Bearer {answer.get_json()['token']}"}

    def report(self, run_id: uuid.UUID, holder: dict[str, str], sequence: int, **said: Any) -> Any:
        path = f"/api/v1/airflow/runs/{run_id}/reports"
        return self.client.post(path, json={"sequence": sequence, **said}, headers=holder)

    def answered(self, *, state: str | None, word: str = "look") -> None:
        """Airflow answers all errands with this state of the DAG run; a second look believes it."""
        for _ in range(2):
            with self.work() as session:
                session.execute(
                    sa.update(AirflowFlight).where(AirflowFlight.next_at.is_not(None)).values(next_at=utcnow())
                )
            with self.work():
                errands = outbox.take_errands(self.settings, limit=10)
            assert all(errand.word == word for errand in errands)
            with self.work():
                outbox.write_results([Result(errand, state=state) for errand in errands], self.settings)


@pytest.fixture
def tasks(app: Flask, client: FlaskClient, settings: Settings, work: Any, look: Any, alice: Person) -> Tasks:
    with work():
        scopes = ["read", "rockets:write", "runs:execute"]
        _, secret = accounts.create_service_token(alice.actor, name="airflow", role=Role.OPERATOR, scopes=scopes)
    return Tasks(app, client, settings, work, look, secret)


def line(text: str) -> dict[str, str]:
    return {"at": utcnow().isoformat(), "level": "info", "message": text}


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_task_begins_a_run_reads_what_to_do_and_reports_to_its_end(tasks: Tasks) -> None:
    run_id = tasks.start_run(name="probes")
    holder = tasks.token(run_id)
    running = tasks.run(run_id)
    assert (running.state, running.attempt) == (RunState.RUNNING, 1)
    assert running.lease_owner == f"airflow:{running.dag_run_id}"
    found = tasks.client.get(f"/api/v1/airflow/runs/{run_id}/specification", headers=holder).get_json()
    assert (found["attempt"], found["spec"]["job_name"]) == (1, "probes")
    progress = {"rows_read": 10, "rows_written": 5, "bytes_read": 100, "fraction": 0.5}
    step = {"position": 1, "task": 1, "name": "load", "started_at": utcnow().isoformat()}
    heard = tasks.report(run_id, holder, 1, lines=[line("hello")], steps=[step], progress=progress)
    assert heard.get_json() == {"sequence": 1, "taken": True, "stop_for": None}
    assert (tasks.run(run_id).rows_read, tasks.run(run_id).fraction) == (10, 0.5)
    outcome = {"name": "succeeded", "rows_read": 10, "rows_written": 10, "rows_found": 10, "bytes_read": 200}
    assert tasks.report(run_id, holder, 2, outcome=outcome).status_code == 200
    ended = tasks.run(run_id)
    assert (ended.state, ended.rows_written, ended.log_lines) == (RunState.SUCCEEDED, 10, 1)
    assert [flight.state for flight in tasks.flights()] == [FlightState.ENDED]


def test_a_message_is_taken_once_and_in_its_order(tasks: Tasks) -> None:
    run_id = tasks.start_run()
    holder = tasks.token(run_id)
    far = {"rows_read": 50, "rows_written": 50, "bytes_read": 1}
    near = {"rows_read": 5, "rows_written": 5, "bytes_read": 1}
    assert tasks.report(run_id, holder, 1, progress=far, lines=[line("one")]).get_json()["taken"] is True
    for _ in range(2):
        late = tasks.report(run_id, holder, 1, progress=near, lines=[line("one")])
        assert (late.status_code, late.get_json()["taken"]) == (200, False)
    early = tasks.report(run_id, holder, 3, progress=far)
    assert (early.status_code, early.get_json()["code"]) == (409, "OUT_OF_ORDER")
    assert early.get_json()["details"]["expected"] == 2
    assert (tasks.run(run_id).rows_read, tasks.run(run_id).log_lines) == (50, 1)
    end = {"outcome": {"name": "failed", "message": "no", "permanent": True}}
    assert tasks.report(run_id, holder, 2, **end).get_json()["taken"] is True
    assert tasks.report(run_id, holder, 2, **end).get_json()["taken"] is False
    after = tasks.report(run_id, holder, 3, progress=near)
    assert (after.status_code, after.get_json()["code"]) == (409, "LEASE_LOST")
    assert tasks.run(run_id).state is RunState.FAILED


def test_asking_twice_begins_once_and_another_task_of_the_same_dag_run_takes_over(tasks: Tasks) -> None:
    run_id = tasks.start_run(max_attempts=3)
    first, same = tasks.token(run_id), tasks.token(run_id)
    assert tasks.run(run_id).attempt == 1
    assert tasks.report(run_id, same, 1).status_code == 200
    cleared = tasks.token(run_id, key="another-task")
    assert tasks.run(run_id).attempt == 2
    assert tasks.report(run_id, first, 2).get_json()["code"] == "LEASE_LOST"
    assert tasks.report(run_id, cleared, 1).status_code == 200


def test_a_run_token_opens_its_own_run_and_nothing_else(tasks: Tasks, alice: Person) -> None:
    run_id, other_id = tasks.start_run(), tasks.start_run()
    holder = tasks.token(run_id)
    for path in (f"/api/v1/runs/{run_id}", "/api/v1/jobs", "/api/v1/job", "/api/v1/users"):
        assert tasks.client.get(path, headers=holder).status_code == 401, path
    assert tasks.client.get(f"/api/v1/airflow/runs/{other_id}/specification", headers=holder).status_code == 404
    assert tasks.report(other_id, holder, 1).status_code == 404
    for stranger in (alice.headers, tasks.headers, {}, {"Authorization": "Bearer nonsense"}):
        path = f"/api/v1/airflow/runs/{run_id}/specification"
        assert tasks.client.get(path, headers=stranger).status_code == 401
    assert tasks.begin(other_id, headers=holder).status_code == 401


def test_what_a_task_is_told_is_written_down_nowhere(tasks: Tasks) -> None:
    """Its token and the secrets of the run: neither beside an Idempotency-Key, nor in a cache on the way."""
    run_id = tasks.start_run()
    begun = tasks.begin(run_id, headers={**tasks.headers, "Idempotency-Key": "once"})
    holder = {"Authorization": f"Bearer {begun.get_json()['token']}"}
    told = tasks.client.get(f"/api/v1/airflow/runs/{run_id}/specification", headers=holder)
    assert (told.status_code, told.headers["Cache-Control"], "ETag" in told.headers) == (200, "no-store", False)
    with tasks.look() as session:
        assert session.scalars(sa.select(KeptAnswer)).all() == []


def test_only_a_machine_with_the_scope_for_it_begins_runs(tasks: Tasks, alice: Person, work: Any) -> None:
    """Who begins a run may read the secrets in its definition, which people only see masked."""
    run_id = tasks.start_run()
    with work():
        _, secret = accounts.create_service_token(alice.actor, name="x", role=Role.ADMIN, scopes=["read", "jobs:run"])
    for headers in (alice.headers, {"Authorization": f"Bearer {secret}"}):
        assert tasks.begin(run_id, headers=headers).status_code == 403
    assert tasks.run(run_id).state is RunState.QUEUED


def test_a_dag_run_that_nobody_asked_for_or_that_lost_its_run_does_not_begin_it(tasks: Tasks) -> None:
    run_id = tasks.start_run(max_attempts=3)
    assert tasks.begin(run_id, dag_run_id="manual__2026").get_json()["code"] == "STALE_FLIGHT"
    old, holder = tasks.run(run_id).dag_run_id or "", tasks.token(run_id)
    with tasks.work() as session:
        session.execute(sa.update(Run).values(lease_until=utcnow() - timedelta(seconds=1)))
    with tasks.work():
        recovery.recover_lost_runs()
    assert tasks.run(run_id).state is RunState.QUEUED
    assert tasks.report(run_id, holder, 1).get_json()["code"] == "LEASE_LOST"
    tasks.hand_over()
    assert tasks.run(run_id).dag_run_id != old
    assert tasks.begin(run_id, dag_run_id=old).get_json()["code"] == "STALE_FLIGHT"
    tasks.token(run_id)
    assert tasks.run(run_id).attempt == 2


def test_a_cancelled_run_is_told_to_stop_and_one_that_does_not_ends_all_the_same(tasks: Tasks, alice: Person) -> None:
    run_id = tasks.start_run(max_attempts=3)
    holder = tasks.token(run_id)
    with tasks.work():
        runs.request_cancel(alice.actor, run_id)
    assert tasks.report(run_id, holder, 1).get_json()["stop_for"] == "alice"
    with tasks.work() as session:
        session.execute(sa.update(Run).values(cancel_requested_at=utcnow() - timedelta(seconds=60)))
    with tasks.work():
        settling.end_runs_that_do_not_stop(tasks.settings)
    ended = tasks.run(run_id)
    assert (ended.state, ended.error_message) == (RunState.CANCELLED, "cancelled by alice")
    assert tasks.report(run_id, holder, 2).get_json()["code"] == "LEASE_LOST"
    [flight] = tasks.flights()
    assert flight.state is FlightState.ENDED
    assert flight.next_at is not None, "its DAG run has to be stopped"


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize(("state", "ends_as"), [("failed", RunState.QUEUED), (None, RunState.FAILED)])
def test_a_dag_run_that_failed_is_tried_again_and_one_that_was_deleted_is_not(
    tasks: Tasks, state: str | None, ends_as: RunState, has_begun: bool
) -> None:
    run_id = tasks.start_run(max_attempts=2)
    if has_begun:
        tasks.token(run_id)
    else:
        with tasks.work() as session:
            session.execute(sa.update(AirflowFlight).values(state=FlightState.STARTED))
    tasks.answered(state=state)
    run = tasks.run(run_id)
    assert (run.state, run.attempt) == (ends_as, 1)
    assert ("deleted in Airflow" if state is None else "DAG run failed") in (run.error_message or "")


def test_no_more_runs_of_a_job_are_handed_over_than_may_be_under_way(tasks: Tasks) -> None:
    with tasks.work():
        job = factories.make_job(concurrency_limit=2)
        for _ in range(5):
            runs.add_run(runs.new_run(job, trigger=runs.Trigger.MANUAL, asked_by="alice"))
    assert tasks.hand_over() == 2
    assert tasks.hand_over() == 0
    with tasks.work() as session:
        session.execute(sa.update(AirflowFlight).values(state=FlightState.ENDED))
        session.execute(sa.update(Run).where(Run.dag_run_id.is_not(None)).values(state=RunState.SUCCEEDED))
    assert tasks.hand_over() == 2


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_deleted_job_has_the_dag_runs_of_its_runs_stopped(tasks: Tasks, bob: Person, is_cancelled: bool) -> None:
    run_id = tasks.start_run()
    run = tasks.run(run_id)
    if is_cancelled:
        with tasks.work():
            runs.request_cancel(bob.actor, run_id)
        with tasks.work():
            handover.end_flights_of_ended_runs()
    with tasks.work():
        jobs.delete_job(bob.actor, run.job_id)
    assert tasks.to_be_stopped() == [run.dag_run_id]
    assert tasks.begin(run_id, dag_run_id=run.dag_run_id).status_code == 404
    tasks.answered(state=None, word="stop")
    assert tasks.to_be_stopped() == []


def test_a_run_that_was_cancelled_before_its_task_began_is_stopped_there(tasks: Tasks, alice: Person) -> None:
    run_id = tasks.start_run()
    with tasks.work():
        runs.request_cancel(alice.actor, run_id)
    with tasks.work():
        handover.end_flights_of_ended_runs()
    assert [flight.state for flight in tasks.flights()] == [FlightState.ENDED]
    assert tasks.begin(run_id).get_json()["code"] == "RUN_FINISHED"


def test_a_job_says_who_executes_it_and_local_workers_leave_airflows_runs_alone(tasks: Tasks) -> None:

    with tasks.work():
        for choice in ExecutorChoice:
            job = factories.make_job(executor=choice)
            runs.add_run(runs.new_run(job, trigger=runs.Trigger.MANUAL, asked_by="alice"))
    with tasks.work():
        leases = claims.claim_runs("w", limit=10, settings=tasks.settings)
    assert len(leases) == 1
    assert tasks.hand_over() == 2


# --- rockets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rocket(tasks: Tasks, bob: Person) -> dict[str, Any]:
    body = {"source": "Earth", "destination": "Mars", "estimated_time": 60}
    return dict(tasks.client.post("/api/v1/job", json=body, headers=bob.headers).get_json())


@pytest.fixture
def say(tasks: Tasks, rocket: dict[str, Any]) -> Callable[..., Any]:
    def tell(sequence: int, **facts: Any) -> Any:
        body = {"dag_run_id": rocket["airflow_dag_run_id"], "sequence": sequence, **facts}
        return tasks.client.patch(f"/api/v1/job/{rocket['id']}", json=body, headers=tasks.headers)

    return tell


def test_what_a_dag_says_late_or_twice_moves_a_rocket_neither_back_nor_twice(
    tasks: Tasks, rocket: dict[str, Any], say: Callable[..., Any], bob: Person
) -> None:
    assert say(1, status="running").get_json()["status"] == "running"
    assert say(21, state="Ready").get_json()["state"] == "Ready"
    assert say(100, state="InFlight", estimated_time=60).get_json()["state"] == "InFlight"
    for late in ((21, {"state": "Ready"}), (100, {"state": "InFlight"}), (1, {"status": "pending"})):
        answer = say(late[0], **late[1])
        assert (answer.status_code, answer.get_json()["state"]) == (200, "InFlight"), late
    assert say(200, state="Landed_On_Mars", status="succeeded").get_json()["state"] == "Landed_On_Mars"
    assert say(200, state="Landed_On_Mars").status_code == 200
    assert say(201, location="Phobos").get_json()["code"] == "STALE_FLIGHT"
    history = tasks.client.get(f"/api/v1/job/{rocket['id']}/history", headers=bob.headers).get_json()
    assert [entry["state"] for entry in history] == ["Preparing", "Ready", "InFlight", "Landed_On_Mars"]


def test_a_flight_whose_place_was_taken_moves_nothing(
    tasks: Tasks, rocket: dict[str, Any], say: Callable[..., Any], bob: Person
) -> None:
    say(1, status="running")
    triggered = tasks.client.post(f"/api/v1/job/{rocket['id']}/trigger", headers=bob.headers).get_json()
    assert triggered["dag_run_id"] != rocket["airflow_dag_run_id"]
    assert say(21, state="Ready").get_json()["code"] == "STALE_FLIGHT"
    assert [flight.state for flight in tasks.flights()] == [FlightState.ENDED, FlightState.WAITING]


def test_a_rocket_in_flight_on_airflow_is_not_launched_again_and_an_abort_ends_its_flight(
    tasks: Tasks, rocket: dict[str, Any], say: Callable[..., Any], bob: Person
) -> None:
    say(21, state="Ready")
    say(100, state="InFlight")
    assert tasks.client.post(f"/api/v1/job/{rocket['id']}/trigger", headers=bob.headers).status_code == 409
    path = f"/api/v1/job/{rocket['id']}"
    aborted = tasks.client.patch(path, json={"status": "cancelled"}, headers=bob.headers).get_json()
    assert (aborted["state"], aborted["status"]) == ("RUD", "cancelled")
    assert say(101, location="beyond").get_json()["code"] == "STALE_FLIGHT"
    [flight] = tasks.flights()
    assert (flight.state, flight.next_at is not None) == (FlightState.ENDED, True)


def test_a_deleted_rocket_has_its_flight_stopped_though_nothing_here_knows_it_any_more(
    tasks: Tasks, rocket: dict[str, Any], say: Callable[..., Any], bob: Person
) -> None:
    say(21, state="Ready")
    say(100, state="InFlight")
    assert tasks.client.delete(f"/api/v1/job/{rocket['id']}", headers=bob.headers).status_code == 204
    assert say(101, location="beyond").status_code == 404
    assert tasks.to_be_stopped() == [rocket["airflow_dag_run_id"]]
    tasks.answered(state=None, word="stop")
    assert tasks.to_be_stopped() == []


def test_a_dag_run_that_airflow_starts_after_its_rocket_was_deleted_is_stopped(
    tasks: Tasks, rocket: dict[str, Any], bob: Person
) -> None:
    with tasks.work():
        [start] = outbox.take_errands(tasks.settings, limit=10)
    tasks.client.delete(f"/api/v1/job/{rocket['id']}", headers=bob.headers)
    tasks.answered(state=None, word="stop")
    with tasks.work():
        outbox.write_results([Result(start)], tasks.settings)
    assert tasks.to_be_stopped() == [rocket["airflow_dag_run_id"]]


def test_of_a_rocket_whose_flight_is_over_nothing_stays(tasks: Tasks, say: Callable[..., Any], bob: Person) -> None:
    landed = say(21, state="Ready"), say(100, state="InFlight"), say(200, state="Landed_On_Mars")
    tasks.client.delete(f"/api/v1/job/{landed[-1].get_json()['id']}", headers=bob.headers)
    assert tasks.flights() == []


def test_what_was_cut_loose_and_stopped_is_forgotten_after_a_while(
    tasks: Tasks, rocket: dict[str, Any], bob: Person
) -> None:
    tasks.client.delete(f"/api/v1/job/{rocket['id']}", headers=bob.headers)
    tasks.answered(state=None, word="stop")
    with tasks.work() as session:
        session.execute(sa.update(AirflowFlight).values(updated_at=utcnow() - flights.KEEP_LOOSE))
    with tasks.work():
        jobs.delete_job(bob.actor, factories.make_job().id)
    assert tasks.flights() == []


def test_callers_that_number_nothing_patch_as_ever(tasks: Tasks, rocket: dict[str, Any]) -> None:
    path = f"/api/v1/job/{rocket['id']}"
    assert tasks.client.patch(path, json={"state": "Ready"}, headers=tasks.headers).status_code == 200
    half = tasks.client.patch(path, json={"state": "InFlight", "sequence": 3}, headers=tasks.headers)
    assert half.status_code == 422


# --- Airflow is away --------------------------------------------------------------------------------------------------


def test_while_airflow_is_away_everything_waits_with_the_reason_and_nothing_is_lost(
    tasks: Tasks, rocket: dict[str, Any]
) -> None:
    run_id = tasks.start_run()
    with tasks.app.app_context():
        dispatcher = Dispatcher(tasks.settings)
        for _ in range(3):
            dispatcher.step(map)
            db.session.remove()
        assert dispatcher.away_since is not None
    assert [flight.state for flight in tasks.flights()] == [FlightState.WAITING, FlightState.WAITING]
    reason = f"Not started. Airflow does not answer at {NOBODY_THERE}: Connection refused."
    with tasks.look() as session:
        run = session.scalars(sa.select(Run).where(Run.id == run_id)).one()
        assert (runs.why_it_waits(run) or "").startswith(reason)
        assert session.scalars(sa.select(Rocket)).all()
    entries = tasks.client.get(f"/api/v1/job/{rocket['id']}/history", headers=tasks.headers).get_json()
    assert [entry["message"].startswith(reason) for entry in entries] == [False, True], "told once, not at each try"
    found = tasks.client.get(f"/api/v1/job/{rocket['id']}", headers=tasks.headers).get_json()
    assert (found["state"], found["status"]) == ("Preparing", "pending")
