"""A source that holds its tables in memory and breaks on demand; everything else of a sync in these tests is real."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from webapp.engine.connectors.base import CheckStep, Chunk, Column, ConnectorSpec, Read, Source, SourceSession, Stream
from webapp.engine.connectors.types import arrow_schema

BATCH = 700


@dataclass
class Shelf:
    """Tables by name, and how reading them goes wrong."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    chunks: int = 3
    count_off: int = 0
    on_batch: Callable[[str], None] = lambda name: None
    reads: int = 0
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._lock:
            self.reads += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1


SHELF = Shelf()


class MemorySpec(ConnectorSpec):
    """Nothing to configure."""


class MemorySource(Source[MemorySpec]):
    name = "memory"
    title = "Memory"
    Spec = MemorySpec

    def check(self) -> Iterator[CheckStep]:
        yield CheckStep("connect", True)

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        for name in SHELF.tables:
            yield Stream("", name, ())

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[SourceSession]:
        yield MemorySession()


class MemorySession(SourceSession):
    def high_water(self, read: Read) -> Any:
        value = pc.max(self._rows(read).column(read.cursor)).as_py()
        return str(value) if isinstance(value, datetime.date) else value

    def count(self, read: Read) -> int | None:
        return self._rows(read).num_rows + SHELF.count_off

    def chunks(self, read: Read, *, parallel: int) -> Sequence[Chunk]:
        return [Chunk(str(place), {"place": place}) for place in range(SHELF.chunks)]

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        rows = self._rows(read)
        size = -(-rows.num_rows // SHELF.chunks)
        part = rows.slice(chunk.bounds["place"] * size, size).select([column.name for column in read.columns])

        def batches() -> Iterator[pa.RecordBatch]:
            with SHELF.reading():
                for batch in part.to_batches(max_chunksize=BATCH):
                    SHELF.on_batch(read.stream.name)
                    yield batch

        return pa.RecordBatchReader.from_batches(arrow_schema(read.columns), batches())

    def _rows(self, read: Read) -> pa.Table:
        rows = SHELF.tables[read.stream.name]
        if read.cursor and read.since is not None:
            rows = rows.filter(pc.greater_equal(rows.column(read.cursor), self._limit(rows, read.cursor, read.since)))
        if read.cursor and read.until is not None:
            rows = rows.filter(pc.less_equal(rows.column(read.cursor), self._limit(rows, read.cursor, read.until)))
        return rows

    def _limit(self, rows: pa.Table, cursor: str, value: Any) -> pa.Scalar:
        return pa.scalar(value).cast(rows.schema.field(cursor).type)


def table(columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    """A table of these columns (name to DuckDB type) and rows."""
    schema = arrow_schema(Column(name, kind) for name, kind in columns.items())
    lists = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pa.array(list(values), field.type) for values, field in zip(lists, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
