"""Filters and cursor windows as SQLite's conditions, every value bound."""

from typing import Any

from webapp.engine.connectors.base import Column, Condition, Read
from webapp.engine.connectors.sqlite import values
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import quoted

_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


def where(read: Read) -> tuple[str, list[Any]]:
    """The WHERE clause of a read, "" when all rows are wanted, and its values. Raises EngineError for a wrong value."""
    types = {column.name: column for column in read.stream.columns}
    parts, bound = [], []
    if read.filter and read.filter.conditions:
        made = [_condition(types, condition) for condition in read.filter.conditions]
        word = " OR " if read.filter.join.lower() == "or" else " AND "
        parts.append("(" + word.join(sql for sql, _ in made) + ")")
        bound += [value for _, found in made for value in found]
    for op, value in ((">=", read.since), ("<=", read.until)):
        if read.cursor is not None and value is not None:
            sql, found = _condition(types, Condition(read.cursor, op, value))
            parts.append(sql)
            bound += found
    return (" WHERE " + " AND ".join(parts) if parts else ""), bound


def _condition(types: dict[str, Column], condition: Condition) -> tuple[str, list[Any]]:
    column = types.get(condition.column)
    if column is None or condition.op not in _OPERATORS:
        raise EngineError(
            f"the filter names {condition.column!r} {condition.op!r}, which the stream does not have",
            origin=Origin.USER, column=condition.column, fix="Use the stream's columns, and = != < <= > >=.",
        )  # fmt: skip
    if condition.value is None:
        if condition.op not in ("=", "!="):
            raise EngineError(f"{condition.column} {condition.op} null is never true", origin=Origin.USER,
                              column=condition.column, fix="Compare with null by = or !=.")  # fmt: skip
        return f"{quoted(column.name)} IS {'NOT ' if condition.op == '!=' else ''}NULL", []
    expression = f"hohmann_instant({quoted(column.name)})" if column.type in values.TIMES else quoted(column.name)
    return f"{expression} {condition.op} ?", [_comparable(column, condition.value)]


def _comparable(column: Column, value: Any) -> Any:
    try:
        return _converted(column.type, value)
    except (ValueError, OverflowError) as error:
        raise EngineError(
            f"{value!r} is not a {column.type}, which {column.name} is", origin=Origin.USER, column=column.name,
            fix="Correct the value that the column is compared with.",
        ) from error  # fmt: skip


def _converted(type_: str, value: Any) -> Any:
    if type_ == "BIGINT":
        number = float(value)
        return int(value) if isinstance(value, int | str) and number == int(number) else number
    if type_ == "DOUBLE" or type_.startswith("DECIMAL"):
        return float(value)
    if type_ == "BOOLEAN":
        return {"true": 1, "1": 1, "false": 0, "0": 0}.get(str(value).lower(), value)
    if type_ in values.TIMES:
        stamp = values.microseconds(str(value))
        if stamp is None:
            raise ValueError(value)
        return stamp
    if type_ == "BLOB":
        return str(value).encode()
    return str(value)
