"""Our types as ClickHouse's and back."""

from __future__ import annotations

import re

from webapp.engine.connectors.base import Column

MARK = "hohmann: "
"""Begins the comment of a column whose type ClickHouse has no word for; our word follows."""

_NATIVE = {
    "BOOLEAN": "Bool", "TINYINT": "Int8", "SMALLINT": "Int16", "INTEGER": "Int32", "BIGINT": "Int64",
    "HUGEINT": "Decimal(38, 0)", "UTINYINT": "UInt8", "USMALLINT": "UInt16", "UINTEGER": "UInt32",
    "UBIGINT": "UInt64", "FLOAT": "Float32", "DOUBLE": "Float64", "VARCHAR": "String", "UUID": "UUID",
    "DATE": "Date32", "TIMESTAMP": "DateTime64(6, 'UTC')", "TIMESTAMP_NS": "DateTime64(9, 'UTC')",
    "TIMESTAMP WITH TIME ZONE": "DateTime64(6, 'UTC')",
}  # fmt: skip
_BARE = {native: text for text, native in _NATIVE.items() if text not in ("HUGEINT", "TIMESTAMP")}
_DECIMAL = re.compile(r"Decimal\((\d+), (\d+)\)")
_AROUND = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")


def native_type(text: str) -> str:
    """The ClickHouse type that keeps a value of ours.

    Bytes, JSON, times, lists and structures are String: an Array cannot be null, and its JSON type orders keys anew.
    """
    if text.startswith("DECIMAL(") and not text.endswith("[]"):
        return text.replace("DECIMAL", "Decimal").replace(",", ", ")
    return _NATIVE.get(text, "String")


def definition(column: Column) -> str:
    """The column as CREATE TABLE and ALTER TABLE have it."""
    native = native_type(column.type)
    shown = f"Nullable({native})" if column.nullable else native
    comment = "" if our_type(native) == column.type else f" COMMENT {literal(MARK + column.type)}"
    return f"{quoted(column.name)} {shown}{comment}"


def column_of(name: str, native: str, comment: str) -> tuple[Column, bool]:
    """A column as the catalog describes it, and whether loads write its type; one that they do not is text to us."""
    plain = native
    while found := _AROUND.fullmatch(plain):
        plain = found[1]
    noted = comment.removeprefix(MARK) if comment.startswith(MARK) else ""
    kind = noted if noted and native_type(noted) == plain else our_type(plain)
    return Column(name, kind or "VARCHAR", "Nullable(" in native, native), kind is not None


def our_type(native: str) -> str | None:
    """The type of ours that a plain ClickHouse type stands for; None for one that loads do not write."""
    if found := _DECIMAL.fullmatch(native):
        return f"DECIMAL({found[1]},{found[2]})" if int(found[1]) <= 38 else None
    return _BARE.get(native)


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """A text as a quoted literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
