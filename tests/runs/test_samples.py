"""A run that moves leaves a sample a second, from which its rate is drawn."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from tests import factories
from webapp.dates import utcnow
from webapp.db import db
from webapp.runs.models import Run, RunSample
from webapp.runs.operations import RunNews, run_news
from webapp.runs.samples import rate_points
from webapp.runs.states import RunState


def test_news_of_progress_leave_one_sample_a_second(people: Any, work: Callable, look: Callable) -> None:
    with work():
        run = factories.make_run(factories.make_job(), state=RunState.RUNNING, attempt=1, started_at=utcnow())
        run_id = run.id
    for second, rows in ((1, 100), (1, 150), (3, 500)):
        with work():
            run = db.session.scalars(sa.select(Run).where(Run.id == run_id)).one()
            run.started_at, run.rows_read = utcnow() - timedelta(seconds=second + 0.2), rows
            run_news.tell(RunNews([], [run]))
    with look():
        assert [row.rows_read for row in db.session.scalars(sa.select(RunSample))] == [100, 500]
        assert rate_points(db.session.scalars(sa.select(Run)).one(), 1) == [(3, 200)]


def test_a_long_run_is_drawn_with_few_points(people: Any, work: Callable, look: Callable) -> None:
    with work():
        run = factories.make_run(factories.make_job(), state=RunState.RUNNING, attempt=1, started_at=utcnow())
        rows = [
            {"run_id": run.id, "attempt": 1, "second": n, "rows_read": n * 10, "bytes_read": 0} for n in range(5000)
        ]
        db.session.execute(sa.insert(RunSample), rows)
    with look():
        points = rate_points(db.session.scalars(sa.select(Run)).one(), 1)
    assert 200 <= len(points) <= 250
    assert {rate for _, rate in points} == {10}
