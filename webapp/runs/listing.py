"""Long lists of runs, as the driver gives them: no ORM objects, no conversion there and back, no encrypted definitions.

Contract 001's clients ask for all runs that ever were, again and again.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.db import Instant, db, is_postgresql
from webapp.runs.models import Run
from webapp.runs.operations import runs_visible_to
from webapp.runs.states import RunState

_LISTED = [column for column in sa.inspect(Run).columns if column.key != "spec"]
LISTED = tuple(column.key for column in _LISTED)
_UNCONVERTED = tuple(sa.type_coerce(column, sa.types.NullType()).label(column.key) for column in _LISTED)
_IDS = tuple(at for at, column in enumerate(_LISTED) if isinstance(column.type, sa.Uuid))
_INSTANTS = tuple(at for at, column in enumerate(_LISTED) if isinstance(column.type, Instant))
_STARTED, _FINISHED = LISTED.index("started_at"), LISTED.index("finished_at")


def page_of_runs(
    actor: Actor,
    *,
    job_id: uuid.UUID | None = None,
    states: Collection[RunState] | None = None,
    cursor: int | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """The facts of runs that the actor may see, oldest first; `cursor` is the number of the last one seen.

    The keys are those of `LISTED`, and `seconds`. Ids and instants are as they go on the wire.
    """
    query = runs_visible_to(actor).with_only_columns(*_UNCONVERTED)
    if job_id is not None:
        query = query.where(Run.job_id == job_id)
    if states is not None:
        query = query.where(Run.state.in_(states))
    if cursor is not None:
        query = query.where(Run.number > cursor)
    rows = db.session.execute(query.order_by(Run.number).limit(limit))
    show = _from_postgresql if is_postgresql() else _from_sqlite
    return [show(row) for row in rows]


def facts_of(run: Run) -> dict[str, Any]:
    """The same facts of one run."""
    return {**{name: getattr(run, name) for name in LISTED}, "seconds": run.seconds}


def _from_sqlite(row: Sequence[Any]) -> dict[str, Any]:
    values = list(row)
    started, finished = values[_STARTED], values[_FINISHED]
    both = started is not None and finished is not None
    seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds() if both else None
    for at in _IDS:
        if (text := values[at]) is not None:
            values[at] = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    for at in _INSTANTS:
        if (text := values[at]) is not None:
            values[at] = f"{text[:10]}T{text[11:].removesuffix('.000000')}Z"
    return {**dict(zip(LISTED, values, strict=True)), "seconds": seconds}


def _from_postgresql(row: Sequence[Any]) -> dict[str, Any]:
    values = list(row)
    started, finished = values[_STARTED], values[_FINISHED]
    seconds = (finished - started).total_seconds() if started is not None and finished is not None else None
    for at in _INSTANTS:
        if (instant := values[at]) is not None:
            values[at] = instant.astimezone(UTC)
    return {**dict(zip(LISTED, values, strict=True)), "seconds": seconds}
