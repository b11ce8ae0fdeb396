"""An external job is flown by whoever reports it: its log, its runs, its rocket and their histories agree."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests import factories
from tests.api.lister.client import JOBS, STATUSES, Caller, told
from tests.support.people import Person
from webapp.jobs.models import Job, JobKind
from webapp.rockets.models import Rocket, RocketHistory
from webapp.rockets.states import RocketState
from webapp.runs import claims, queue, recovery
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.states import RunState
from webapp.runs.statuses.models import StatusEntry

WORDS = ("PENDING", "RUNNING", "COMPLETED", "FAILED")
STATES = {
    "PENDING": RocketState.READY,
    "RUNNING": RocketState.IN_FLIGHT,
    "COMPLETED": RocketState.LANDED_ON_MARS,
    "FAILED": RocketState.RUD,
}


@pytest.fixture
def fleet(look: Callable[[], Any]) -> Callable[[dict[str, Any]], "Fleet"]:
    """What there is of a job besides its log."""

    def find(job: dict[str, Any]) -> Fleet:
        with look() as session:
            row = session.query(Job).filter_by(number=job["id"]).one()
            rocket = session.query(Rocket).filter_by(job_id=row.id).one()
            flights = session.query(Run).filter_by(job_id=row.id).order_by(Run.number).all()
            history = session.query(RocketHistory).filter_by(rocket_id=rocket.id).order_by(RocketHistory.number).all()
            session.expunge_all()  # they are looked at after the transaction
            return Fleet(row, rocket, flights, [entry.message for entry in history])

    return find


class Fleet:
    def __init__(self, job: Job, rocket: Rocket, flights: list[Run], history: list[str]) -> None:
        self.job, self.rocket, self.flights, self.history = job, rocket, flights, history

    @property
    def states(self) -> list[RunState]:
        return [run.state for run in self.flights]


Find = Callable[[dict[str, Any]], Fleet]


def test_a_new_job_is_external_and_pending_and_its_rocket_is_ready(operator: Caller, fleet: Find) -> None:
    job = operator.make_job("Data Processing Job")
    assert job["current_status"]["status_type"] == "PENDING"
    found = fleet(job)
    assert found.job.kind is JobKind.EXTERNAL
    assert (found.rocket.state, found.flights) == (RocketState.READY, [])


def test_the_rocket_flies_as_it_is_reported(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    operator.report(job, "RUNNING")
    flying = fleet(job)
    assert (flying.rocket.state, flying.states) == (RocketState.IN_FLIGHT, [RunState.RUNNING])
    operator.report(job, "COMPLETED")
    landed = fleet(job)
    assert (landed.rocket.state, landed.states) == (RocketState.LANDED_ON_MARS, [RunState.SUCCEEDED])
    assert landed.flights[0].seconds is not None
    assert landed.flights[0].triggered_by_name == "bob"
    assert landed.history[-1] == "landed: reported by bob"
    assert operator.words_of(job) == ["PENDING", "RUNNING", "COMPLETED"]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(WORDS, WORDS)))
def test_from_each_status_the_rocket_gets_to_each_other(operator: Caller, fleet: Find, before: str, after: str) -> None:
    job = operator.make_job()
    operator.report(job, before, after)
    found = fleet(job)
    assert found.rocket.state is STATES[after]
    open_runs = [state for state in found.states if not state.is_final]
    assert open_runs == ([RunState.RUNNING] if after == "RUNNING" else [])
    assert "bob" in found.history[-1]
    assert operator.words_of(job) == ["PENDING", before, after]


def test_what_is_told_twice_is_logged_twice_and_flown_once(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    operator.report(job, "RUNNING", "RUNNING", "COMPLETED", "COMPLETED")
    assert fleet(job).states == [RunState.SUCCEEDED]
    assert operator.words_of(job) == ["PENDING", "RUNNING", "RUNNING", "COMPLETED", "COMPLETED"]


def test_an_end_without_a_start_is_a_run_whose_length_nobody_knows(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    operator.report(job, "FAILED")
    (run,) = fleet(job).flights
    assert (run.state, run.started_at, run.seconds) == (RunState.FAILED, None, None)
    assert run.error_message == "reported as failed by bob"


def test_back_to_pending_ends_the_run_and_the_rocket_stands_ready(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    operator.report(job, "RUNNING", "PENDING")
    found = fleet(job)
    assert (found.rocket.state, found.rocket.status) == (RocketState.READY, RunState.QUEUED)
    assert (found.states, found.flights[0].error_message) == ([RunState.CANCELLED], "set back to pending by bob")


def test_a_patch_of_the_job_reports_it_too(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    changed = operator.patch(f"{JOBS}{job['id']}/", {"status_type": "RUNNING"})
    assert changed["current_status"]["status_type"] == "RUNNING"
    assert [one["status_type"] for one in changed["statuses"]] == ["PENDING", "RUNNING"]
    assert changed["updated_at"] > job["updated_at"]
    assert (changed["name"], fleet(job).rocket.state) == (job["name"], RocketState.IN_FLIGHT)
    both = operator.patch(f"{JOBS}{job['id']}/", {"name": "renamed", "status_type": "FAILED"})
    assert (both["name"], both["current_status"]["status_type"]) == ("renamed", "FAILED")


@pytest.mark.parametrize("word", ["running", "NOPE", None, 5, ["RUNNING"], ""])
def test_a_patch_with_a_word_that_is_none_is_refused_in_the_front_ends_words(operator: Caller, word: Any) -> None:
    job = operator.make_job()
    said = "Invalid status_type. Must be one of: ['PENDING', 'RUNNING', 'COMPLETED', 'FAILED']"
    assert operator.patch(f"{JOBS}{job['id']}/", {"status_type": word}, 400) == {"error": said}
    assert operator.words_of(job) == ["PENDING"]


def test_put_and_patch_rename_a_job_and_always_move_its_time(operator: Caller) -> None:
    job = operator.make_job()
    path = f"{JOBS}{job['id']}/"
    renamed = told(operator.ask("PUT", path, {"name": "new"}), 200)
    assert (renamed["name"], renamed["created_at"]) == ("new", job["created_at"])
    untouched = operator.patch(path, {})
    assert untouched["name"] == "new"
    assert untouched["updated_at"] > renamed["updated_at"] > job["updated_at"]
    assert told(operator.ask("PUT", path, {}), 400) == {"name": ["This field is required."]}


def test_a_job_that_is_deleted_takes_its_statuses_along(operator: Caller, fleet: Find) -> None:
    job, other = operator.make_job(), operator.make_job("other")
    operator.report(job, "RUNNING")
    gone = operator.ask("DELETE", f"{JOBS}{job['id']}/")
    assert (gone.status_code, gone.data) == (204, b"")
    assert operator.get(f"{JOBS}{job['id']}/", 404) == {"detail": "No Job matches the given query."}
    assert operator.get(STATUSES)["count"] == 1
    assert operator.get(f"{STATUSES}?job={job['id']}")["count"] == 0
    assert operator.words_of(other) == ["PENDING"]


def test_no_worker_ever_has_to_do_with_it(
    operator: Caller, fleet: Find, work: Callable[[], Any], settings: Any
) -> None:
    job = operator.make_job()
    operator.report(job, "RUNNING")
    with work():
        assert claims.claim_runs("somebody", limit=10, settings=settings) == []
        recovery.recover_lost_runs()
    assert fleet(job).states == [RunState.RUNNING]
    (run,) = fleet(job).flights
    answer = operator.ask("POST", f"/api/v1/jobs/{fleet(job).job.id}/run")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "EXTERNAL_JOB")
    assert operator.ask("POST", f"/api/v1/runs/{run.id}/cancel").status_code == 200
    found = fleet(job)
    assert (found.states, found.rocket.state) == ([RunState.CANCELLED], RocketState.RUD)
    assert operator.words_of(job) == ["PENDING", "RUNNING", "FAILED"]
    assert operator.ask("POST", f"/api/v1/runs/{run.id}/retry").status_code == 409


def test_it_has_no_schedule(operator: Caller, fleet: Find) -> None:
    found = fleet(operator.make_job())
    answer = operator.ask("PATCH", f"/api/v1/jobs/{found.job.id}", {"schedule": "@hourly"})
    assert answer.status_code == 422
    assert "no schedule here" in answer.get_json()["error"]


@pytest.mark.parametrize("name", ["name", "job_name"])
def test_it_is_made_through_our_own_api_too(operator: Caller, name: str) -> None:
    rest = {"schedule": "@manual", "is_active": True, "tasks": []} if name == "job_name" else {}
    made = operator.ask("POST", "/api/v1/jobs", {name: "nightly", "job_type": "external", **rest}).get_json()
    assert made["job_type"] == "external"
    (listed,) = operator.get(JOBS)["results"]
    assert (listed["name"], listed["current_status"]["status_type"]) == ("nightly", "PENDING")


# --- jobs that are run here -------------------------------------------------------------------------------------------


@pytest.fixture
def etl_job(operator: Caller, work: Callable[[], Any]) -> dict[str, Any]:
    """A job of another kind, as this contract shows it."""
    task = {key + "_config": value for key, value in factories.make_task_facts().items()}
    body = {"name": "load", "tasks": [task], "max_attempts": 1}
    assert operator.ask("POST", "/api/v1/jobs", body).status_code == 201
    job: dict[str, Any] = operator.get(JOBS)["results"][0]
    return job


def test_runs_write_the_statuses_of_other_jobs(
    operator: Caller, bob: Person, work: Callable[[], Any], fleet: Find, etl_job: dict[str, Any], settings: Any
) -> None:
    job_id = fleet(etl_job).job.id
    for outcome, word in (("succeeded", "COMPLETED"), ("failed", "FAILED"), ("cancelled", "FAILED")):
        with work():
            runs.start_run(bob.actor, job_id)
        with work():
            (lease,) = claims.claim_runs("worker", limit=1, settings=settings)
        with work():
            claims.announce_claims([lease])
        with work():
            queue.apply_reports([queue.Report(lease, outcome=queue.Outcome(outcome, permanent=True))])
        assert operator.words_of(etl_job)[-3:] == ["PENDING", "RUNNING", word]
    assert len(operator.words_of(etl_job)) == 10


def test_other_jobs_are_not_reported_but_renamed_and_deleted(operator: Caller, etl_job: dict[str, Any]) -> None:
    refused = operator.post(STATUSES, {"job": etl_job["id"], "status_type": "RUNNING"}, 400)
    assert "run here" in refused["job"][0]
    path = f"{JOBS}{etl_job['id']}/"
    assert "run here" in operator.patch(path, {"status_type": "RUNNING"}, 400)["error"]
    assert operator.patch(path, {"name": "renamed"})["name"] == "renamed"
    assert operator.ask("DELETE", path).status_code == 204


def test_a_job_whose_run_is_under_way_here_is_not_deleted(
    operator: Caller, bob: Person, work: Callable[[], Any], fleet: Find, etl_job: dict[str, Any], settings: Any
) -> None:
    job_id = fleet(etl_job).job.id
    with work():
        runs.start_run(bob.actor, job_id)
    with work():
        claims.claim_runs("worker", limit=1, settings=settings)
    refused = operator.ask("DELETE", f"{JOBS}{etl_job['id']}/")
    assert (refused.status_code, refused.get_json()) == (
        409,
        {"detail": "A run of this job is under way. Cancel it first."},
    )


# --- editing the past -------------------------------------------------------------------------------------------------


def test_a_status_is_edited_and_the_trace_stays(operator: Caller, fleet: Find, look: Callable[[], Any]) -> None:
    job = operator.make_job()
    running, *_ = operator.report(job, "RUNNING", "COMPLETED")
    path = f"{STATUSES}{running['id']}/"
    edited = operator.patch(path, {"status_type": "FAILED"})
    assert edited == {**running, "status_type": "FAILED"}
    assert operator.words_of(job) == ["PENDING", "FAILED", "COMPLETED"]
    found = fleet(job)
    assert (found.rocket.state, found.states) == (RocketState.LANDED_ON_MARS, [RunState.SUCCEEDED]), "the past alone"
    assert found.history[-1] == f"status {running['id']} changed from running to failed by bob"
    with look() as session:
        entry = session.get(StatusEntry, running["id"])
        assert (entry.by, entry.edited_by, entry.edited_at is not None) == ("bob", "bob", True)


def test_put_without_a_status_keeps_it(operator: Caller) -> None:
    job = operator.make_job()
    (running,) = operator.report(job, "RUNNING")
    path = f"{STATUSES}{running['id']}/"
    assert told(operator.ask("PUT", path, {"job": job["id"]}), 200) == running
    assert told(operator.ask("PUT", path, {"status_type": "FAILED"}), 400) == {"job": ["This field is required."]}
    assert operator.patch(path, {}) == running


def test_the_job_follows_when_its_newest_status_is_edited(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    (running,) = operator.report(job, "RUNNING")
    operator.patch(f"{STATUSES}{running['id']}/", {"status_type": "COMPLETED"})
    found = fleet(job)
    assert (found.rocket.state, found.states) == (RocketState.LANDED_ON_MARS, [RunState.SUCCEEDED])
    assert operator.words_of(job) == ["PENDING", "COMPLETED"]


def test_a_status_is_deleted_and_the_trace_stays(operator: Caller, fleet: Find) -> None:
    job = operator.make_job()
    _, failed = operator.report(job, "RUNNING", "FAILED")
    gone = operator.ask("DELETE", f"{STATUSES}{failed['id']}/")
    assert (gone.status_code, gone.data) == (204, b"")
    assert operator.get(f"{STATUSES}{failed['id']}/", 404) == {"detail": "No JobStatus matches the given query."}
    found = fleet(job)
    assert f"status {failed['id']} (failed) deleted by bob" in found.history
    assert found.rocket.state is RocketState.IN_FLIGHT, "it is what its newest status says"
    for one in operator.get(f"{STATUSES}?job={job['id']}")["results"]:
        assert operator.ask("DELETE", f"{STATUSES}{one['id']}/").status_code == 204
    emptied = operator.get(f"{JOBS}{job['id']}/")
    assert (emptied["current_status"], emptied["statuses"]) == (None, [])
    (new,) = operator.report(job, "RUNNING")
    assert new["id"] > failed["id"], "the id of a status that was deleted is never used again"


def test_a_status_moves_to_another_external_job(operator: Caller, fleet: Find, etl_job: dict[str, Any]) -> None:
    one, other = operator.make_job("one"), operator.make_job("other")
    (running,) = operator.report(one, "RUNNING")
    path = f"{STATUSES}{running['id']}/"
    assert operator.patch(path, {"job": other["id"]})["job"] == other["id"]
    assert (operator.words_of(one), operator.words_of(other)) == (["PENDING"], ["PENDING", "RUNNING"])
    assert (fleet(one).rocket.state, fleet(other).rocket.state) == (RocketState.READY, RocketState.IN_FLIGHT)
    assert "run here" in operator.patch(path, {"job": etl_job["id"]}, 400)["job"][0]


def test_the_log_of_a_job_that_is_run_here_is_edited_and_its_runs_are_not(
    operator: Caller, fleet: Find, etl_job: dict[str, Any]
) -> None:
    status = etl_job["statuses"][0]["id"]
    assert operator.patch(f"{STATUSES}{status}/", {"status_type": "FAILED"})["status_type"] == "FAILED"
    found = fleet(etl_job)
    assert (found.rocket.state, found.states) == (RocketState.READY, [])
    assert "changed from queued to failed by bob" in found.history[-1]


def test_those_who_report_at_once_open_one_run(operator: Caller, fleet: Find, client: FlaskClient) -> None:
    job = operator.make_job()
    callers = [Caller(client.application.test_client(), operator.person) for _ in range(4)]
    with ThreadPoolExecutor(len(callers)) as pool:
        made = list(pool.map(lambda caller: caller.report(job, "RUNNING"), callers))
    assert len({entry["id"] for (entry,) in made}) == 4
    assert fleet(job).states == [RunState.RUNNING]
