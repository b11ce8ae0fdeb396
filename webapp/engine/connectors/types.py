"""One vocabulary of types: DuckDB's words, what Arrow carries for each, and contract 002's JSON words for them."""

import re
from collections.abc import Iterable

import pyarrow as pa

from webapp.engine.connectors.base import Column
from webapp.engine.connectors.words import json_words

__all__ = ["arrow_schema", "arrow_type", "duckdb_type", "json_words", "struct_fields"]

_PLAIN = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "HUGEINT": pa.decimal128(38, 0),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "UUID": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def arrow_type(text: str) -> pa.DataType:
    """What Arrow carries for a DuckDB type: UUID and JSON travel as text. Raises ValueError for an unknown one."""
    if text in _PLAIN:
        return _PLAIN[text]
    if found := _DECIMAL.fullmatch(text):
        return pa.decimal128(int(found[1]), int(found[2]))
    if text.endswith("[]"):
        return pa.list_(arrow_type(text[:-2]))
    if text.startswith("STRUCT("):
        return pa.struct([pa.field(name, arrow_type(kind)) for name, kind in struct_fields(text)])
    raise ValueError(f"{text!r} is not a type that travels")


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The schema that batches of these columns have."""
    return pa.schema([pa.field(column.name, arrow_type(column.type), column.nullable) for column in columns])


def struct_fields(text: str) -> list[tuple[str, str]]:
    """The fields of `STRUCT(a INTEGER, "b c" VARCHAR[])` as (name, type)."""
    fields, depth, quoted, start = [], 0, False, 0
    inner = text[len("STRUCT(") : -1]
    for at, sign in enumerate(inner):
        quoted ^= sign == '"'
        depth += 0 if quoted else (sign == "(") - (sign == ")")
        if sign == "," and not depth and not quoted:
            fields.append(inner[start:at])
            start = at + 1
    return [_field(part.strip()) for part in [*fields, inner[start:]]]


def _field(text: str) -> tuple[str, str]:
    if text.startswith('"'):
        end = re.match(r'"(?:[^"]|"")*"', text)
        assert end is not None
        return end[0][1:-1].replace('""', '"'), text[end.end() :].strip()
    name, _, kind = text.partition(" ")
    return name, kind.strip()


def duckdb_type(kind: pa.DataType) -> str:
    """The DuckDB type of what Arrow carries; types without a word of their own become VARCHAR."""
    for text, plain in _PLAIN.items():
        if plain == kind:
            return text
    return _other(kind)


def _other(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})" if kind.precision <= 38 else "VARCHAR"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else ("TIMESTAMP_NS" if kind.unit == "ns" else "TIMESTAMP")
    if pa.types.is_date(kind):
        return "DATE"
    if pa.types.is_time(kind):
        return "TIME"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return duckdb_type(kind.value_type) + "[]"
    if pa.types.is_struct(kind):
        inner = ", ".join(f'"{f.name.replace(chr(34), chr(34) * 2)}" {duckdb_type(f.type)}' for f in kind)
        return f"STRUCT({inner})"
    return "DOUBLE" if pa.types.is_floating(kind) else "VARCHAR"
