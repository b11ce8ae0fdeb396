"""Names and types of ours as Snowflake's, and back."""

from __future__ import annotations

import re

from webapp.engine.connectors.base import Column

MARK = "hohmann: "
"""Begins the comment of a column whose type Snowflake has no word for, and of a table whose state is known."""

_NATIVE = {
    "BOOLEAN": "BOOLEAN", "TINYINT": "NUMBER(3,0)", "SMALLINT": "NUMBER(5,0)", "INTEGER": "NUMBER(10,0)",
    "BIGINT": "NUMBER(19,0)", "HUGEINT": "NUMBER(38,0)", "UTINYINT": "NUMBER(3,0)", "USMALLINT": "NUMBER(5,0)",
    "UINTEGER": "NUMBER(10,0)", "UBIGINT": "NUMBER(20,0)", "FLOAT": "FLOAT", "DOUBLE": "FLOAT", "BLOB": "BINARY",
    "DATE": "DATE", "TIME": "TIME(6)", "TIMESTAMP": "TIMESTAMP_NTZ(6)", "TIMESTAMP_NS": "TIMESTAMP_NTZ(9)",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ(6)",
}  # fmt: skip
_BARE = {
    "BOOLEAN": "BOOLEAN", "FLOAT": "DOUBLE", "TEXT": "VARCHAR", "BINARY": "BLOB", "DATE": "DATE", "TIME(6)": "TIME",
    "TIMESTAMP_NTZ(6)": "TIMESTAMP", "TIMESTAMP_NTZ(9)": "TIMESTAMP_NS",
    "TIMESTAMP_TZ(6)": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_FOLDED = re.compile(r"[a-z_][a-z0-9_$]*")
_NUMBER = re.compile(r"NUMBER\((\d+),(\d+)\)")


def folded(name: str) -> str:
    """The name as the catalog has it: plain ones in upper case, so that people need no quotes."""
    return name.upper() if _FOLDED.fullmatch(name) else name


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + folded(name).replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a quoted literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def native_type(text: str) -> str:
    """The Snowflake type that keeps a value of ours; JSON, lists and structures are text (PARSE_JSON reads them)."""
    if text.startswith("DECIMAL(") and not text.endswith("[]"):
        return text.replace("DECIMAL", "NUMBER")
    return _NATIVE.get(text, "VARCHAR")


def definition(column: Column) -> str:
    """The column as CREATE TABLE and ALTER TABLE have it."""
    null = "" if column.nullable else " NOT NULL"
    return f"{quoted(column.name)} {native_type(column.type)}{null}{comment(column.type)}"


def comment(text: str) -> str:
    """The clause that notes a type which the column alone does not tell."""
    return "" if our_type(_catalogued(native_type(text))) == text else f" COMMENT {literal(MARK + text)}"


def column_of(name: str, native: str, nullable: bool, noted: str) -> tuple[Column, bool]:
    """A column as the catalog describes it, and whether loads write its type; one that they do not is text to us."""
    text = noted.removeprefix(MARK) if noted.startswith(MARK) else ""
    kind = text if text and _catalogued(native_type(text)) == native else our_type(native)
    return Column(name, kind or "VARCHAR", nullable, native), kind is not None


def our_type(native: str) -> str | None:
    """The type of ours that a type of the catalog stands for; None for one that loads do not write."""
    if found := _NUMBER.fullmatch(native):
        return f"DECIMAL({found[1]},{found[2]})"
    return _BARE.get(native)


def _catalogued(native: str) -> str:
    return "TEXT" if native == "VARCHAR" else native
