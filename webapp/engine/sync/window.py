"""Rows near a cursor's last value: which of them were taken before, and which the next run must know.

A cursor tells what is new only roughly: rows arrive later with the same value, or with a smaller one, because a
transaction that began earlier ended later. So each run reads the last rows of the one before again, and skips those
whose hash it finds in the state.
"""

import base64
import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.types import arrow_schema

ROWS = 5_000
CELLS = 200_000
MOST = 50_000
"""More rows than this with one cursor value cannot be told apart by hashes in a state."""
_SIZE = 8


@dataclass(frozen=True)
class Edge:
    """What a run leaves for the next: the rows from `since` to `value`; None hashes are too many.

    Without a `since`, all rows that were read are among them.
    """

    since: pa.Scalar | None
    value: pa.Scalar
    hashes: list[bytes] | None


def row_hashes(table: pa.Table) -> list[bytes]:
    """Eight bytes for each row, the same in every process and release for the same values of the same types."""
    columns = [_plain(column).to_pylist() for column in table.columns]
    return [
        hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=_SIZE).digest()
        for row in zip(*columns, strict=True)
    ]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return column.cast(pa.int64())
    return column.cast(pa.int32()) if pa.types.is_date32(kind) else column


def packed(hashes: Sequence[bytes]) -> str:
    """Hashes as JSON carries them."""
    return base64.b64encode(b"".join(sorted(hashes))).decode()


def unpacked(text: str) -> list[bytes]:
    """What `packed` made."""
    whole = base64.b64decode(text)
    return [whole[at : at + _SIZE] for at in range(0, len(whole), _SIZE)]


class Taken:
    """Skips the rows that earlier runs took. Used by several threads."""

    def __init__(self, hashes: Sequence[bytes], columns: Sequence[Column], cursor: str, value: pa.Scalar) -> None:
        self._left = Counter(hashes)
        self._schema = arrow_schema(columns)
        self._cursor = cursor
        self._value = value
        self._lock = threading.Lock()

    def new_of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that nobody took yet."""
        near = pc.fill_null(pc.less_equal(batch.column(self._cursor), self._value), False)
        places = pc.indices_nonzero(near).to_pylist()
        if not places:
            return batch
        known = self._known(batch.take(pa.array(places)))
        dropped = {place for place, taken in zip(places, known, strict=True) if taken}
        if not dropped:
            return batch
        return batch.filter(pa.array([place not in dropped for place in range(batch.num_rows)]))

    def _known(self, rows: pa.RecordBatch) -> list[bool]:
        # As the columns were when the hashes were made: a column may have been added or widened since.
        hashes = row_hashes(pa.table(rows).select(self._schema.names).cast(self._schema))
        with self._lock:
            known = []
            for one in hashes:
                known.append(self._left[one] > 0)
                self._left[one] -= known[-1]
        return known


class Later:
    """Skips all rows up to a value, where it can no longer be told which were taken."""

    def __init__(self, cursor: str, value: pa.Scalar) -> None:
        self._cursor = cursor
        self._value = value

    def new_of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows above the value."""
        return batch.filter(pc.greater(batch.column(self._cursor), self._value))


class Tail:
    """Keeps the rows with the greatest cursor values, never a part of those that share one. Used by several threads."""

    def __init__(self, cursor: str, columns: int) -> None:
        self._cursor = cursor
        self.rows = min(ROWS, max(100, CELLS // max(columns, 1)))
        self._kept: list[pa.RecordBatch] = []
        self._count = 0
        self._floor: tuple[pa.Scalar, bool] | None = None
        self._crowded: pa.Scalar | None = None
        self._lock = threading.Lock()

    def begin_at(self, value: pa.Scalar) -> None:
        """Look at no rows below this value: not all of them will be shown."""
        self._floor = (value, True)

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at rows that were read."""
        near = self._above_floor(batch)
        if not near.num_rows:
            return
        with self._lock:
            near = self._above_floor(near)
            self._kept.append(near)
            self._count += near.num_rows
            if self._count > 2 * self.rows:
                self._compact()

    def edge(self, value: pa.Scalar | None = None) -> Edge | None:
        """The end of what was read, None when no row had a cursor value; never below `value`."""
        if not self._count:
            return None
        self._compact()
        table = pa.Table.from_batches(self._kept)
        limits = pc.min_max(table.column(self._cursor))
        if value is None or pc.greater(limits["max"], value).as_py():
            value = limits["max"]
        if self._crowded is not None:
            return Edge(limits["min"], value, None)
        return Edge(None if self._floor is None else limits["min"], value, row_hashes(table))

    def _above_floor(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        column = batch.column(self._cursor)
        floor = self._floor
        if floor is None:
            return batch.filter(pc.is_valid(column))
        return batch.filter(_at_or_above(column, *floor))

    def _compact(self) -> None:
        table = pa.Table.from_batches(self._kept)
        self._raise_floor(table.column(self._cursor))
        if self._floor is not None:
            table = table.filter(_at_or_above(table.column(self._cursor), *self._floor))
        if table.num_rows > MOST:
            # All of them share one value: that there are so many is all that is kept.
            self._crowded = table.column(self._cursor)[0]
            table = table.slice(0, 1)
        # Copied: a slice would keep the whole batch that it came from.
        self._kept = table.take(pa.array(range(table.num_rows), pa.int64())).combine_chunks().to_batches()
        self._count = table.num_rows

    def _raise_floor(self, column: pa.ChunkedArray) -> None:
        greatest = pc.max(column)
        if self._crowded is not None and not greatest.equals(self._crowded):
            self._floor, self._crowded = (self._crowded, False), None
        if len(column) <= self.rows:
            return
        lowest = column[pc.top_k_unstable(column, k=self.rows)[-1].as_py()]
        crowd = pc.sum(pc.greater_equal(column, lowest)).as_py()
        inclusive = crowd <= 2 * self.rows or lowest.equals(greatest)
        if self._floor is None or not self._floor[0].equals(lowest):
            self._floor = (lowest, inclusive)


def _at_or_above(column: Any, floor: pa.Scalar, inclusive: bool) -> Any:
    return pc.greater_equal(column, floor) if inclusive else pc.greater(column, floor)
