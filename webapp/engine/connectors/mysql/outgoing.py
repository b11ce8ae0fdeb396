"""Our types as MySQL's, and batches as the rows of INSERT statements."""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.mysql.columns import quoted, type_of

MARK = "hohmann: "
"""Begins the comment of a column whose type MySQL has no word for; our word follows."""

_NATIVE = {
    "BOOLEAN": "tinyint(1)", "TINYINT": "tinyint", "SMALLINT": "smallint", "INTEGER": "int", "BIGINT": "bigint",
    "UTINYINT": "tinyint unsigned", "USMALLINT": "smallint unsigned", "UINTEGER": "int unsigned",
    "UBIGINT": "bigint unsigned", "HUGEINT": "decimal(38,0)", "FLOAT": "float", "DOUBLE": "double",
    "VARCHAR": "longtext", "JSON": "longtext", "UUID": "char(36)", "BLOB": "longblob", "DATE": "date",
    "TIME": "time(6)", "TIMESTAMP": "datetime(6)", "TIMESTAMP_NS": "datetime(6)",
    "TIMESTAMP WITH TIME ZONE": "datetime(6)", "INTERVAL": "varchar(64)",
}  # fmt: skip
_UNQUOTED = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_LARGEST_SCALE = 30
_LONGEST_COMMENT = 1000
_KEY_LENGTH = 255
_KEY_WORDS = {"longtext": "varchar", "longblob": "varbinary"}
_PIECE_BYTES = 16 << 20
_BYTES = pa.binary()


def native_type(text: str) -> str:
    """The MySQL type that keeps a value of ours; lists and structures are kept as JSON text."""
    if text.startswith("DECIMAL(") and not text.endswith("[]"):
        scale = int(text[:-1].partition(",")[2])
        return text.lower() if scale <= _LARGEST_SCALE else "varchar(64)"
    return _NATIVE.get(text, "longtext")


def definition(column: Column, *, key: bool = False, collation: str = "", options: str = "NULL") -> str:
    """The column as CREATE TABLE has it. `collation` is for its text; texts of a key have 255 characters."""
    native = native_type(column.type)
    if key and native in _KEY_WORDS:
        native = f"{_KEY_WORDS[native]}({_KEY_LENGTH})"
    collated = f" COLLATE {collation}" if collation and native.startswith(("longtext", "varchar", "char")) else ""
    return f"{quoted(column.name)} {native}{collated} {options}{_comment(column.type, native)}"


def noted_type(data_type: str, column_type: str, comment: str = "") -> str:
    """Our type of a column that is there: by its comment where a load left one that still fits, else by MySQL's."""
    noted = comment.removeprefix(MARK) if comment.startswith(MARK) else ""
    native = _word(native_type(noted))
    if noted and data_type in (native, _KEY_WORDS.get(native)):
        return noted
    return "TIME" if data_type == "time" else type_of(data_type, column_type)


def value_lists(batch: pa.RecordBatch, columns: Sequence[Column], limit: int) -> Iterator[tuple[bytes, int]]:
    """The batch as texts `(1,'a'),(2,NULL)` of at most `limit` bytes, each with its number of rows.

    Raises pyarrow.ArrowInvalid for a value that MySQL cannot hold, and for a row longer than `limit`.
    """
    rows = max(1, batch.num_rows * _PIECE_BYTES // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, rows):
        yield from _cut(_written(batch.slice(start, rows), columns), limit)


def _comment(text: str, native: str) -> str:
    if noted_type(_word(native), native) == text:
        return ""
    noted = text if len(text) <= _LONGEST_COMMENT else "JSON"
    return " COMMENT '" + (MARK + noted).replace("\\", "\\\\").replace("'", "''") + "'"


def _word(native: str) -> str:
    """`int` of `int unsigned`, `decimal` of `decimal(10,2)`: what the catalog calls the data type."""
    return native.partition("(")[0].partition(" ")[0]


def _cut(rows: pa.Array, limit: int) -> Iterator[tuple[bytes, int]]:
    offsets, data = memoryview(rows.buffers()[1]).cast("i"), memoryview(rows.buffers()[2])
    start, count = 0, len(rows)
    while start < count:
        end = bisect_right(offsets, offsets[start] + limit, start + 1, count + 1) - 1
        if end == start:
            size = offsets[start + 1] - offsets[start]
            raise pa.ArrowInvalid(f"a row has {size:,} bytes, and the server takes {limit:,} (max_allowed_packet)")
        yield bytes(data[offsets[start] : offsets[end] - 1]), end - start
        start = end


def _written(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.Array:
    """Each row as `(1,'a'),` in bytes."""
    values = [_literals(array, column) for array, column in zip(batch.columns, columns, strict=True)]
    inner = pc.binary_join_element_wise(*values, _bytes(","))
    return pc.binary_join_element_wise(_bytes("("), inner, _bytes("),"), _bytes(""))


def _literals(array: pa.Array, column: Column) -> pa.Array:
    if column.type in _UNQUOTED:
        texts = array.cast(pa.string()).cast(_BYTES)
    elif column.type in ("FLOAT", "DOUBLE"):
        if not pc.all(pc.is_finite(array), min_count=0).as_py():
            raise pa.ArrowInvalid(f"column {column.name} holds NaN or an infinity, which MySQL does not know")
        texts = array.cast(pa.string()).cast(_BYTES)
    elif column.type == "BLOB":
        texts = _quoted(array, "_binary'")
    else:
        texts = _quoted(_texts(array, column.type).cast(_BYTES), "'")
    return pc.fill_null(texts, _bytes("NULL"))


def _quoted(values: pa.Array, begin: str) -> pa.Array:
    for sign in ("\\", "'"):
        values = pc.replace_substring(values, sign.encode(), b"\\" + sign.encode())
    return pc.binary_join_element_wise(_bytes(begin), values, _bytes("'"), _bytes(""))


def _texts(array: pa.Array, text: str) -> pa.Array:
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_timestamp(array.type):  # in UTC; digits beyond microseconds are cut
        return array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.timestamp("us")).cast(pa.string())
    if text == "INTERVAL":
        return _each(array, lambda value: f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:.6f}S")
    if native_type(text) == "longtext":
        return _each(array, lambda value: json.dumps(value, default=_plain, ensure_ascii=False))
    return array.cast(pa.string())


def _each(array: pa.Array, write: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else write(value) for value in array.to_pylist()], pa.string())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _bytes(text: str) -> pa.Scalar:
    return pa.scalar(text.encode(), _BYTES)
