"""Earlier contents of a table: kept in the transaction that changes it, brought back in another.

A replace keeps the old table itself. An append keeps the rows that it added, an upsert these and the rows that it took
the place of, so going back to an older generation undoes the newer ones first.
"""

# ruff: noqa: S608  names are quoted, values are bound

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from webapp.engine.connectors.base import Generation, Write
from webapp.engine.connectors.duckdb import tables
from webapp.engine.connectors.duckdb.tables import OF_TABLE, PARACHUTE, aside
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import TableName, quoted

_MOST = 20
_OLD = "_old"


def new_name() -> str:
    """A name for a generation."""
    return secrets.token_hex(6)


def listed(connection: duckdb.DuckDBPyConnection, table: TableName) -> list[Generation]:
    """The generations of a table, newest first."""
    return [Generation(name, at, rows) for name, _, at, rows in _rows(connection, table)]


def keep_table(connection: duckdb.DuckDBPyConnection, table: TableName) -> str:
    """Put a table aside that another takes the place of; what was kept before goes."""
    forget_all(connection, table)
    name, rows = new_name(), tables.count(connection, table.sql)
    tables.rename(connection, table, PARACHUTE + name)
    _noted(connection, table, name, Write.REPLACE, rows)
    return name


def keep_rows(
    connection: duckdb.DuckDBPyConnection, table: TableName, stage: TableName, write: Write, rows: int, name: str
) -> None:
    """Keep a load's rows for its undoing; `keep_old` has been called before an upsert deleted."""
    tables.rename(connection, stage, PARACHUTE + name)
    _noted(connection, table, name, write, rows)


def keep_old(connection: duckdb.DuckDBPyConnection, table: TableName, matching: str, name: str) -> None:
    """Keep the rows that an upsert is about to replace; `matching` is the condition that finds them."""
    old = aside(table, PARACHUTE, name + _OLD)
    connection.execute(f"CREATE TABLE {old.sql} AS SELECT * FROM {table.sql} AS t WHERE {matching}")


def prune(connection: duckdb.DuckDBPyConnection, table: TableName, keep_days: int) -> None:
    """Forget what is older than the days to keep, and beyond the newest few."""
    old = connection.execute(
        f"SELECT name FROM _hohmann.generations WHERE {OF_TABLE} AND kept_at < now() - to_days($3)",
        [table.schema, table.table, keep_days],
    ).fetchall()
    names = [row[0] for row in old]
    forget(connection, table, [*names, *(n for n in _rows_names(connection, table)[_MOST:] if n not in names)])


def forget(connection: duckdb.DuckDBPyConnection, table: TableName, names: Sequence[str]) -> None:
    """Drop generations."""
    for name in names:
        for suffix in ("", _OLD):
            connection.execute(f"DROP TABLE IF EXISTS {aside(table, PARACHUTE, name + suffix).sql}")
        connection.execute("DELETE FROM _hohmann.generations WHERE name = $1", [name])


def forget_all(connection: duckdb.DuckDBPyConnection, table: TableName) -> None:
    """Drop all generations of a table."""
    forget(connection, table, _rows_names(connection, table))


def restore(connection: duckdb.DuckDBPyConnection, table: TableName, name: str) -> None:
    """Bring a generation back, inside the caller's transaction. Raises EngineError when it is gone."""
    chain = list(_back_to(connection, table, name))
    if not tables.kind(connection, table):
        raise _gone(table, name)
    for one, write in chain:
        if write == Write.REPLACE:
            _swap(connection, table, one)
        else:
            _undo(connection, table, one, Write(write))
    forget(connection, table, [one for one, _ in chain])


def whole_state(
    connection: duckdb.DuckDBPyConnection, name: str, state: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The state kept with a generation, where `state` is what receipts show of it; else `state` itself."""
    row = connection.execute("SELECT state FROM _hohmann.generations WHERE name = $1", [name]).fetchone()
    kept: dict[str, Any] = json.loads(row[0]) if row and row[0] else {}
    if state is None or any(kept.get(key) != value for key, value in state.items()):
        return None if state is None else dict(state)
    return kept


def _back_to(connection: duckdb.DuckDBPyConnection, table: TableName, name: str) -> Iterator[tuple[str, str]]:
    rows = _rows(connection, table)
    names = [row[0] for row in rows]
    if name not in names:
        raise _gone(table, name)
    chain = rows[: names.index(name) + 1]
    # The whole table makes every undoing before it needless.
    return ((row[0], row[1]) for row in chain if chain[-1][1] != Write.REPLACE or row is chain[-1])


def _swap(connection: duckdb.DuckDBPyConnection, table: TableName, name: str) -> None:
    """The kept table takes the present one's place, which is kept in turn."""
    old = aside(table, PARACHUTE, name)
    rest = [other for other in _rows_names(connection, table) if other != name]
    forget(connection, table, rest)
    back, rows = new_name(), tables.count(connection, table.sql)
    tables.rename(connection, table, PARACHUTE + back)
    tables.rename(connection, old, table.table)
    _noted(connection, table, back, Write.REPLACE, rows)


def _undo(connection: duckdb.DuckDBPyConnection, table: TableName, name: str, write: Write) -> None:
    added = aside(table, PARACHUTE, name)
    _take_out(connection, table, added)
    if write is Write.UPSERT:
        connection.execute(f"INSERT INTO {table.sql} BY NAME SELECT * FROM {aside(table, PARACHUTE, name + _OLD).sql}")


def _take_out(connection: duckdb.DuckDBPyConnection, table: TableName, added: TableName) -> None:
    """Take as many rows out as were added, the newest of equal ones; equal in all columns that were added."""
    types = {column.name.lower(): column.type for column in tables.columns(connection, table.sql)}
    names = [column.name for column in tables.columns(connection, added.sql) if column.name.lower() in types]
    # Both sides as the table's types, which may have widened since.
    sides = ", ".join(f"CAST({quoted(name)} AS {types[name.lower()]})" for name in names)
    connection.execute(
        f"DELETE FROM {table.sql} WHERE rowid IN ("
        f"SELECT r FROM (SELECT rowid AS r, hash({sides}) AS h, "
        f"row_number() OVER (PARTITION BY h ORDER BY rowid DESC) AS n FROM {table.sql}) "
        f"JOIN (SELECT hash({sides}) AS h, count(*) AS c FROM {added.sql} GROUP BY h) USING (h) WHERE n <= c)"
    )


def _rows(connection: duckdb.DuckDBPyConnection, table: TableName) -> list[tuple[str, str, str, int | None]]:
    if not tables.has_own(connection):
        return []
    return connection.execute(
        "SELECT name, kind, strftime(kept_at, '%Y-%m-%dT%H:%M:%S.%fZ'), row_count FROM _hohmann.generations "
        f"WHERE {OF_TABLE} ORDER BY kept_at DESC, rowid DESC",
        [table.schema, table.table],
    ).fetchall()


def _rows_names(connection: duckdb.DuckDBPyConnection, table: TableName) -> list[str]:
    return [row[0] for row in _rows(connection, table)]


def _noted(connection: duckdb.DuckDBPyConnection, table: TableName, name: str, write: Write, rows: int) -> None:
    connection.execute(
        "INSERT INTO _hohmann.generations VALUES ($1, $2, $3, $4, now(), $5, "
        "(SELECT state FROM _hohmann.state WHERE lower(schema_name) = lower($2) AND lower(table_name) = lower($3)))",
        [name, table.schema, table.table, write.value, rows],
    )


def _gone(table: TableName, name: str) -> EngineError:
    return EngineError(
        f"the earlier content {name} of {table} is no longer kept",
        origin=Origin.DESTINATION,
        fix="Choose one that the list shows.",
    )
