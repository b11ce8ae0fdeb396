"""Which files and rows a read need not look at, as Iceberg's expressions.

Only conditions are taken whose values Iceberg compares as DuckDB does; the others cost time, not truth, because DuckDB
filters the rows once more.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Condition, Read

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.schema import Schema

_BITS = {"int": 32, "long": 64}


def row_filter(read: Read, schema: Schema) -> BooleanExpression:
    """What rows of the read satisfy, at least; `schema` is the table's."""
    from pyiceberg.expressions import AlwaysTrue, And

    found: BooleanExpression = AlwaysTrue()
    for one in _necessary(read):
        if (expression := _expression(schema, one)) is not None:
            found = And(found, expression)
    return found


def _necessary(read: Read) -> list[Condition]:
    """The conditions of which each must hold."""
    found: list[Condition] = []
    chosen = read.filter
    if chosen and (chosen.join.lower() == "and" or len(chosen.conditions) == 1):
        found += chosen.conditions
    if read.cursor is not None:
        window = ((">=", read.since), ("<=", read.until))
        found += [Condition(read.cursor, op, value) for op, value in window if value is not None]
    return found


def needed(read: Read) -> tuple[str, ...]:
    """The columns that the read's conditions look at."""
    conditions = read.filter.conditions if read.filter else ()
    return tuple(dict.fromkeys([*(one.column for one in conditions), *([read.cursor] if read.cursor else [])]))


def _expression(schema: Schema, condition: Condition) -> BooleanExpression | None:
    from pyiceberg import expressions

    kind = next((str(field.field_type) for field in schema.fields if field.name == condition.column), None)
    if kind is None:
        return None
    if condition.value is None:
        nulls: dict[str, Any] = {"=": expressions.IsNull, "!=": expressions.NotNull}
        return nulls[condition.op](condition.column) if condition.op in nulls else None
    value = _literal(kind, condition.value)
    operators: dict[str, Any] = {
        "=": expressions.EqualTo,
        "<": expressions.LessThan,
        "<=": expressions.LessThanOrEqual,
        ">": expressions.GreaterThan,
        ">=": expressions.GreaterThanOrEqual,
    }
    return operators[condition.op](condition.column, value) if value is not None and condition.op in operators else None


def _literal(kind: str, value: Any) -> Any:
    """The value as Iceberg takes it, None where it might be compared otherwise than by DuckDB."""
    try:
        if kind in _BITS and str(value).lstrip("+-").isdecimal():
            limit = 2 ** (_BITS[kind] - 1)
            return int(value) if -limit <= int(value) < limit else None
        if kind == "date":
            return date.fromisoformat(str(value)).isoformat()
        if kind in ("timestamp", "timestamptz"):
            return _moment(str(value), aware=kind == "timestamptz")
    except ValueError:
        return None
    return value if kind == "string" and isinstance(value, str) else None


def _moment(text: str, *, aware: bool) -> str | None:
    moment = datetime.fromisoformat(text)
    if not aware:
        return None if moment.tzinfo else moment.isoformat(timespec="microseconds")
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")
