"""Reading what DuckDB can read, as a stream of exactly the columns that were asked for.

Used by the sources that DuckDB reads for: its own files, CSV, JSON and Parquet files, the gathered pages of an API.
"""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Column, Condition, Read
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.names import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH = 50_000
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_ZONE = re.compile(r"(?:Z|[+-]\d{2}(?::?\d{2})?)$", re.IGNORECASE)
_LONG_INTEGERS = ("BIGINT", "UBIGINT", "HUGEINT")
Explain = Callable[[Exception], EngineError | None]


@dataclass(frozen=True)
class Relation:
    """A table expression with values for $1 and on, and the DuckDB types of the columns that it has."""

    sql: str
    parameters: list[Any]
    types: Mapping[str, str]


def described(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any]) -> Relation:
    """Ask DuckDB for the columns of a table expression. Raises duckdb.Error."""
    rows = connection.execute(f"DESCRIBE SELECT * FROM {sql}", parameters).fetchall()
    return Relation(sql, parameters, {str(row[0]): str(row[1]) for row in rows})


def travelling(type_: str) -> str:
    """The type that a column of this DuckDB type has on its way: itself, or the next one that Arrow can carry."""
    from webapp.engine.connectors.types import arrow_type, struct_fields

    if type_.endswith("]"):
        return travelling(type_[: type_.rindex("[")]) + "[]"
    if type_.startswith("STRUCT("):
        return "STRUCT(" + ", ".join(f"{quoted(name)} {travelling(kind)}" for name, kind in struct_fields(type_)) + ")"
    if type_ in ("TIMESTAMP_S", "TIMESTAMP_MS"):
        return "TIMESTAMP"
    if type_.startswith(("MAP(", "UNION(", "VARIANT")):
        return "JSON"
    try:
        arrow_type(type_)
    except ValueError:
        return "VARCHAR"
    return type_


def reader(
    connection: duckdb.DuckDBPyConnection, relation: Relation, read: Read, context: Context, explain: Explain
) -> pa.RecordBatchReader:
    """The rows of a read; the connection is closed behind the last one.

    Raises EngineError, also when a column's type has changed so that its values would not fit.
    """
    import duckdb
    import pyarrow as pa

    from webapp.engine.connectors.types import arrow_schema

    if not read.columns:
        connection.close()
        raise EngineError(f"{read.stream.label} has no columns to read", origin=Origin.USER, stream=read.stream.label,
                          fix="Choose columns; when there are none, discover again once there are rows.")  # fmt: skip
    columns = ", ".join(_selected(relation, read, column) for column in read.columns)
    condition, bound = where(read, len(relation.parameters))
    schema = arrow_schema(read.columns)
    try:
        rows = connection.sql(
            f"SELECT {columns} FROM {relation.sql}{condition}", params=[*relation.parameters, *bound]
        ).to_arrow_reader(BATCH)
    except duckdb.Error as error:
        connection.close()
        raise explain(error) or fault(error) from error
    return pa.RecordBatchReader.from_batches(schema, _batches(connection, rows, schema, context, explain))


def one(connection: duckdb.DuckDBPyConnection, select: str, relation: Relation, read: Read) -> Any:
    """One value over the rows of a read. Raises duckdb.Error, and EngineError for a wrong filter."""
    (value,) = row(connection, select, relation, read)
    return value


def row(connection: duckdb.DuckDBPyConnection, select: str, relation: Relation, read: Read) -> tuple[Any, ...]:
    """One row of values over the rows of a read. Raises duckdb.Error, and EngineError for a wrong filter."""
    condition, bound = where(read, len(relation.parameters))
    sql = f"SELECT {select} FROM {relation.sql}{condition}"
    # All rows are taken, since a result that is not at its end blocks the connection.
    (found,) = connection.execute(sql, [*relation.parameters, *bound]).fetchall()
    return tuple(found)


def greatest(connection: duckdb.DuckDBPyConnection, relation: Relation, read: Read) -> Any:
    """The greatest cursor value of a read, JSON-able. Raises duckdb.Error."""
    column = column_of(read, read.cursor or "")
    whole = column.type in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
    name = f"max({quoted(column.name)})"
    return one(connection, name if whole else f"CAST({name} AS VARCHAR)", relation, read)


def where(read: Read, taken: int) -> tuple[str, list[Any]]:
    """The WHERE clause of a read, "" when all rows are wanted, and its values, numbered after those `taken`."""
    bound: list[Any] = []

    def made(condition: Condition) -> str:
        column = checked(read, condition)
        sql = _condition(column, condition, taken + len(bound) + 1)
        if condition.value is not None:
            bound.append(_zoned(column, condition.value))
        return sql

    parts = []
    if read.filter and read.filter.conditions:
        word = " OR " if read.filter.join.lower() == "or" else " AND "
        parts.append("(" + word.join([made(condition) for condition in read.filter.conditions]) + ")")
    for op, value in ((">=", read.since), ("<=", read.until)):
        if read.cursor is not None and value is not None:
            parts.append(made(Condition(read.cursor, op, value)))
    return (" WHERE " + " AND ".join(parts) if parts else ""), bound


def column_of(read: Read, name: str) -> Column:
    """A column of the read's stream. Raises EngineError when there is none."""
    for column in read.stream.columns:
        if column.name == name:
            return column
    raise EngineError(f"{read.stream.label} has no column {name!r}", origin=Origin.USER, column=name,
                      fix="Use one of the stream's columns.")  # fmt: skip


def checked(read: Read, condition: Condition) -> Column:
    """The column of a condition that makes sense: it is the stream's, the comparison is one, the value has its type.

    Raises EngineError for another, which names what is wrong.
    """
    import duckdb

    column = column_of(read, condition.column)
    if condition.op not in _OPERATORS:
        raise EngineError(f"{condition.op!r} is not a comparison", origin=Origin.USER,
                          fix="Use one of = != < <= > >=.")  # fmt: skip
    if condition.value is None:
        if condition.op not in ("=", "!="):
            raise EngineError(f"{column.name} {condition.op} null is never true", origin=Origin.USER,
                              column=column.name, fix="Compare with null by = or !=.")  # fmt: skip
        return column
    try:
        with duckdb.connect(":memory:") as scratch:
            value = _zoned(column, condition.value)
            scratch.execute(f"SELECT CAST(CAST($1 AS {column.type}) AS VARCHAR)", [value]).fetchone()
    except duckdb.Error as error:
        raise EngineError(f"{condition.value!r} is not a {column.type}, which {column.name} is", origin=Origin.USER,
                          column=column.name, fix="Correct the value.") from error  # fmt: skip
    return column


def fault(error: Exception) -> EngineError:
    """What DuckDB complains of while a source is read, when nobody knows better."""
    line = next(iter(str(error).splitlines()), "no reason given")
    if "INTERRUPT" in line:
        return Cancelled()
    full = "No space left" in line
    if full or "Out of Memory" in line:
        return EngineError(
            f"the rows cannot be held here: {line}", origin=Origin.PLATFORM, kind=Kind.SYSTEM, permanent=not full,
            fix="Free space in the temporary folder, or raise the memory limit.",
        )  # fmt: skip
    return EngineError(f"the source cannot be read: {line}", origin=Origin.SOURCE,
                       fix="Discover the stream again, or correct the value.")  # fmt: skip


def _batches(
    connection: duckdb.DuckDBPyConnection,
    rows: pa.RecordBatchReader,
    schema: pa.Schema,
    context: Context,
    explain: Explain,
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    try:
        for batch in rows:
            if context.cancelled():
                raise Cancelled
            yield batch.cast(schema)
    # PyArrow passes DuckDB's own errors on as OSError.
    except (OSError, ValueError, pa.ArrowException) as error:
        raise explain(error) or fault(error) from error
    finally:
        rows.close()
        connection.close()


def _selected(relation: Relation, read: Read, column: Column) -> str:
    name = quoted(column.name)
    # DuckDB finds a column however its name is spelled.
    actual = next((type_ for known, type_ in relation.types.items() if known.lower() == column.name.lower()), None)
    carried = _carried(column.type)
    if actual is None or actual == '"NULL"':
        return f"CAST(NULL AS {carried}) AS {name}"
    _check_fit(read, column, actual)
    if column.type in ("VARCHAR", "JSON") and (
        actual.endswith("]") or actual.startswith(("STRUCT(", "MAP(", "UNION("))
    ):
        return f"CAST(to_json({name}) AS VARCHAR) AS {name}"
    if column.type in ("DOUBLE", "FLOAT") and actual in _LONG_INTEGERS:
        problem = literal(f"{column.name} brings an integer that a DOUBLE would round")
        exact = f"{name}::{column.type}::HUGEINT = {name}::HUGEINT"
        return f"CASE WHEN {name} IS NULL OR {exact} THEN {name}::{column.type} ELSE error({problem}) END AS {name}"
    return f"CAST({name} AS {carried}) AS {name}"


def _check_fit(read: Read, column: Column, actual: str) -> None:
    from webapp.engine.drift import common_type

    brings = travelling(actual)
    as_text = column.type == "VARCHAR" and brings != "BLOB"
    if brings == column.type or as_text or common_type(column.type, brings) == column.type:
        return
    raise EngineError(
        f"column {column.name} of {read.stream.label} was {column.type} and is {brings} now",
        origin=Origin.SOURCE, stream=read.stream.label, column=column.name,
        fix="Discover the streams again, so that the column gets its new type.",
    )  # fmt: skip


def _carried(type_: str) -> str:
    """The type to cast to, so that Arrow gets what `types.arrow_schema` promises."""
    from webapp.engine.connectors.types import struct_fields

    if type_.endswith("[]"):
        return _carried(type_[:-2]) + "[]"
    if type_.startswith("STRUCT("):
        return "STRUCT(" + ", ".join(f"{quoted(name)} {_carried(kind)}" for name, kind in struct_fields(type_)) + ")"
    return {"UUID": "VARCHAR", "JSON": "VARCHAR", "HUGEINT": "DECIMAL(38,0)"}.get(type_, type_)


def _condition(column: Column, condition: Condition, number: int) -> str:
    name = quoted(column.name)
    if condition.value is None:
        return f"{name} IS {'NOT ' if condition.op == '!=' else ''}NULL"
    return f"{name} {condition.op} CAST(${number} AS {column.type})"


def _zoned(column: Column, value: Any) -> Any:
    """The value as DuckDB shall read it, an instant without a zone being UTC."""
    if column.type == "TIMESTAMP WITH TIME ZONE" and isinstance(value, str) and not _ZONE.search(value[10:]):
        return f"{value}+00:00"
    return value
