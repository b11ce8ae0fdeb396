"""Long lists of runs, read as plain rows: neither ORM objects nor the encrypted definitions that runs carry."""

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.db import db
from webapp.runs.models import Run
from webapp.runs.operations import runs_visible_to
from webapp.runs.states import RunState

LISTED = tuple(column for column in sa.inspect(Run).column_attrs if column.key != "spec")
_COLUMNS = tuple(getattr(Run, column.key) for column in LISTED)


def page_of_runs(
    actor: Actor,
    *,
    job_id: uuid.UUID | None = None,
    states: Collection[RunState] | None = None,
    cursor: int | None = None,
    limit: int | None = None,
) -> Sequence[sa.Row[Any]]:
    """Runs that the actor may see, oldest first, without `spec`; `cursor` is the number of the last one seen."""
    query = runs_visible_to(actor).with_only_columns(*_COLUMNS)
    if job_id is not None:
        query = query.where(Run.job_id == job_id)
    if states is not None:
        query = query.where(Run.state.in_(states))
    if cursor is not None:
        query = query.where(Run.number > cursor)
    return db.session.execute(query.order_by(Run.number).limit(limit)).all()
