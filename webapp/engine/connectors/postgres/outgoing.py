"""Our types as PostgreSQL's, and batches in the form in which binary COPY takes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from webapp.engine.connectors.base import Column

_NATIVE = {
    "BOOLEAN": "boolean", "TINYINT": "smallint", "UTINYINT": "smallint", "SMALLINT": "smallint",
    "USMALLINT": "integer", "INTEGER": "integer", "UINTEGER": "bigint", "BIGINT": "bigint",
    "UBIGINT": "numeric(20,0)", "HUGEINT": "numeric(38,0)", "FLOAT": "real", "DOUBLE": "double precision",
    "VARCHAR": "text", "JSON": "json", "UUID": "uuid", "BLOB": "bytea", "DATE": "date", "TIME": "time",
    "TIMESTAMP": "timestamp", "TIMESTAMP_NS": "timestamp", "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
}  # fmt: skip
_WIRE = {
    "TINYINT": pa.int16(), "UTINYINT": pa.int16(), "USMALLINT": pa.int32(), "UINTEGER": pa.int64(),
    "UBIGINT": pa.decimal128(20, 0), "TIMESTAMP_NS": pa.timestamp("us"),
}  # fmt: skip
_KEPT = {
    "TINYINT": "SMALLINT", "UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT",
    "UBIGINT": "DECIMAL(20,0)", "HUGEINT": "DECIMAL(38,0)", "TIMESTAMP_NS": "TIMESTAMP",
}  # fmt: skip


def native_type(text: str) -> str:
    """The PostgreSQL type that keeps a value of ours; structures and lists of lists are kept as JSON."""
    if text in _NATIVE:
        return _NATIVE[text]
    if text.startswith("DECIMAL("):
        return text.replace("DECIMAL", "numeric", 1) if not text.endswith("[]") else f"{native_type(text[:-2])}[]"
    if text.endswith("[]") and text[:-2] in _NATIVE and text[:-2] != "JSON":
        return f"{native_type(text[:-2])}[]"
    return "json"


def kept_type(text: str) -> str:
    """What the column will be called when it is read back."""
    if text.endswith("[]"):
        return f"{kept_type(text[:-2])}[]" if native_type(text) != "json" else "JSON"
    return "JSON" if native_type(text) == "json" else _KEPT.get(text, text)


def ingestible(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    """The batch as COPY takes it into a table of `native_type`s. Raises pyarrow.ArrowInvalid for what does not fit."""
    arrays = [_wire(array, column.type) for array, column in zip(batch.columns, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def wire_schema(columns: Sequence[Column]) -> pa.Schema:
    """The schema of `ingestible` batches."""
    from webapp.engine.connectors.types import arrow_schema

    empty = [pa.array([], field.type) for field in arrow_schema(columns)]
    arrays = [_wire(array, column.type) for array, column in zip(empty, columns, strict=True)]
    return pa.schema([pa.field(column.name, array.type) for column, array in zip(columns, arrays, strict=True)])


def _wire(array: pa.Array, text: str) -> pa.Array:
    if native_type(text) == "json" and text != "JSON":
        return pa.array([None if value is None else _json(value) for value in array.to_pylist()], pa.string())
    if text.endswith("[]"):
        values = _wire(array.values, text[:-2])
        if values is array.values:
            return array
        offsets = array.offsets
        if array.null_count:
            valid = pa.concat_arrays([array.is_valid(), pa.array([True])])
            offsets = pc.if_else(valid, offsets, pa.scalar(None, pa.int32()))
        return pa.ListArray.from_arrays(offsets, values)
    if text == "UUID":
        return _uuids(array)
    if text in _WIRE:
        return array.cast(_WIRE[text], safe=text != "TIMESTAMP_NS")
    return array


def _uuids(texts: pa.Array) -> pa.Array:
    """The sixteen bytes of each."""
    digits = pc.replace_substring(texts, "-", "").fill_null("0" * 32)
    joined = "".join(digits.to_pylist())
    try:
        data = bytes.fromhex(joined)
    except ValueError as error:
        raise pa.ArrowInvalid(f"a text is not a UUID: {error}") from error
    if len(data) != 16 * len(texts) or pc.any(pc.not_equal(pc.utf8_length(digits), 32)).as_py():
        raise pa.ArrowInvalid("a text is not a UUID")
    valid = pc.is_valid(texts)
    bits = None if not texts.null_count else valid.buffers()[1]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(texts), [bits, pa.py_buffer(data)])


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
