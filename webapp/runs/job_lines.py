"""Jobs as the pages list them: with the marks of their last runs, since when they fail, and when they start next."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job, JobKind
from webapp.jobs.operations import jobs_visible_to
from webapp.jobs.routes import ELSEWHERE, route_of
from webapp.jobs.schedules import Schedule, describe, next_times, parse_schedule
from webapp.jobs.sync import operations as sync
from webapp.runs.marks import Mark, failing_since, last_marks
from webapp.runs.models import Run
from webapp.runs.states import ACTIVE_STATES, RunState

PAGE = 50


class JobState(StrEnum):
    """What a list of jobs can be narrowed to."""

    ON = "on"
    OFF = "off"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    FAILING = "failing"


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are wanted. `before` is the number of the last job on the page before."""

    q: str = ""
    state: JobState | None = None
    before: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left out, so that a new job belongs on top of the list."""
        return self == JobFilter()


@dataclass(frozen=True)
class JobLine:
    """One line of a list of jobs."""

    id: uuid.UUID
    number: int
    name: str
    source: str
    destination: str
    schedule: Schedule
    next_run_at: datetime | None
    is_enabled: bool
    is_sample: bool
    is_external: bool
    marks: Sequence[Mark]
    failing_since: datetime | None

    @property
    def when(self) -> str:
        """The schedule in words."""
        if self.is_external:
            return "when it is reported"
        return describe(self.schedule)

    @property
    def departures(self) -> list[datetime]:
        """The next five starts."""
        return next_times(self.schedule, utcnow(), 5) if self.is_enabled else []

    @property
    def last(self) -> Mark | None:
        """The newest run."""
        return self.marks[-1] if self.marks else None


def browse_jobs(actor: Actor, wanted: JobFilter, *, limit: int = PAGE) -> list[JobLine]:
    """Up to `limit` jobs that the actor may see, newest first."""
    query = jobs_visible_to(actor)
    if wanted.q:
        query = query.where(sa.or_(*(c.icontains(wanted.q, autoescape=True) for c in (Job.name, Job.description))))
    if wanted.state is not None:
        query = query.where(_fits(wanted.state))
    if wanted.before is not None:
        query = query.where(Job.number < wanted.before)
    return lines_of(list(db.session.scalars(query.order_by(Job.number.desc()).limit(limit))))


def _fits(state: JobState) -> sa.ColumnElement[bool]:
    last = sa.select(Run.state).where(Run.job_id == Job.id, Run.state.not_in(ACTIVE_STATES)).order_by(Run.number.desc())
    conditions: dict[JobState, sa.ColumnElement[bool]] = {
        JobState.ON: Job.is_enabled.is_(True),
        JobState.OFF: Job.is_enabled.is_(False),
        JobState.SCHEDULED: Job.next_run_at.is_not(None),
        JobState.RUNNING: sa.exists().where(Run.job_id == Job.id, Run.state == RunState.RUNNING),
        JobState.FAILING: last.limit(1).scalar_subquery() == RunState.FAILED,
    }
    return conditions[state]


def lines_of(jobs: Sequence[Job]) -> list[JobLine]:
    """These jobs as lines, in their order."""
    ids = [job.id for job in jobs]
    marks, failing = last_marks(ids), failing_since(ids)
    return [_line(job, marks.get(job.id, []), failing.get(job.id)) for job in jobs]


def line_of_job(job_id: uuid.UUID) -> JobLine | None:
    """The line of one job, for those who were found to be allowed to see it; None when it has gone."""
    job = db.session.scalar(sa.select(Job).where(Job.id == job_id))
    return lines_of([job])[0] if job else None


def _line(job: Job, marks: Sequence[Mark], failing: datetime | None) -> JobLine:
    source, destination = _route_of(job)
    return JobLine(
        id=job.id,
        number=job.number,
        name=job.name,
        source=source,
        destination=destination,
        schedule=parse_schedule(job.schedule, job.timezone),
        next_run_at=job.next_run_at if job.is_enabled else None,
        is_enabled=job.is_enabled,
        is_sample=job.is_sample,
        is_external=job.kind is JobKind.EXTERNAL,
        marks=marks,
        failing_since=failing,
    )


def _route_of(job: Job) -> tuple[str, str]:
    if job.kind is JobKind.EXTERNAL:
        return ELSEWHERE
    if job.kind is JobKind.SYNC:
        return sync.route_of(job)
    return route_of([(task.extractor, task.loader) for task in job.tasks])
