"""The last runs of many jobs as small marks, and since when a job fails: a few queries for a whole page of jobs."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from webapp.db import db
from webapp.runs.models import Run
from webapp.runs.states import RunState

STRIP_LENGTH = 20


@dataclass(frozen=True)
class Mark:
    """One run as a strip or a trend shows it."""

    id: uuid.UUID
    number: int
    status: str
    doubt: bool
    seconds: float | None
    rows: int
    at: datetime
    error: str | None

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
        return f"Run {self.number}, {self.at:%Y-%m-%d %H:%M} UTC, {word}{took}, {self.rows:,} rows{why}"


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
    Run.error_message,
)


def last_marks(job_ids: Collection[uuid.UUID], *, count: int = STRIP_LENGTH) -> Mapping[uuid.UUID, list[Mark]]:
    """The last runs of each of these jobs, oldest first, as many as `count` each; jobs without runs have none."""
    found: dict[uuid.UUID, list[Mark]] = defaultdict(list)
    if not job_ids:
        return found
    # One short index scan for each job: a window over all runs of the jobs would read their whole history.
    parts = [
        sa.select(*_COLUMNS).where(Run.job_id == job_id).order_by(Run.number.desc()).limit(count).subquery()
        for job_id in job_ids
    ]
    for row in db.session.execute(sa.union_all(*(sa.select(part) for part in parts))):
        found[row.job_id].append(_mark(row))
    for marks in found.values():
        marks.sort(key=lambda mark: mark.number)
    return found


def _mark(row: sa.Row[tuple[object, ...]]) -> Mark:
    both = row.started_at and row.finished_at
    return Mark(
        id=row.id,
        number=row.number,
        status=RunState(row.state).value,
        doubt=row.doubt is not None,
        seconds=(row.finished_at - row.started_at).total_seconds() if both else None,
        rows=row.rows_written,
        at=row.created_at,
        error=row.error_message,
    )


def failing_since(job_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """Since when each of these jobs fails: the end of the first failed run after its last good one. Others are absent."""
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
    return {job_id: since for job_id, since in db.session.execute(query).tuples() if since is not None}
