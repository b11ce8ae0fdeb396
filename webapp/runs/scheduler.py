"""The scheduler: turns due instants of schedules into runs. Any number of workers may take turns.

The row of the job is locked while its instants are handled, and (job, instant) is unique in the run table, so that an
instant makes exactly one run.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from webapp import events
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job, Missed, Overlap
from webapp.jobs.schedules import ScheduleError, missed_times, next_time, parse_schedule
from webapp.runs.models import Run, Trigger
from webapp.runs.operations import add_run, new_run
from webapp.runs.recovery import replace_runs_of
from webapp.runs.states import ACTIVE_STATES

ON_TIME = timedelta(seconds=60)  # an instant that passed less than this ago was not missed
MOST_CAUGHT_UP = 100
JOBS_A_STEP = 50
LOOK_AGAIN = timedelta(milliseconds=50)


def start_due_runs() -> datetime | None:
    """Queue a run for each schedule that is due; returns when the next one will be."""
    now = utcnow()
    query = (
        sa.select(Job)
        .where(Job.is_enabled, Job.next_run_at <= now)
        .order_by(Job.next_run_at)
        .limit(JOBS_A_STEP)
        .with_for_update(of=Job, skip_locked=True, key_share=True)  # a run that is queued by hand locks nobody out
    )
    due = list(db.session.scalars(query))
    for job in due:
        _start_due(job, now)
    db.session.flush()
    following = db.session.scalar(sa.select(sa.func.min(Job.next_run_at)).where(Job.is_enabled))
    if following is not None and not due:
        return max(following, now + LOOK_AGAIN)  # what is due is in the hands of another scheduler
    return following


def _start_due(job: Job, now: datetime) -> None:
    try:
        schedule = parse_schedule(job.schedule, job.timezone)
    except ScheduleError:
        _set_next(job, None)  # written by an older release that understood it
        return
    first = job.next_run_at or now
    instants = [first, *missed_times(schedule, first, now, MOST_CAUGHT_UP - 1)]
    for instant in _chosen(job, instants, now):
        _start_one(job, instant)
    _set_next(job, next_time(schedule, now))


def _set_next(job: Job, instant: datetime | None) -> None:
    """Not through the object: that a schedule has come round is no change of the job's definition or its version."""
    values = {"next_run_at": instant, "updated_at": Job.updated_at}
    update = sa.update(Job).where(Job.id == job.id).values(values)
    db.session.execute(update.execution_options(synchronize_session=False))
    db.session.expire(job, ["next_run_at"])


def _chosen(job: Job, instants: list[datetime], now: datetime) -> list[datetime]:
    """Which of the instants that have passed become runs, by the job's policy for missed ones."""
    if job.missed is Missed.ALL:
        return instants
    latest = instants[-1]
    if job.missed is Missed.SKIP and now - latest > ON_TIME:
        return []
    return [latest]


def _start_one(job: Job, instant: datetime) -> None:
    exists = db.session.scalar(sa.select(Run.number).where(Run.job_id == job.id, Run.scheduled_for == instant))
    if exists:
        return
    active = db.session.scalar(
        sa.select(sa.func.count()).select_from(Run).where(Run.job_id == job.id, Run.state.in_(ACTIVE_STATES))
    )
    if (active or 0) >= job.concurrency_limit:
        if job.overlap is Overlap.SKIP:
            payload = {"name": job.name, "scheduled_for": instant.isoformat(), "reason": "the run before had not ended"}
            events.record("run.skipped", project_id=job.project_id, subject_id=job.id, payload=payload)
            return
        if job.overlap is Overlap.REPLACE:
            replace_runs_of(job.id, by="the schedule: the next run replaces it")
    add_run(new_run(job, trigger=Trigger.SCHEDULER, asked_by="schedule", scheduled_for=instant))
