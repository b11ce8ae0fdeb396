"""Reads as statements of SQL Server, every value bound."""

from dataclasses import dataclass
from typing import Any

from webapp.engine.connectors.base import Column, Condition, Read
from webapp.engine.connectors.sqlserver.columns import projection, quoted
from webapp.engine.errors import EngineError, Origin

_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_PLACE = "\0"  # where a value goes; no name holds it, and at the end it becomes the driver's own sign
# Compared in the column's own type, so that an index helps, and not in the language of the session.
_CASTS = {
    "date": "date", "time": "time(7)", "datetime": "datetime", "smalldatetime": "datetime2(7)",
    "datetime2": "datetime2(7)", "datetimeoffset": "datetimeoffset(7)", "uniqueidentifier": "uniqueidentifier",
    "bit": "bit",
}  # fmt: skip
_FINER = frozenset({"datetime2", "datetimeoffset"})
"""Types with a digit more than Arrow's microseconds, which is cut when they are read."""


@dataclass(frozen=True)
class Statement:
    """A text for the driver, and the values that go into it."""

    text: str
    values: tuple[Any, ...]


def rows(read: Read) -> Statement:
    """The rows of a read. Raises EngineError for a filter that cannot be."""
    names = ", ".join(f"{projection(column)} AS {quoted(column.name)}" for column in read.columns)
    return _statement(f"SELECT {names}", read)


def high_water(read: Read) -> Statement:
    """The greatest value of the cursor. Raises EngineError for a filter that cannot be."""
    return _statement(f"SELECT MAX({quoted(_column(read, read.cursor or '').name)})", read)


def count(read: Read) -> Statement:
    """How many rows there are. Raises EngineError for a filter that cannot be."""
    return _statement("SELECT COUNT_BIG(*)", read)


def _statement(begin: str, read: Read) -> Statement:
    where, values = _where(read)
    text = f"{begin} FROM {quoted(read.stream.namespace)}.{quoted(read.stream.name)}{where}"
    if values:
        text = text.replace("%", "%%").replace(_PLACE, "%s")
    return Statement(text, tuple(values))


def _where(read: Read) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    if read.filter and read.filter.conditions:
        word = " OR " if read.filter.join.lower() == "or" else " AND "
        made = [_condition(_column(read, one.column), one, values) for one in read.filter.conditions]
        parts.append("(" + word.join(made) + ")")
    if read.cursor is not None:
        column = _column(read, read.cursor)
        parts += [
            _end(column, op, value, values)
            for op, value in ((">=", read.since), ("<=", read.until))
            if value is not None
        ]
    return (f" WHERE {' AND '.join(parts)}" if parts else ""), values


def _end(column: Column, op: str, value: Any, values: list[Any]) -> str:
    values.append(value)
    place = _place(column)
    if op == "<=" and column.native in _FINER:
        return f"{quoted(column.name)} < DATEADD(microsecond, 1, {place})"
    return f"{quoted(column.name)} {op} {place}"


def _condition(column: Column, one: Condition, values: list[Any]) -> str:
    name = quoted(column.name)
    if one.op not in _OPERATORS or (one.value is None and one.op not in ("=", "!=")):
        raise EngineError(
            f"{column.name} {one.op} {one.value} is no comparison",
            origin=Origin.USER,
            column=column.name,
            fix="Use = != < <= > >=, and with null only = and !=.",
        )
    if one.value is None:
        return f"{name} IS {'NOT ' if one.op == '!=' else ''}NULL"
    if column.type == "BLOB" or projection(column) != name:
        raise EngineError(
            f"{column.name} is {column.native}, which cannot be compared",
            origin=Origin.USER,
            column=column.name,
            fix="Filter by another column.",
        )
    values.append(one.value)
    return f"{name} {one.op.replace('!=', '<>')} {_place(column)}"


def _place(column: Column) -> str:
    kind = _CASTS.get(column.native)
    return f"CAST({_PLACE} AS {kind})" if kind else _PLACE


def _column(read: Read, name: str) -> Column:
    for column in read.stream.columns:
        if column.name == name:
            return column
    raise EngineError(
        f"{read.stream.label} has no column {name!r}",
        origin=Origin.USER,
        column=name,
        fix="Use one of the stream's columns.",
    )
