"""How fast a run moves: a sample for each second of it, from which the page draws rows per second."""

from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from webapp.dates import utcnow
from webapp.db import db, insert_at_commit
from webapp.runs.models import Run, RunSample
from webapp.runs.operations import RunNews

MOST_POINTS = 240


def keep_samples(news: RunNews) -> None:
    """Note how far the runs that progressed are; what comes within a second of the last sample is left out."""
    for run in news.progressed:
        if run.started_at:
            insert_at_commit(RunSample, _sample(run), unless_there=True)


def _sample(run: Run) -> dict[str, Any]:
    assert run.started_at is not None
    second = int((utcnow() - run.started_at).total_seconds())
    return {
        "run_id": run.id,
        "attempt": run.attempt,
        "second": second,
        "rows_read": run.rows_read,
        "bytes_read": run.bytes_read,
    }


def rate_points(run: Run, attempt: int) -> list[tuple[int, int]]:
    """Points of (second since the first claim, rows per second), at most about MOST_POINTS, oldest first."""
    here = (RunSample.run_id == run.id, RunSample.attempt == attempt)
    last = db.session.scalar(sa.select(sa.func.max(RunSample.second)).where(*here)) or 0
    every = last // MOST_POINTS + 1
    query = sa.select(RunSample.second, RunSample.rows_read).where(*here, RunSample.second % every == 0)
    samples = db.session.execute(query.order_by(RunSample.second)).all()
    return [(later, max(0, (more - rows) // (later - second))) for (second, rows), (later, more) in pairwise(samples)]
