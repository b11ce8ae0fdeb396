"""Going on with an interrupted load: chunks aside are kept where the source proves that they are still right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace

from webapp.engine.connectors.base import Chunk, Load, Read, SourceSession, Staged, Writer
from webapp.engine.connectors.registry import VERSION
from webapp.engine.errors import Cancelled, EngineError, Kind
from webapp.engine.sync.plan import StreamPlan, SyncSpec
from webapp.engine.sync.positions import Position


def fingerprint(spec: SyncSpec, plan: StreamPlan, load: Load) -> str:
    """The same for two loads only when they read the same of a stream, in the same way, into the same form."""
    facts = [VERSION, spec.source_type, plan.to_json(), load.write, [asdict(column) for column in load.columns]]
    text = json.dumps([*facts, load.key, [asdict(one) for one in load.partitions]], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def worth_keeping(error: Exception) -> bool:
    """Whether the same load may well succeed later, so that what it has put aside is of use."""
    return isinstance(error, Cancelled) or (isinstance(error, EngineError) and error.kind is Kind.TRANSIENT)


def still_right(staged: Sequence[Staged], same: Callable[[Staged], bool], threads: Executor) -> list[Staged]:
    """Those of an earlier attempt's chunks that hold the source's present rows."""
    return [one for one, kept in zip(staged, threads.map(same, staged), strict=True) if kept]


def taken_over(writer: Writer, source: SourceSession, read: Read, kept: Sequence[Staged], parallel: int) -> list[Chunk]:
    """Let the writer keep these chunks; what is left to read."""
    writer.resume(kept)
    return list(source.rest(read, [one.chunk for one in kept], parallel=parallel))


def catch_up(position: Position, source: SourceSession, read: Read, kept: Sequence[Staged]) -> None:
    """Look at the rows with the last cursor values of chunks that are not read again: the next run must know them."""
    tail, values = position.tail, position.values
    if tail is None or values is None:
        return
    floor = source.floor(read, tail.rows)
    if floor is not None:
        tail.begin_at(values.scalar(floor))
    for one in kept:
        for batch in source.read(replace(read, since=floor), one.chunk):
            tail.add(batch)
