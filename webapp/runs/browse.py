"""Runs as the pages list them: newest first, with their job's name, a page at a time."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.db import db
from webapp.jobs.models import Job
from webapp.runs.models import Run, Trigger, is_reported
from webapp.runs.operations import runs_visible_to
from webapp.runs.states import RunState

PAGE = 50


@dataclass(frozen=True)
class RunFilter:
    """Which runs are wanted; None means all. `before` is the number of the last run on the page before."""

    state: RunState | None = None
    job_id: uuid.UUID | None = None
    trigger: Trigger | None = None
    before: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left out, so that a new run belongs on top of the list."""
        return self == RunFilter()


@dataclass(frozen=True)
class RunLine:
    """One line of a list of runs."""

    id: uuid.UUID
    number: int
    job_id: uuid.UUID
    job_name: str
    state: RunState
    doubt: str | None
    trigger: Trigger
    triggered_by_name: str
    scheduled_for: datetime | None
    attempt: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rows_read: int
    rows_written: int
    bytes_read: int
    fraction: float | None
    error_message: str | None
    lease_owner: str | None

    @property
    def rows(self) -> int | None:
        """How many rows it moved, None for a run that was flown elsewhere: nobody counted here."""
        return None if is_reported(self.lease_owner) else self.rows_written or self.rows_read

    @property
    def seconds(self) -> float | None:
        """How long the work took, None while it goes on."""
        return (self.finished_at - self.started_at).total_seconds() if self.started_at and self.finished_at else None


_COLUMNS = tuple(
    Job.name.label("job_name") if name == "job_name" else getattr(Run, name) for name in RunLine.__dataclass_fields__
)


def browse_runs(actor: Actor, wanted: RunFilter, *, limit: int = PAGE) -> list[RunLine]:
    """Up to `limit` runs that the actor may see, newest first."""
    query = _lines(runs_visible_to(actor))
    if wanted.state is not None:
        query = query.where(Run.state == wanted.state)
    if wanted.job_id is not None:
        query = query.where(Run.job_id == wanted.job_id)
    if wanted.trigger is not None:
        query = query.where(Run.trigger == wanted.trigger)
    if wanted.before is not None:
        query = query.where(Run.number < wanted.before)
    return [RunLine(**row._mapping) for row in db.session.execute(query.order_by(Run.number.desc()).limit(limit))]


def line_of(run_id: uuid.UUID) -> RunLine | None:
    """The line of one run, for those who were found to be allowed to see it; None when it has gone."""
    row = db.session.execute(_lines(sa.select(Run).where(Run.id == run_id))).one_or_none()
    return RunLine(**row._mapping) if row else None


def _lines(query: sa.Select[Run]) -> sa.Select[Any]:
    return query.join(Job, Job.id == Run.job_id).with_only_columns(*_COLUMNS)
