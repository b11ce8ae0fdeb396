"""A sync run: open both sides, let its streams go within the connections that there are, collect the receipts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from webapp.engine.connectors import registry
from webapp.engine.connectors.base import ConnectorSpec, Destination, Source
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.stream import Desk, Listener, StreamRun, error_json
from webapp.engine.sync.telling import Teller


def run_sync(spec: SyncSpec, context: Context, on_stream: Listener) -> list[StreamReceipt]:
    """Move all streams; a receipt for each, in their order, and told while they run.

    Raises EngineError (Cancelled too) when a side cannot be opened, before any stream has begun. Afterwards each
    stream's receipt says what became of it, also that it was cancelled.
    """
    teller = Teller(on_stream, context)
    inner = replace(context, cancelled=lambda: teller.broken is not None or context.cancelled())
    destination, source = _destination(spec, inner), _source(spec, inner)
    receipts = _fly(spec, inner, source, destination, teller)
    if teller.broken is not None:
        raise teller.broken
    return receipts


def _fly(
    spec: SyncSpec, context: Context, source: Source[Any], destination: Destination[Any], teller: Teller
) -> list[StreamReceipt]:
    refused = _refused(spec)
    parallel = max(1, spec.parallel)
    # The destination first: waiting for its lock must not age the source's snapshot.
    with (
        destination.open() as landing,
        source.open_beside(landing, parallel=parallel) as session,
        ThreadPoolExecutor(parallel, "sync-chunk") as chunks,
        ThreadPoolExecutor(parallel, "sync-stream") as streams,
    ):
        slots = threading.Semaphore(parallel)
        silent = tuple(side.title for side in (source, destination) if not side.offers_sums)
        desk = Desk(spec, context, session, landing, teller, chunks, slots, destination.parallel_writes, silent)

        def one(plan: StreamPlan) -> StreamReceipt:
            return _told(refused[plan.target.label.lower()], plan, teller) or StreamRun(plan, desk).run()

        return list(streams.map(one, spec.streams))


def _refused(spec: SyncSpec) -> Counter[str]:
    return Counter(plan.target.label.lower() for plan in spec.streams)


def _told(times: int, plan: StreamPlan, teller: Teller) -> StreamReceipt | None:
    """The receipt of a stream that may not go because others have its target."""
    if times < 2:
        return None
    error = EngineError(
        f"{plan.label}: {times} streams of this sync go into {plan.target.label}",
        origin=Origin.USER,
        fix="Give each stream a destination table of its own.",
    )
    receipt = StreamReceipt(
        plan.label, StreamStatus.FAILED, mode=plan.mode.value, write=plan.write.value, epoch=plan.epoch
    )
    receipt.error = error_json(error)
    teller.log("error", error.message)
    teller.tell(receipt, now=True)
    return receipt


def _source(spec: SyncSpec, context: Context) -> Source[Any]:
    try:
        found = registry.source_class(spec.source_type)
    except (registry.UnknownConnector, ImportError) as error:
        raise _unusable(error, spec.source_type, Origin.SOURCE) from error
    return found(_configured(found.Spec, spec.source_config, Origin.SOURCE), context)


def _destination(spec: SyncSpec, context: Context) -> Destination[Any]:
    try:
        found = registry.destination_class(spec.destination_type)
    except (registry.UnknownConnector, ImportError) as error:
        raise _unusable(error, spec.destination_type, Origin.DESTINATION) from error
    return found(_configured(found.Spec, spec.destination_config, Origin.DESTINATION), context)


def _configured(spec: type[ConnectorSpec], config: Mapping[str, Any], origin: Origin) -> ConnectorSpec:
    try:
        return spec.model_validate(config)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise EngineError(
            f"the {origin.value}'s configuration is not complete: {'; '.join(problems)}",
            origin=origin,
            fix=f"Correct the {origin.value}.",
        ) from error


def _unusable(error: Exception, name: str, origin: Origin) -> EngineError:
    if isinstance(error, registry.UnknownConnector):
        return EngineError(str(error), origin=origin, fix="Choose one of these.")
    return EngineError(
        f"the connector {name} cannot be loaded here: {error}", origin=origin, kind=Kind.SYSTEM, fix="Install it."
    )
