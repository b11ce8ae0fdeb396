"""A context for connectors under test, and the whole of a stream as rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webapp.engine.connectors.base import CheckStep, Read, Source, Stream, first_failure
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.context import Context, Silence


def context_in(folder: Path, **more: Any) -> Context:
    """Everything under one folder; loopback is allowed, since the servers of these tests run there."""
    (folder / "data").mkdir(exist_ok=True)
    settings = {"allow_private_addresses": True, "lock_timeout": 1.0, **more}
    return Context(folder / "data", (), folder / "warehouse.duckdb", folder / "temp", Silence(), **settings)


def stream_of(source: Source[Any], name: str) -> Stream:
    """One stream as it is discovered now."""
    return next(stream for stream in source.discover() if stream.name == name)


def types_of(stream: Stream) -> dict[str, str]:
    """The columns' types by name."""
    return {column.name: column.type for column in stream.columns}


def rows_of(source: Source[Any], read: Read) -> list[dict[str, Any]]:
    """All rows of a read, every chunk in its turn; batches are held to the promised schema."""
    with source.open(parallel=2) as session:
        rows: list[dict[str, Any]] = []
        for chunk in session.chunks(read, parallel=2):
            reader = session.read(read, chunk)
            assert reader.schema == arrow_schema(read.columns)
            rows += reader.read_all().to_pylist()
        return rows


def whole(stream: Stream, *names: str, **window: Any) -> Read:
    """A read of a stream's columns, all when none is named."""
    columns = [column for column in stream.columns if not names or column.name in names]
    return Read(stream, tuple(columns), **window)


def failed(steps: Sequence[CheckStep]) -> CheckStep:
    """The step at which a check ended; it is the last one."""
    step = first_failure(steps)
    assert step is not None
    assert step is steps[-1]
    return step
