"""Room on the disk: what the parachute keeps is let go, oldest first, before it takes the place of what is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from webapp.engine.connectors.duckdb import parachute, tables
from webapp.engine.context import Context
from webapp.engine.database import name_of_file
from webapp.engine.names import TableName


def make_room(connection: duckdb.DuckDBPyConnection, context: Context, file: Path, needed: int = 0) -> list[str]:
    """Let kept contents go until the disk has its share free beside the bytes needed; the names of those that went.

    What goes cannot be given back while other loads of this file run: then it goes with the next look.
    """
    gone: list[str] = []
    while _short(connection, context, file, needed):
        oldest = _oldest(connection)
        if oldest is None:
            break
        name, table = oldest
        with tables.transaction(connection):
            parachute.forget(connection, table, [name])
        gone.append(name)
        context.reporter.log(
            "warning", f"{table}: its earlier content {name} is let go, because the disk has too little room left"
        )
        if not _given_back(connection):
            break
    return gone


def size_of(connection: duckdb.DuckDBPyConnection, table: TableName) -> int:
    """The bytes that a table takes in the file, about."""
    row = connection.execute(
        "SELECT count(DISTINCT block_id) * (SELECT block_size FROM pragma_database_size())"
        " FROM pragma_storage_info($1) WHERE block_id >= 0",
        [table.sql],
    ).fetchone()
    return int(row[0] or 0) if row else 0


def _short(connection: duckdb.DuckDBPyConnection, context: Context, file: Path, needed: int) -> bool:
    if not context.keep_free_percent:
        return False
    disk = shutil.disk_usage(file.parent)
    row = connection.execute("SELECT free_blocks * block_size FROM pragma_database_size()").fetchone()
    free = disk.free + (int(row[0]) if row else 0)  # DuckDB writes into its own holes first
    return free - needed < disk.total * context.keep_free_percent / 100


def _oldest(connection: duckdb.DuckDBPyConnection) -> tuple[str, TableName] | None:
    if not tables.has_own(connection):
        return None
    row = connection.execute(
        "SELECT name, schema_name, table_name FROM _hohmann.generations ORDER BY kept_at, rowid LIMIT 1"
    ).fetchone()
    return (row[0], TableName(row[1], row[2]).within(name_of_file(connection))) if row else None


def _given_back(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        connection.execute("CHECKPOINT")
    except duckdb.Error:
        return False  # other transactions are under way
    return True
