"""What people ask of runs: cancel, retry, delete; and what the event log says of it."""

import threading
from contextlib import suppress

import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from tests.runs.together import in_threads
from webapp.dates import utcnow
from webapp.db import unit_of_work
from webapp.errors import Conflict, NotAllowed, NotFound
from webapp.events import Event
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job
from webapp.runs import claims, queue
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.queue import Outcome, Report
from webapp.runs.states import RunState

# --- asking -----------------------------------------------------------------------------------------------------------


def test_cancelling_twice_is_once_and_cancelling_what_has_ended_is_a_conflict(enqueue, work, people):
    [run_id] = enqueue(1)
    with work():
        runs.request_cancel(people.alice.actor, run_id)
    with pytest.raises(Conflict) as refusal, work():
        runs.request_cancel(people.alice.actor, run_id)
    assert refusal.value.details["state"] == "cancelled"


def test_a_cancel_decides_by_what_the_run_is_now_and_not_by_what_was_read_before(app, enqueue, claim, people, find):
    """A page that looked at the queued run, and then cancels it, may find it claimed in between."""
    [run_id] = enqueue(1)
    with app.app_context(), unit_of_work() as session:
        stale = runs.get_run(people.alice.actor, run_id)
        assert stale.state is RunState.QUEUED
        if session.get_bind().dialect.name == "sqlite":
            return  # whoever means to write holds the lock from its first look on: nothing comes in between
        in_threads(lambda _: claim("w1"), [0])
        runs.request_cancel(people.alice.actor, run_id)
    run = find(run_id)
    assert (run.state, run.cancel_requested_by) == (RunState.RUNNING, "alice")


def test_a_job_with_a_run_under_way_is_not_deleted_and_waiting_runs_go_with_it(enqueue, claim, report, work, people):
    enqueue(2, concurrency_limit=1)
    [lease] = claim()
    with pytest.raises(Conflict) as refusal, work():
        jobs.delete_job(people.alice.actor, lease.job_id)
    assert refusal.value.code == "JOB_RUNNING"
    report(lease, Outcome("succeeded"))
    with work():
        jobs.delete_job(people.alice.actor, lease.job_id)
    with work() as session:
        assert session.scalars(sa.select(Run)).all() == []


def test_deleting_jobs_while_workers_claim_ends_in_good_order(app, enqueue, settings, people, look):
    """Whoever comes first wins; nobody waits for the other in a ring, and nothing is left of what was deleted."""
    ids = [enqueue(3, concurrency_limit=1)[0] for _ in range(6)]
    with look() as session:
        job_ids = list(session.scalars(sa.select(Run.job_id).where(Run.id.in_(ids))))

    def delete(_: object) -> None:
        for job_id in job_ids:
            with suppress(Conflict, NotFound), app.app_context(), unit_of_work():
                jobs.delete_job(people.alice.actor, job_id)

    def work_through(_: object) -> None:
        for _turn in range(30):
            with app.app_context():
                with unit_of_work():
                    leases = claims.claim_runs("w", limit=2, settings=settings)
                with unit_of_work():
                    claims.announce_claims(leases)
                    queue.apply_reports([Report(lease, outcome=Outcome("succeeded")) for lease in leases])

    def start(_: object) -> None:
        for job_id in job_ids:
            with suppress(NotFound), app.app_context(), unit_of_work():
                runs.start_run(people.alice.actor, job_id)

    in_threads(lambda call: call(None), [delete, work_through, start, delete])
    with look() as session:
        left = set(session.scalars(sa.select(Job.id)))
        assert set(session.scalars(sa.select(Run.job_id))) <= left
        assert not session.scalars(sa.select(Run).where(Run.state == RunState.RUNNING)).all()


def test_a_stranger_finds_no_run_and_a_viewer_may_not_touch_one(enqueue, work, people):
    [run_id] = enqueue(1)
    with work():
        job_id = runs.get_run(people.rita.actor, run_id).job_id
        for ask in (runs.get_run, runs.request_cancel, runs.retry_run):
            with pytest.raises(NotFound):
                ask(people.charlie.actor, run_id)
        with pytest.raises(NotFound):
            runs.start_run(people.charlie.actor, job_id)
        with pytest.raises(NotAllowed):
            runs.start_run(people.rita.actor, job_id)
        with pytest.raises(NotAllowed):
            runs.request_cancel(people.rita.actor, run_id)


def test_a_retry_from_the_failed_step_begins_with_its_task(enqueue, claim, work, people, find):
    [run_id] = enqueue(1)
    [lease] = claim()
    now = utcnow()
    steps = {
        1: queue.Step(1, 1, "load", now, now, "succeeded"),
        2: queue.Step(2, 2, "load", now, now, "failed"),
    }
    with work():
        queue.apply_reports([Report(lease, steps=steps, outcome=Outcome("failed", permanent=True))])
    with work():
        again = runs.retry_run(people.alice.actor, run_id, from_failed_step=True).id
        whole = runs.retry_run(people.alice.actor, run_id).id
    assert (find(again).first_task, find(again).retry_of) == (2, run_id)
    assert find(whole).first_task == 1


def test_a_run_keeps_the_definition_it_was_queued_with(enqueue, work, claim, people):
    [run_id] = enqueue(1)
    with work() as session:
        job_id = session.scalars(sa.select(Run.job_id).where(Run.id == run_id)).one()
        jobs.update_job(people.alice.actor, job_id, jobs.JobDraft(name="renamed", timeout_seconds=5))
    [lease] = claim()
    assert lease.spec["job_name"] != "renamed"
    assert lease.spec["timeout_seconds"] != 5


# --- events -----------------------------------------------------------------------------------------------------------


def test_each_move_is_one_event_with_its_states(enqueue, claim, report, look):
    [run_id] = enqueue(1, max_attempts=2, retry_delay_seconds=0)
    for outcome in (Outcome("failed", message="no"), Outcome("succeeded")):
        report(claim()[0], outcome)
    with look() as session:
        told = session.scalars(sa.select(Event).where(Event.kind == "run.moved").order_by(Event.id)).all()
        assert {event.subject_id for event in told} == {run_id}
        assert [(event.payload["was"], event.payload["state"]) for event in told] == [
            (None, "queued"), ("queued", "running"), ("running", "queued"),
            ("queued", "running"), ("running", "succeeded"),
        ]  # fmt: skip


def test_what_is_rolled_back_is_not_announced(enqueue, work, look, people):
    [run_id] = enqueue(1)
    with look() as session:
        before = session.scalar(sa.select(sa.func.count()).select_from(Event))
    with suppress(ZeroDivisionError), work():
        runs.request_cancel(people.alice.actor, run_id)
        raise ZeroDivisionError
    with look() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Event)) == before


def test_a_reader_who_follows_the_log_by_id_misses_nothing_while_many_write(app, enqueue, people, look):
    """The order of ids is the order of commits: no smaller id appears behind the reader's back."""
    with look() as session:
        seen = session.scalar(sa.select(sa.func.coalesce(sa.func.max(Event.id), 0)))
    done = threading.Event()
    followed: list[int] = []

    def write(_: object) -> None:
        for _turn in range(15):
            for attempt in range(5):
                try:
                    enqueue(1)
                    break
                except sqlalchemy.exc.OperationalError:
                    assert attempt < 4

    def follow() -> None:
        last = seen
        while True:
            finished = done.is_set()
            with look() as session:
                fresh = list(session.scalars(sa.select(Event.id).where(Event.id > last).order_by(Event.id)))
            followed.extend(fresh)
            last = fresh[-1] if fresh else last
            if finished:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    in_threads(write, range(4))
    done.set()
    reader.join(30)
    with look() as session:
        assert followed == list(session.scalars(sa.select(Event.id).where(Event.id > seen).order_by(Event.id)))
    assert len(followed) >= 60
