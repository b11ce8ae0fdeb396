"""What a destination's DuckDB file holds beside the users' tables, and the few questions asked of it.

`_hohmann.state` has a row for each table that syncs write, `_hohmann.generations` one for each earlier content that can
be brought back. Tables aside are named `_hohmann_stage_…` and `_hohmann_parachute_…` and lie beside the table that they
belong to, because DuckDB renames within a schema at once, but moves between schemas only by copying all rows.
"""

# ruff: noqa: S608  names are quoted, values are bound

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import duckdb

from webapp.engine.connectors.base import Column
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import TableName, quoted

STAGE = "_hohmann_stage_"
PARACHUTE = "_hohmann_parachute_"
_MADE = (
    "CREATE SCHEMA IF NOT EXISTS _hohmann",
    "CREATE TABLE IF NOT EXISTS _hohmann.state (schema_name VARCHAR, table_name VARCHAR, state VARCHAR, "
    "run_id VARCHAR, updated_at TIMESTAMP WITH TIME ZONE)",
    "CREATE TABLE IF NOT EXISTS _hohmann.generations (name VARCHAR, schema_name VARCHAR, table_name VARCHAR, "
    "kind VARCHAR, kept_at TIMESTAMP WITH TIME ZONE, row_count BIGINT, state VARCHAR)",
)
OF_TABLE = "lower(schema_name) = lower($1) AND lower(table_name) = lower($2)"


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does, or nothing of it."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.TransactionException):  # a COMMIT that failed has rolled back
            connection.execute("ROLLBACK")
        raise


def make_own(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of states and generations, where they are not there."""
    for statement in _MADE:
        connection.execute(statement)


def has_own(connection: duckdb.DuckDBPyConnection) -> bool:
    """Say whether the file has the tables of states and generations."""
    return kind(connection, TableName("_hohmann", "state")) != ""


def kind(connection: duckdb.DuckDBPyConnection, table: TableName) -> str:
    """`BASE TABLE` for a table, "" when there is none. Raises EngineError for a view."""
    found = connection.execute(
        "SELECT table_type FROM information_schema.tables WHERE table_catalog = current_database() "
        "AND lower(table_schema) = lower($1) AND lower(table_name) = lower($2)",
        [table.schema, table.table],
    ).fetchone()
    if found and found[0] != "BASE TABLE":
        raise EngineError(
            f"{table} is a view, and a load needs a table", origin=Origin.DESTINATION, fix="Choose another table name."
        )
    return str(found[0]) if found else ""


def columns(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[Column, ...]:
    """The columns of a table."""
    rows = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return tuple(Column(row[0], row[1], row[2] == "YES") for row in rows)


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """How many rows there are."""
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    return int(row[0]) if row else 0


def state(connection: duckdb.DuckDBPyConnection, table: TableName) -> dict[str, Any] | None:
    """The state that belongs to a table."""
    if not has_own(connection):
        return None
    row = connection.execute(
        f"SELECT state FROM _hohmann.state WHERE {OF_TABLE}", [table.schema, table.table]
    ).fetchone()
    found: dict[str, Any] | None = json.loads(row[0]) if row else None
    return found


def put_state(connection: duckdb.DuckDBPyConnection, table: TableName, text: str | None, run_id: str) -> None:
    """Set the state of a table, or forget it."""
    names = [table.schema, table.table]
    make_own(connection)
    connection.execute(f"DELETE FROM _hohmann.state WHERE {OF_TABLE}", names)
    if text is not None:
        connection.execute("INSERT INTO _hohmann.state VALUES ($1, $2, $3, $4, now())", [*names, text, run_id])


def aside(table: TableName, prefix: str, name: str) -> TableName:
    """A hidden table beside a table."""
    return replace(table, table=prefix + name)


def rename(connection: duckdb.DuckDBPyConnection, old: TableName, new: str) -> None:
    """Give a table another name in its schema."""
    connection.execute(f"ALTER TABLE {old.sql} RENAME TO {quoted(new)}")
