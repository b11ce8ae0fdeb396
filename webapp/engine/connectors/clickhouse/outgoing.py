"""Batches in Arrow's own format, in the types that the staging table has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.clickhouse.columns import native_type
from webapp.engine.connectors.types import arrow_type
from webapp.engine.connectors.written import as_text

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_FIRST, _LAST = dt.date(1900, 1, 1), dt.date(2299, 12, 31)


def arrow_data(batches: Iterable[pa.RecordBatch], columns: Sequence[Column], *, wide_dates: bool) -> bytes:
    """The batches as one stream. Raises pyarrow.ArrowInvalid for a value that ClickHouse would change silently."""
    schema = pa.schema([pa.field(column.name, sent_type(column)) for column in columns])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        for batch in batches:
            arrays = [_fit(array, one, wide_dates) for array, one in zip(batch.columns, columns, strict=True)]
            stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def sent_type(column: Column) -> pa.DataType:
    """What Arrow carries for a column of the table: text for all that ClickHouse keeps as String, but bytes."""
    textual = native_type(column.type) == "String" and column.type != "BLOB"
    return pa.string() if textual else arrow_type(column.type)


def _fit(array: pa.Array, column: Column, wide_dates: bool) -> pa.Array:
    wanted = sent_type(column)
    if column.type == "UUID" and not pc.all(pc.match_substring_regex(array, _UUID), min_count=0).as_py():
        raise pa.ArrowInvalid(f"column {column.name} holds a text that is no UUID")
    if not wide_dates and pa.types.is_temporal(array.type):
        _check_range(array, column)
    if array.type == wanted:
        return array
    return as_text(array) if wanted == pa.string() else array.cast(wanted)


def _check_range(array: pa.Array, column: Column) -> None:
    """Servers of before 2026 put a date outside of these years to the nearest one inside."""
    if not (pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)):
        return
    ends = pc.min_max(array.cast(pa.date32(), safe=False)).as_py()
    if ends["min"] is not None and (ends["min"] < _FIRST or ends["max"] > _LAST):
        raise pa.ArrowInvalid(f"column {column.name} holds a date outside of {_FIRST} to {_LAST}")
