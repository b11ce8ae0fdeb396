"""How a child executes a sync: the engine moves the streams, the worker hears how each of them stands."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from webapp.engine.connectors.base import Landed, Stream
from webapp.engine.connectors.registry import UnknownConnector, destination_class, source_class
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.engine.sync.plan import GUESSED, StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.runs.messages import Lease, Outcome
from webapp.runs.worker.execution import Telephone

SECONDS_BETWEEN_NEWS = 0.5  # of one stream
#: How the step of a stream ends.
OUTCOMES: Mapping[StreamStatus, str] = {
    StreamStatus.LANDED: "succeeded",
    StreamStatus.DOUBT: "succeeded",
    StreamStatus.FAILED: "failed",
    StreamStatus.CANCELLED: "cancelled",
}


class Tower:
    """Passes on what the engine says of each stream: every change of its status, and twice a second how far it is."""

    def __init__(self, telephone: Telephone) -> None:
        self._telephone = telephone
        self._lock = threading.Lock()
        self._told: dict[str, tuple[StreamStatus, float]] = {}
        self._rows: dict[str, tuple[int, int, int, float | None]] = {}

    def hear(self, receipt: StreamReceipt) -> None:
        """Take a receipt, from whichever thread."""
        status = StreamStatus(receipt.status)
        with self._lock:
            self._count(receipt, status)
            before, at = self._told.get(receipt.stream, (None, 0.0))
            if status is StreamStatus.WAITING and before is None:
                return  # a step begins when its stream does
            if status is before and (status in OUTCOMES or time.monotonic() - at < SECONDS_BETWEEN_NEWS):
                return
            self._told[receipt.stream] = (status, time.monotonic())
            self._telephone.tell_stream(receipt.stream, {"stream": self._cleaned(receipt)}, OUTCOMES.get(status))
            self._progress()

    def _count(self, receipt: StreamReceipt, status: StreamStatus) -> None:
        done: float | None = None
        if status in OUTCOMES:
            done = 1.0
        elif receipt.rows_source:
            done = min(1.0, receipt.rows_read / receipt.rows_source)
        elif receipt.chunks:
            done = receipt.chunks_done / receipt.chunks
        elif status is StreamStatus.WAITING:
            done = 0.0
        self._rows[receipt.stream] = (receipt.rows_read, receipt.rows_written, receipt.bytes_read, done)

    def expect(self, labels: Sequence[str]) -> None:
        """These streams will be heard of."""
        self._rows = dict.fromkeys(labels, (0, 0, 0, 0.0))

    def _progress(self) -> None:
        rows = self._rows.values()
        parts = [done for *_, done in rows]
        known = [done for done in parts if done is not None]
        # A stream whose part nobody can tell counts as not begun, unless there is no other.
        fraction = sum(known) / len(parts) if known else None
        self._telephone.progress(sum(r[0] for r in rows), sum(r[1] for r in rows), sum(r[2] for r in rows), fraction)

    def _cleaned(self, receipt: StreamReceipt) -> dict[str, Any]:
        """The receipt without secrets in what it quotes."""
        facts = receipt.to_json()
        facts["status"] = StreamStatus(receipt.status).value
        if receipt.error:
            quoted = {"message", "fix"}
            facts["error"] = {
                key: self._telephone.clean(str(value)) if key in quoted and value else value
                for key, value in receipt.error.items()
            }
        facts["doubt"] = self._telephone.clean(receipt.doubt) if receipt.doubt else None
        return facts


def execute_sync(lease: Lease, telephone: Telephone, context: Context) -> Outcome:
    """Execute what the lease asks for: a sync, or the restoration of a stream. Raises EngineError."""
    sync = lease.spec["sync"]
    if problem := sync.get("problem"):
        raise EngineError(problem["message"], origin=Origin.USER, fix=problem.get("fix"))
    plans = [StreamPlan.from_json(plan) for plan in sync["streams"]]
    try:
        if restore := sync.get("wish", {}).get("restore"):
            return _restore(sync, plans[0], restore, telephone, context)
        return _fly(lease, sync, plans, telephone, context)
    except UnknownConnector as error:
        raise EngineError(str(error), origin=Origin.USER, fix="Choose a connector that this server runs.") from error


def _fly(
    lease: Lease, sync: Mapping[str, Any], plans: list[StreamPlan], telephone: Telephone, context: Context
) -> Outcome:
    from webapp.engine.sync.runner import run_sync

    before = [_receipt_of(facts) for facts in lease.landed]
    landed = {receipt.stream for receipt in before}
    left = [plan for plan in plans if plan.label not in landed]
    tower = Tower(telephone)
    tower.expect([plan.label for plan in plans])
    for receipt in before:
        tower.hear(receipt)
    if before:
        telephone.log("info", f"{len(before)} of {len(plans)} streams landed in an earlier attempt.")
    spec = SyncSpec(
        source_type=sync["source_type"],
        source_config=sync["source_config"],
        destination_type=sync["destination_type"],
        destination_config=sync["destination_config"],
        streams=completed(sync, left, context),
        run_id=str(lease.run_id),
        keep_days=int(sync.get("keep_days", 3)),
    )
    receipts = run_sync(spec, context, tower.hear) if left else []
    for receipt in receipts:
        tower.hear(receipt)
    return outcome_of([*before, *receipts])


def _receipt_of(facts: Mapping[str, Any]) -> StreamReceipt:
    return StreamReceipt(**{**facts, "status": StreamStatus(facts["status"])})


def outcome_of(receipts: Sequence[StreamReceipt]) -> Outcome:
    """How the run ended: the sums of its streams; the first that failed gives its error to the run."""
    failed = [receipt for receipt in receipts if receipt.status is StreamStatus.FAILED]
    doubts = [f"{receipt.stream}: {receipt.doubt}" for receipt in receipts if receipt.doubt]
    totals = Outcome(
        "succeeded",
        rows_read=sum(receipt.rows_read for receipt in receipts),
        rows_written=sum(receipt.rows_written for receipt in receipts),
        rows_found=sum(receipt.rows_found or 0 for receipt in receipts),
        bytes_read=sum(receipt.bytes_read for receipt in receipts),
        doubt=" ".join(doubts) or None,
    )
    if failed:
        return _failed(totals, failed, len(receipts))
    if any(receipt.status is StreamStatus.CANCELLED for receipt in receipts):
        raise Cancelled
    return totals


def _failed(totals: Outcome, failed: Sequence[StreamReceipt], count: int) -> Outcome:
    first = failed[0].error or {}
    message = str(first.get("message") or "no reason was given")
    others = f" ({len(failed)} of {count} streams failed.)" if count > 1 else ""
    return replace(
        totals,
        name="failed",
        message=f"{message if message.startswith(failed[0].stream) else f'{failed[0].stream}: {message}'}{others}",
        origin=first.get("origin"),
        kind=first.get("kind"),
        fix=first.get("fix"),
        permanent=all((receipt.error or {}).get("permanent", True) for receipt in failed),
    )


# --- columns that nobody described ------------------------------------------------------------------------------------


def completed(sync: Mapping[str, Any], plans: Sequence[StreamPlan], context: Context) -> list[StreamPlan]:
    """The plans with what the source says now of columns that no document lists, or whose types were guessed."""
    unsure = [plan for plan in plans if _is_unsure(plan)]
    if not unsure:
        return list(plans)
    source = _configured(source_class(sync["source_type"]), sync["source_config"], context, Origin.SOURCE)
    labels = {plan.label for plan in unsure}
    found = {stream.label: stream for plan in unsure for stream in source.discover(pattern=plan.label)}
    found = {label: stream for label, stream in found.items() if label in labels}  # a label may be a pattern, too
    return [
        _with_columns(plan, found[plan.label]) if _is_unsure(plan) and plan.label in found else plan for plan in plans
    ]


def _is_unsure(plan: StreamPlan) -> bool:
    return not plan.columns or any(column.native == GUESSED for column in plan.columns)


def _with_columns(plan: StreamPlan, stream: Stream) -> StreamPlan:
    """Those of the plan as the source has them; all of them when the plan names none."""
    there = {column.name: column for column in stream.columns}
    wanted = tuple(there.get(column.name, column) for column in plan.columns)
    return replace(plan, columns=wanted or stream.columns)


def _configured(connector: Any, config: Mapping[str, Any], context: Context, origin: Origin) -> Any:
    from pydantic import ValidationError

    try:
        return connector(connector.Spec.model_validate(config), context)
    except ValidationError as error:
        item = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(str(part) for part in item["loc"])
        fix = f"Correct {name} of the {origin.value}."
        raise EngineError(f"The {origin.value}'s {name}: {item['msg']}", origin=origin, fix=fix) from error


# --- the parachute ----------------------------------------------------------------------------------------------------


def _restore(
    sync: Mapping[str, Any], plan: StreamPlan, restore: Mapping[str, Any], telephone: Telephone, context: Context
) -> Outcome:
    """Bring an earlier content of the stream's table back, with the state that it had."""
    connector = destination_class(sync["destination_type"])
    destination = _configured(connector, sync["destination_config"], context, Origin.DESTINATION)
    tower = Tower(telephone)
    receipt = StreamReceipt(plan.label, StreamStatus.RUNNING, mode=plan.mode, write="restore", epoch=plan.epoch)
    tower.hear(receipt)
    telephone.log("info", f"{plan.label}: {plan.target.label} goes back to generation {restore['generation']}.")
    with destination.open() as session:
        landed: Landed = session.restore(plan.target, restore["generation"], restore.get("state"))
    receipt.rows_written, receipt.rows_found, receipt.rows_total = landed.written, landed.found, landed.total
    receipt.generation, receipt.state_after = landed.generation, restore.get("state")
    receipt.status = StreamStatus.LANDED
    tower.hear(receipt)
    return outcome_of([receipt])
