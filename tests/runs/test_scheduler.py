"""Schedules become runs: each instant once, whoever looks, and by the job's policies."""

import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests import factories
from tests.runs.together import in_threads
from webapp.dates import utcnow
from webapp.db import unit_of_work
from webapp.events import Event
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job, Missed, Overlap
from webapp.jobs.operations import JobDraft
from webapp.jobs.schedules import next_time, parse_schedule
from webapp.runs import scheduler
from webapp.runs.models import Run, Trigger
from webapp.runs.states import ACTIVE_STATES, RunState


@pytest.fixture
def plan(work):
    """A scheduled job; `due` is its next instant."""

    def make(schedule: str = "@hourly", *, due: datetime | None = None, **facts) -> uuid.UUID:
        with work():
            return factories.make_job(schedule=schedule, next_run_at=due or utcnow(), **facts).id

    return make


@pytest.fixture
def tick(work):
    """The scheduler takes its turn, as if it were `now`; returns when it wants the next one."""

    def take(now: datetime | None = None) -> datetime | None:
        with pytest.MonkeyPatch.context() as patch:
            if now is not None:
                patch.setattr(scheduler, "utcnow", lambda: now)
            with work():
                return scheduler.start_due_runs()

    return take


@pytest.fixture
def runs_of(look):
    """The job's runs, oldest first."""

    def find(job_id: uuid.UUID) -> list[Run]:
        with look() as session:
            found = session.scalars(sa.select(Run).where(Run.job_id == job_id).order_by(Run.number)).all()
            session.expunge_all()
            return list(found)

    return find


@pytest.fixture
def job_of(look):
    def find(job_id: uuid.UUID) -> Job:
        with look() as session:
            job = session.scalars(sa.select(Job).where(Job.id == job_id)).one()
            session.expunge_all()
            return job

    return find


def test_a_due_instant_becomes_one_run_that_names_it(plan, tick, runs_of, job_of):
    due = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    job_id = plan("@hourly", due=due)
    version = job_of(job_id).version

    following = tick(due + timedelta(seconds=1))

    [run] = runs_of(job_id)
    assert (run.trigger, run.scheduled_for, run.state) == (Trigger.SCHEDULER, due, RunState.QUEUED)
    assert following == job_of(job_id).next_run_at == due + timedelta(hours=1)
    assert job_of(job_id).version == version, "that it came round is no change of the definition"
    tick(due + timedelta(seconds=2))
    assert len(runs_of(job_id)) == 1


def test_what_is_not_due_or_is_switched_off_starts_nothing(plan, tick, runs_of):
    later = plan(due=utcnow() + timedelta(hours=1))
    off = plan(is_enabled=False)
    tick()
    assert [runs_of(job_id) for job_id in (later, off)] == [[], []]


def test_many_schedulers_at_once_start_each_instant_once(app, plan, runs_of):
    due = utcnow().replace(microsecond=0) - timedelta(seconds=30)
    ids = [plan("* * * * * *", due=due, missed=Missed.ALL) for _ in range(4)]
    start = threading.Barrier(4)

    def turn(_: int) -> None:
        start.wait()
        for _again in range(4):
            with app.app_context(), unit_of_work():
                scheduler.start_due_runs()

    in_threads(turn, range(4))
    for job_id in ids:
        instants = [run.scheduled_for for run in runs_of(job_id)]
        assert max(Counter(instants).values()) == 1
        assert instants == sorted(instants)
        assert instants[:30] == [due + timedelta(seconds=second) for second in range(30)], "an instant is missing"


@pytest.mark.parametrize(
    ("missed", "expected"),
    [(Missed.SKIP, []), (Missed.ONE, [14]), (Missed.ALL, [11, 12, 13, 14])],
)
def test_instants_that_were_missed_are_skipped_made_up_for_once_or_all(plan, tick, runs_of, job_of, missed, expected):
    due = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
    job_id = plan("@hourly", due=due, missed=missed)
    tick(datetime(2026, 5, 4, 14, 30, tzinfo=UTC))
    assert [run.scheduled_for.hour for run in runs_of(job_id)] == expected
    assert job_of(job_id).next_run_at == datetime(2026, 5, 4, 15, 0, tzinfo=UTC)


def test_an_instant_that_just_passed_was_not_missed(plan, tick, runs_of):
    due = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
    job_id = plan("@hourly", due=due, missed=Missed.SKIP)
    tick(due + timedelta(seconds=20))
    assert [run.scheduled_for for run in runs_of(job_id)] == [due]


def test_a_year_of_seconds_that_was_slept_through_is_caught_up_with_bounds_and_at_once(plan, tick, runs_of, job_of):
    now = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
    job_id = plan("* * * * * *", due=now - timedelta(days=365), missed=Missed.ALL)
    following = tick(now)
    found = runs_of(job_id)
    assert len(found) <= scheduler.MOST_CAUGHT_UP
    assert found[-1].scheduled_for == now
    assert following == now + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.QUEUE, [RunState.QUEUED, RunState.QUEUED]),
        (Overlap.SKIP, [RunState.QUEUED]),
        (Overlap.REPLACE, [RunState.CANCELLED, RunState.QUEUED]),
    ],
)
def test_what_happens_while_the_run_before_goes_on_is_the_choice_of_the_job(
    plan, tick, runs_of, look, overlap, expected
):
    due = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
    job_id = plan("@hourly", due=due, overlap=overlap)
    tick(due)
    tick(due + timedelta(hours=1))
    assert [run.state for run in runs_of(job_id)] == expected
    with look() as session:
        skipped = session.scalars(sa.select(Event).where(Event.kind == "run.skipped")).all()
        assert len(skipped) == (overlap is Overlap.SKIP)


def test_replacing_asks_the_run_under_way_to_stop(plan, tick, runs_of, work):
    due = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
    job_id = plan("@hourly", due=due, overlap=Overlap.REPLACE)
    tick(due)
    with work() as session:
        session.execute(sa.update(Run).values(state=RunState.RUNNING, lease_owner="w"))
    tick(due + timedelta(hours=1))
    old, new = runs_of(job_id)
    assert old.cancel_requested_at is not None and "schedule" in old.cancel_requested_by
    assert (old.state, new.state) == (RunState.RUNNING, RunState.QUEUED)


def test_overlap_counts_up_to_the_limit_of_the_job(plan, tick, runs_of):
    due = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
    job_id = plan("@hourly", due=due, overlap=Overlap.SKIP, concurrency_limit=2)
    for hour in range(4):
        tick(due + timedelta(hours=hour))
    assert len([run for run in runs_of(job_id) if run.state in ACTIVE_STATES]) == 2


def test_daylight_saving_neither_doubles_nor_drops_a_daily_run(plan, tick, runs_of):
    """In Berlin the clock jumps from 2 to 3 on 29 March 2026, and shows 2 to 3 twice on 25 October."""
    for first, days in ((datetime(2026, 3, 27, tzinfo=UTC), 4), (datetime(2026, 10, 23, tzinfo=UTC), 4)):
        schedule = parse_schedule("30 2 * * *", "Europe/Berlin")
        job_id = plan("30 2 * * *", timezone="Europe/Berlin", due=next_time(schedule, first))
        for hour in range(24 * days):
            tick(first + timedelta(hours=hour, minutes=59))
        days_run = [run.scheduled_for.date() for run in runs_of(job_id)]
        assert len(days_run) == days
        assert len(set(days_run)) == days


def test_changing_the_schedule_moves_the_next_run_and_switching_off_takes_it_away(work, people, job_of):
    with work():
        job_id = jobs.create_job(people.alice.actor, JobDraft(name="nightly", schedule="0 3 * * *")).id
    assert job_of(job_id).next_run_at.hour == 3
    with work():
        jobs.update_job(people.alice.actor, job_id, JobDraft(schedule="0 5 * * *"))
    assert job_of(job_id).next_run_at.hour == 5
    with work():
        jobs.set_enabled(people.alice.actor, job_id, enabled=False)
    assert job_of(job_id).next_run_at is None
    with work():
        jobs.update_job(people.alice.actor, job_id, JobDraft(schedule="0 6 * * *"))
    assert job_of(job_id).next_run_at is None
    with work():
        jobs.set_enabled(people.alice.actor, job_id, enabled=True)
    assert job_of(job_id).next_run_at.hour == 6
    assert job_of(job_id).next_run_at > utcnow()


def test_a_schedule_that_an_older_release_understood_stops_nobody_elses(plan, tick, runs_of, job_of):
    broken, good = plan("every blue moon"), plan()
    tick()
    assert runs_of(broken) == [] and job_of(broken).next_run_at is None
    assert len(runs_of(good)) == 1


def test_a_scheduler_that_finds_all_due_jobs_in_other_hands_does_not_spin(app, plan, settings, tick):
    if not settings.database_url:
        pytest.skip("PostgreSQL only: on SQLite there is one writer at a time")
    plan()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with app.app_context(), unit_of_work() as session:
            session.scalars(sa.select(Job).with_for_update()).all()
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    following = tick()
    release.set()
    holder.join()
    assert following > utcnow() - timedelta(seconds=1)


def test_a_worker_starts_a_schedule_on_the_second_and_two_workers_start_it_once(mission):
    mission.start_worker()
    mission.start_worker()
    with mission.work():
        job_id = jobs.create_job(mission.alice.actor, JobDraft(name="each second", schedule="* * * * * *", tasks=())).id
    seconds = 4

    def enough() -> list[Run]:
        with mission.look() as session:
            found = session.scalars(sa.select(Run).where(Run.job_id == job_id).order_by(Run.number)).all()
            session.expunge_all()
            return list(found) if len(found) >= seconds else []

    found = mission.wait_for(enough)
    instants = [run.scheduled_for for run in found]
    assert instants == [instants[0] + timedelta(seconds=second) for second in range(len(found))]
    late = [(run.created_at - run.scheduled_for).total_seconds() for run in found]
    assert sorted(late)[len(late) // 2] < 0.9, late


def test_a_worker_that_comes_back_after_a_long_stop_makes_up_for_one(mission):
    with mission.work() as session:
        job = jobs.create_job(mission.alice.actor, JobDraft(name="hourly", schedule="@hourly", tasks=()))
        session.flush()
        session.execute(sa.update(Job).values(next_run_at=utcnow() - timedelta(days=3)))
        job_id = job.id
    mission.start_worker()

    def ended() -> list[Run]:
        with mission.look() as session:
            found = session.scalars(sa.select(Run).where(Run.job_id == job_id)).all()
            return list(found) if found and all(run.is_finished for run in found) else []

    assert len(mission.wait_for(ended)) == 1
    with mission.look() as session:
        assert session.scalars(sa.select(Job.next_run_at).where(Job.id == job_id)).one() > utcnow()
