"""Earlier contents of the tables that a sync job writes: which ones runs have kept, and bringing one back."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.dates import utcnow
from webapp.db import db
from webapp.errors import NotFound
from webapp.jobs.sync.operations import get_sync
from webapp.jobs.sync.plans import KEEP_DAYS, Restore, Wish, check_wish
from webapp.runs.models import Run, RunStep
from webapp.runs.operations import start_run

BATCH = 100


@dataclass(frozen=True)
class Kept:
    """The content that a stream's table had before a run replaced or changed it, and the state that went with it."""

    stream: str
    generation: str
    replaced_at: datetime
    run_id: uuid.UUID
    run_number: int
    rows: int | None
    state: dict[str, Any] | None


def generations_of(actor: Actor, job_id: uuid.UUID, *, limit: int | None = None) -> list[Kept]:
    """What can be brought back, newest first, as the job's runs of the last days have kept it. Raises NotFound."""
    get_sync(actor, job_id)
    return list(islice(_kept(job_id), limit))


def _kept(job_id: uuid.UUID) -> Iterator[Kept]:
    query = (
        sa.select(RunStep, Run.number)
        .join(Run, Run.id == RunStep.run_id)
        .where(Run.job_id == job_id, RunStep.finished_at > utcnow() - timedelta(days=KEEP_DAYS))
        .order_by(RunStep.finished_at.desc())
    )
    seen: set[tuple[str, str]] = set()  # a receipt is repeated by the attempts after the one in which it landed
    # Thousands of streams have hundreds of thousands of receipts in these days: who wants the newest reads no others.
    with db.session.execute(query.execution_options(yield_per=BATCH)) as rows:
        for step, number in rows:
            receipt = step.facts.get("stream") or {}
            place = (receipt.get("stream", ""), receipt.get("generation", ""))
            if place[1] and place not in seen:
                seen.add(place)
                yield _shown(step, number, receipt)


def _shown(step: RunStep, number: int, receipt: dict[str, Any]) -> Kept:
    return Kept(
        stream=receipt["stream"],
        generation=receipt["generation"],
        replaced_at=step.finished_at or step.started_at,
        run_id=step.run_id,
        run_number=number,
        rows=_rows_before(receipt),
        state=receipt.get("state_before"),
    )


def _rows_before(receipt: dict[str, Any]) -> int | None:
    """How many rows the table had before, where the receipt tells: what an append added is known."""
    if receipt.get("write") != "append" or receipt.get("rows_total") is None:
        return None
    return int(receipt["rows_total"]) - int(receipt.get("rows_written") or 0)


def restore_stream(actor: Actor, job_id: uuid.UUID, *, stream: str, generation: str) -> Run:
    """Queue a run that brings the generation back. Raises NotFound when no run has kept it, Invalid, NotAllowed."""
    definition = get_sync(actor, job_id)
    found = next((kept for kept in _kept(job_id) if (kept.stream, kept.generation) == (stream, generation)), None)
    wish = Wish(restore=Restore(stream, generation, found.state if found else None))
    check_wish(definition, wish)
    if found is None:
        raise NotFound(f"No run of the last {KEEP_DAYS} days has kept this content of {stream}.")
    return start_run(actor, job_id, wish=wish)
