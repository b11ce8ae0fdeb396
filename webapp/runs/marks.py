"""The last runs of many jobs as small marks, and since when a job fails: a few queries for a whole page of jobs."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webapp.db import db
from webapp.jobs.models import Job
from webapp.runs.models import Run, is_reported
from webapp.runs.states import RunState

STRIP_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """One run as a strip or a trend shows it."""

    id: uuid.UUID
    number: int
    status: str
    doubt: bool
    seconds: float | None
    rows: int | None  # None: it was flown elsewhere, and nobody counted here
    at: datetime
    error: str | None
    available_at: datetime
    finished_at: datetime | None
    fraction: float | None

    @property
    def url(self) -> str:
        """The run's page."""
        return f"/runs/{self.id}"

    @property
    def title(self) -> str:
        """The run in one line, for a tooltip."""
        word = "landed with doubt" if self.doubt else self.status
        took = f", {self.seconds:.1f} s" if self.seconds is not None else ""
        why = f": {self.error[:120]}" if self.error else ""
        rows = f", {self.rows:,} rows" if self.rows is not None else ""
        return f"Run {self.number}, {self.at:%Y-%m-%d %H:%M} UTC, {word}{took}{rows}{why}"


_COLUMNS = (
    Run.id,
    Run.number,
    Run.job_id,
    Run.state,
    Run.doubt,
    Run.created_at,
    Run.started_at,
    Run.finished_at,
    Run.rows_written,
    Run.lease_owner,
    Run.error_message,
    Run.available_at,
    Run.fraction,
)


#: Strips in which nothing can change any more, by job and length, with the number of the run that ends them: to read
#: the number of each job's last run costs a tenth of reading its last twenty.
_kept: dict[tuple[uuid.UUID, int], tuple[int, list[Mark]]] = {}
KEPT_STRIPS = 600


def last_marks(job_ids: Collection[uuid.UUID], *, count: int = STRIP_LENGTH) -> Mapping[uuid.UUID, list[Mark]]:
    """The last runs of each of these jobs, oldest first, as many as `count` each; jobs without runs have none."""
    found: dict[uuid.UUID, list[Mark]] = {}
    unknown = []
    for job_id, number in _last_numbers(job_ids).items():
        kept = _kept.get((job_id, count))
        if kept and kept[0] == number:
            found[job_id] = kept[1]
        else:
            unknown.append(job_id)
    for job_id, marks in _read_marks(unknown, count).items():
        found[job_id] = marks
        if all(RunState(mark.status).is_final for mark in marks):
            if len(_kept) >= KEPT_STRIPS:
                _kept.clear()
            _kept[job_id, count] = (marks[-1].number, marks)
    return found


def _last_numbers(job_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The number of the last run of each of these jobs that has one."""
    if not job_ids:
        return {}
    last = sa.select(sa.func.max(Run.number)).where(Run.job_id == Job.id).scalar_subquery()
    rows = db.session.execute(sa.select(Job.id, last).where(Job.id.in_(job_ids)))
    return {job_id: number for job_id, number in rows if number is not None}


def _read_marks(job_ids: Collection[uuid.UUID], count: int) -> dict[uuid.UUID, list[Mark]]:
    found: dict[uuid.UUID, list[Mark]] = defaultdict(list)
    if not job_ids:
        return found
    # For each job the number of the first run to be shown is looked up, then the index is read from there: a window
    # over all runs of the jobs would read their whole history.
    older = sa.orm.aliased(Run)
    first_number = (
        sa.select(older.number)
        .where(older.job_id == Job.id)
        .order_by(older.number.desc())
        .offset(count - 1)
        .limit(1)
        .scalar_subquery()
    )
    first = sa.select(Job.id, sa.func.coalesce(first_number, 0).label("number")).where(Job.id.in_(job_ids)).cte("first")
    query = sa.select(*_COLUMNS).join(first, sa.and_(Run.job_id == first.c.id, Run.number >= first.c.number))
    for row in db.session.execute(query):
        found[row.job_id].append(_mark(row))
    for marks in found.values():
        marks.sort(key=lambda mark: mark.number)
    return found


def _mark(row: sa.Row[*tuple[Any, ...]]) -> Mark:
    both = row.started_at and row.finished_at
    return Mark(
        id=row.id,
        number=row.number,
        status=RunState(row.state).value,
        doubt=row.doubt is not None,
        seconds=(row.finished_at - row.started_at).total_seconds() if both else None,
        rows=None if is_reported(row.lease_owner) else row.rows_written,
        at=row.created_at,
        error=row.error_message,
        available_at=row.available_at,
        finished_at=row.finished_at,
        fraction=row.fraction,
    )


def failing_since(job_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """Since when each of these jobs fails: when the first failed run after its last good one ended."""
    if not job_ids:
        return {}
    good = sa.orm.aliased(Run)
    last_good = (
        sa.select(sa.func.coalesce(sa.func.max(good.number), 0))
        .where(good.job_id == Run.job_id, good.state == RunState.SUCCEEDED)
        .scalar_subquery()
    )
    query = (
        sa.select(Run.job_id, sa.func.min(Run.finished_at))
        .where(Run.job_id.in_(job_ids), Run.state == RunState.FAILED, Run.number > last_good)
        .group_by(Run.job_id)
    )
    return {job_id: since for job_id, since in db.session.execute(query) if since is not None}
