"""The SQL of a read: its columns, filter, cursor window and the part of the table that one connection takes."""

# ruff: noqa: S608  names are quoted by names.quoted, values by names.literal: COPY takes no parameters

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webapp.engine.connectors.base import Condition, Read
from webapp.engine.connectors.postgres.catalog import Relation
from webapp.engine.connectors.sums import is_whole
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import literal, quoted

_OPERATORS = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})


def table_sql(schema: str, name: str) -> str:
    """A relation's name as SQL."""
    return f"{quoted(schema)}.{quoted(name)}"


def select(read: Read, relation: Relation, bounds: Mapping[str, Any]) -> str:
    """The statement that gives the rows of one chunk. Raises EngineError for a column that is gone."""
    gone = [column.name for column in read.columns if column.name not in relation.attributes]
    if gone:
        raise EngineError(
            f"{read.stream.label} has no column {', '.join(gone)} any more",
            origin=Origin.SOURCE,
            fix="Discover the source again and choose the columns anew.",
        )
    columns = ", ".join(f"{relation.attributes[c.name].sql} AS {quoted(c.name)}" for c in read.columns)
    return statement(columns, read, relation, bounds)


def statement(columns: str, read: Read, relation: Relation, bounds: Mapping[str, Any]) -> str:
    """The statement that gives these columns, as SQL, of the rows of one chunk."""
    place = bounds.get("table") or [read.stream.namespace, read.stream.name]
    return f"SELECT {columns} FROM {table_sql(*place)}{where(read, relation, bounds)}"


def where(read: Read, relation: Relation, bounds: Mapping[str, Any] | None = None) -> str:
    """The WHERE clause of a read and a chunk, "" when all rows are meant."""
    parts = [*_pages(bounds or {}), *_window(read, relation)]
    if read.filter and read.filter.conditions:
        word = " OR " if read.filter.join.lower() == "or" else " AND "
        parts.append("(" + word.join(_condition(one, relation) for one in read.filter.conditions) + ")")
    return " WHERE " + " AND ".join(parts) if parts else ""


def _pages(bounds: Mapping[str, Any]) -> list[str]:
    first, end = bounds.get("first"), bounds.get("end")
    return ([f"ctid >= '({int(first)},0)'::tid"] if first else []) + (
        [f"ctid < '({int(end)},0)'::tid"] if end is not None else []
    )


def _window(read: Read, relation: Relation) -> list[str]:
    if read.cursor is None:
        return []
    name = quoted(known_column(read.cursor, relation))
    since = [] if read.since is None else [f"{name} >= {value(read.since)}"]
    return since if read.until is None else [*since, f"{name} <= {value(read.until)}"]


def _condition(condition: Condition, relation: Relation) -> str:
    name = quoted(known_column(condition.column, relation))
    if condition.op not in _OPERATORS:
        raise EngineError(
            f"{condition.op!r} is not a comparison",
            origin=Origin.USER,
            fix=f"Use one of {', '.join(sorted(_OPERATORS))}.",
        )
    if condition.value is None:
        return f"{name} IS {'NOT ' if condition.op in ('!=', '<>') else ''}NULL"
    return f"{name} {condition.op} {value(condition.value)}"


def addend(name: str, kind: str) -> str:
    """A column as sums take it: NaN is no number, and travels as null to other systems."""
    return quoted(name) if is_whole(kind) else f"nullif({quoted(name)}, 'NaN')"


def known_column(name: str, relation: Relation) -> str:
    """The name, when the relation has such a column. Raises EngineError otherwise."""
    if name not in relation.attributes:
        raise EngineError(
            f"there is no column {name} to filter or follow by",
            origin=Origin.SOURCE,
            fix=f"Choose one of {', '.join(list(relation.attributes)[:20])}.",
        )
    return name


def value(given: str | int | float | bool) -> str:
    """A value as a literal without a type: the column's type reads it."""
    text = str(given).lower() if isinstance(given, bool) else str(given)
    if "\0" in text:
        raise EngineError("a value to compare with holds a zero byte", origin=Origin.USER, fix="Change the filter.")
    return literal(text)
