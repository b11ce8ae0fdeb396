"""The first rows of a loaded table, for a page to show."""

import base64
import datetime
import decimal
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
from pydantic import ValidationError

from webapp.engine.context import Context
from webapp.engine.database import reading
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.names import TableName, quoted
from webapp.engine.specs import parse_loader
from webapp.engine.tasks import shown_file, target_file

_MOST_ROWS = 1000


@dataclass(frozen=True)
class Preview:
    """Columns with their types, some rows with JSON-able values, and how many rows there are in all."""

    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    total: int


def preview_table(loader: Mapping[str, Any], context: Context, *, limit: int = 50) -> Preview:
    """Return up to ``limit`` (at most 1000) rows of a loader's table, waiting for a running load.

    Raises EngineError when there is no such file or table, or it stays in use beyond the lock timeout.
    """
    try:
        spec = parse_loader(loader)
    except ValidationError as error:
        raise EngineError("the loader's configuration is wrong", origin=Origin.USER) from error
    database = target_file(spec, context)
    if database is None:
        raise EngineError("a database in memory is gone after its run", origin=Origin.USER)
    table, shown = TableName.parse(spec.table_name), shown_file(spec)
    with reading(database, context, shown=shown) as connection:
        try:
            return _looked(connection, table, max(0, min(limit, _MOST_ROWS)))
        except duckdb.CatalogException as error:
            raise EngineError(f"{shown} has no table {table} yet", origin=Origin.DESTINATION, table=str(table),
                              fix="Run the load first.") from error  # fmt: skip
        except duckdb.Error as error:
            raise EngineError(f"{table} in {shown} cannot be read: {error}", origin=Origin.DESTINATION,
                              kind=Kind.SYSTEM) from error  # fmt: skip


def _looked(connection: duckdb.DuckDBPyConnection, table: TableName, limit: int) -> Preview:
    counted = connection.execute(f"SELECT count(*) FROM {table.sql}").fetchone()  # noqa: S608  the name is quoted
    described = connection.execute(f"DESCRIBE {table.sql}").fetchall()
    columns = [(str(row[0]), str(row[1])) for row in described]
    shown = ", ".join(_shown(name, type_) for name, type_ in columns)
    rows = connection.execute(f"SELECT {shown} FROM {table.sql} LIMIT {limit:d}").fetchall()  # noqa: S608
    return Preview(
        columns,
        [[jsonable(value) for value in row] for row in rows],
        int(counted[0]) if counted else 0,
    )


def _shown(name: str, type_: str) -> str:
    # DuckDB's Python client needs another package for instants with a zone; JSON carries them as text anyway.
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({quoted(name)} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f+00:00')"
    return f"to_json({quoted(name)})::VARCHAR" if "TIME ZONE" in type_ else quoted(name)


def jsonable(value: Any) -> Any:
    """Return a value of DuckDB as JSON can carry it: instants as ISO 8601, exact decimals and bytes as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode()
        case decimal.Decimal() | uuid.UUID() | datetime.timedelta():
            return str(value)
        case dict():
            return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [jsonable(item) for item in value]
    return str(value)
