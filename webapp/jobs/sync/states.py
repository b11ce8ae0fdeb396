"""How far the streams of a sync job have come: look, reset, and keep what runs report."""

import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from webapp import events
from webapp.accounts.access import Actor
from webapp.db import db
from webapp.engine.sync.plan import StreamStatus
from webapp.errors import Invalid
from webapp.jobs import operations as jobs
from webapp.jobs.sync.catalog import read_catalog, target_of
from webapp.jobs.sync.models import StreamState, SyncDefinition
from webapp.jobs.sync.operations import get_sync

#: A receipt with one of these words will not change any more.
FINAL = frozenset({StreamStatus.LANDED, StreamStatus.DOUBT, StreamStatus.FAILED, StreamStatus.CANCELLED})


def states_of(job_id: uuid.UUID) -> dict[str, StreamState]:
    """What is kept of the job's streams, by label."""
    rows = db.session.scalars(sa.select(StreamState).where(StreamState.job_id == job_id))
    return {row.label: row for row in rows}


def show_streams(actor: Actor, job_id: uuid.UUID) -> list[dict[str, Any]]:
    """Each selected stream with its settings, its state and its last receipt, in the document's order."""
    definition = get_sync(actor, job_id)
    kept = states_of(job_id)
    shown = []
    for document, selection in read_catalog(definition.streams).selected:
        row = kept.get(document.label)
        shown.append(
            {
                "stream": document.label,
                "namespace": document.namespace,
                "name": document.name,
                "sync_mode": document.sync_mode,
                "cursor_field": document.cursor_field or None,
                "append_mode": selection.append_mode,
                "destination": target_of(document).label,
                "epoch": row.epoch if row else 0,
                "state": row.state if row else None,
                "receipt": row.receipt if row else None,
                "run_id": row.run_id if row else None,
                "updated_at": row.updated_at if row else None,
            }
        )
    return shown


def reset_stream(actor: Actor, job_id: uuid.UUID, label: str) -> StreamState:
    """Forget how far a stream has come, so that the next run reads all of it. Raises NotFound, Invalid, NotAllowed."""
    job = jobs.hold_to_change(actor, job_id)
    definition = get_sync(actor, job_id)
    namespace, name = _place(definition, label)
    row = _row(job_id, namespace, name)
    row.epoch += 1
    row.state = None
    db.session.flush()
    payload = {"name": job.name, "stream": label, "epoch": row.epoch}
    events.record("job.stream_reset", project_id=job.project_id, subject_id=job.id, payload=payload)
    return row


def _place(definition: SyncDefinition, label: str) -> tuple[str, str]:
    for document in read_catalog(definition.streams).streams:
        if document.label == label:
            return document.namespace, document.name
    raise Invalid(f"stream: the job does not know {label!r}.", field="stream", value=label)


def _row(job_id: uuid.UUID, namespace: str, name: str) -> StreamState:
    row = db.session.get(StreamState, (job_id, namespace, name), with_for_update=True)
    if row is None:
        row = StreamState(job_id=job_id, namespace=namespace, name=name, epoch=0)
        db.session.add(row)
    return row


def keep_receipts(
    job_id: uuid.UUID, run_id: uuid.UUID, spec: Mapping[str, Any], receipts: list[Mapping[str, Any]]
) -> None:
    """Keep the final receipts of a run; the state moves on for streams that landed and were not reset meanwhile."""
    final = {str(receipt.get("stream")): receipt for receipt in receipts if receipt.get("status") in FINAL}
    if not final:
        return
    for plan in spec.get("sync", {}).get("streams", ()):
        namespace, name = plan["namespace"], plan["name"]
        receipt = final.get(f"{namespace}.{name}" if namespace else name)
        if receipt is not None:
            _keep(_row(job_id, namespace, name), run_id, plan, receipt)


def _keep(row: StreamState, run_id: uuid.UUID, plan: Mapping[str, Any], receipt: Mapping[str, Any]) -> None:
    row.receipt, row.run_id = dict(receipt), run_id
    epoch = max(int(receipt.get("epoch") or 0), int(plan.get("epoch") or 0))
    if receipt["status"] == StreamStatus.LANDED and epoch >= row.epoch:
        row.epoch, row.state = epoch, receipt.get("state_after")
