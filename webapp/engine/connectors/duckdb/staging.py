"""What loads have written aside: the tables, and which chunks of theirs a later load may go on with.

A chunk is the rows between two row ids of its table, for one chunk at a time commits and nothing is deleted there
before the load lands. Rows of chunks that nobody noted, or that must not be kept, are deleted then.
"""

# ruff: noqa: S608  names are quoted, values are bound

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from webapp.engine.connectors.base import STAGED_HOURS, Chunk, Load, Staged
from webapp.engine.connectors.duckdb.tables import OF_TABLE, STAGE, aside, count, kind
from webapp.engine.database import name_of_file
from webapp.engine.names import TableName, quoted

_MADE = (
    "CREATE SCHEMA IF NOT EXISTS _hohmann",
    "CREATE TABLE IF NOT EXISTS _hohmann.stages (stage VARCHAR, schema_name VARCHAR, table_name VARCHAR, "
    "fingerprint VARCHAR, made_schema BOOLEAN, used_at TIMESTAMP WITH TIME ZONE)",
    "CREATE TABLE IF NOT EXISTS _hohmann.staged_chunks (stage VARCHAR, name VARCHAR, bounds VARCHAR, mark VARCHAR, "
    "first_row BIGINT, row_count BIGINT)",
)
Range = tuple[int, int]
"""Row ids from one up to another that is not part of it."""


@dataclass(frozen=True)
class Stage:
    """A table aside, and whether the schema that it lies in was made for it."""

    table: TableName
    made_schema: bool


def sweep(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop what ended loads left aside and no other can use; whoever holds the file's lock is the only one."""
    left = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE starts_with(table_name, $1) "
        "AND database_name = current_database()",
        [STAGE],
    ).fetchall()
    useful = _useful(connection) if left else set()
    for schema, table in left:
        if table not in useful:
            place = TableName(schema, table).within(name_of_file(connection))
            drop(connection, Stage(place, _made_schema(connection, table)))


def taken_up(connection: duckdb.DuckDBPyConnection, load: Load, table: TableName) -> Stage | None:
    """What an interrupted load of the same fingerprint left for this table; what others left for it is dropped."""
    if not _has_any(connection):
        return None
    found = None
    rows = connection.execute(
        f"SELECT stage, fingerprint, made_schema FROM _hohmann.stages WHERE {OF_TABLE}", [table.schema, table.table]
    ).fetchall()
    for name, fingerprint, made_schema in rows:
        stage = Stage(replace(table, table=name), bool(made_schema))
        if load.fingerprint and fingerprint == load.fingerprint and found is None and kind(connection, stage.table):
            found = stage
        else:
            drop(connection, stage)
    return found


def made(connection: duckdb.DuckDBPyConnection, load: Load, table: TableName, columns: str) -> Stage:
    """A new table aside with these columns, and its schema where there is none."""
    stage = Stage(aside(table, STAGE, secrets.token_hex(6)), not _has_schema(connection, table.schema))
    if stage.made_schema:
        connection.execute(f"CREATE SCHEMA {quoted(table.schema)}")
    connection.execute(f"CREATE TABLE {stage.table.sql} ({columns})")
    if load.fingerprint:
        for statement in _MADE:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO _hohmann.stages VALUES ($1, $2, $3, $4, $5, now())",
            [stage.table.table, table.schema, table.table, load.fingerprint, stage.made_schema],
        )
    return stage


def note(connection: duckdb.DuckDBPyConnection, stage: Stage, chunk: Chunk, mark: Mapping[str, Any], at: Range) -> None:
    """Remember where a chunk's rows lie."""
    facts = [json.dumps(dict(chunk.bounds)), json.dumps(dict(mark))]
    connection.execute(
        "INSERT INTO _hohmann.staged_chunks VALUES ($1, $2, $3, $4, $5, $6)",
        [stage.table.table, chunk.name, *facts, at[0], at[1] - at[0]],
    )


def noted(connection: duckdb.DuckDBPyConnection, stage: Stage) -> dict[Range, Staged]:
    """The chunks that may be gone on with, by where they lie; none when the table does not hold them all."""
    rows = connection.execute(
        "SELECT name, bounds, mark, first_row, row_count FROM _hohmann.staged_chunks WHERE stage = $1 "
        "ORDER BY first_row",
        [stage.table.table],
    ).fetchall()
    found = {
        (first, first + size): Staged(str(first), Chunk(name, json.loads(bounds)), size, json.loads(mark))
        for name, bounds, mark, first, size in rows
    }
    there = count(connection, stage.table.sql)
    return found if all(end <= there for _, end in found) else {}


def keep(connection: duckdb.DuckDBPyConnection, stage: Stage, kept: Sequence[Range]) -> list[Range]:
    """Forget the other chunks; returns the rows that must not land."""
    void = list(_between(sorted(kept), count(connection, stage.table.sql)))
    known = connection.execute(
        "SELECT first_row FROM _hohmann.staged_chunks WHERE stage = $1", [stage.table.table]
    ).fetchall()
    for (first,) in known:
        if first not in {one[0] for one in kept}:
            connection.execute(
                "DELETE FROM _hohmann.staged_chunks WHERE stage = $1 AND first_row = $2", [stage.table.table, first]
            )
    connection.execute("UPDATE _hohmann.stages SET used_at = now() WHERE stage = $1", [stage.table.table])
    return void


def delete(connection: duckdb.DuckDBPyConnection, stage: Stage, void: Sequence[Range]) -> None:
    """Take these rows out, when no more come."""
    for first, end in void:
        connection.execute(f"DELETE FROM {stage.table.sql} WHERE rowid >= {int(first)} AND rowid < {int(end)}")


def forget(connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    """Remember nothing of a table that is not aside any more."""
    if _has_any(connection):
        for table in ("stages", "staged_chunks"):
            connection.execute(f"DELETE FROM _hohmann.{table} WHERE stage = $1", [stage.table.table])


def drop(connection: duckdb.DuckDBPyConnection, stage: Stage) -> None:
    """Drop a table aside, and the schema that was made for it, where nothing else has come to lie in it."""
    connection.execute(f"DROP TABLE IF EXISTS {stage.table.sql}")
    forget(connection, stage)
    if stage.made_schema and not _tables_in(connection, stage.table.schema):
        connection.execute(f"DROP SCHEMA IF EXISTS {quoted(stage.table.schema)}")


def _between(kept: Sequence[Range], size: int) -> Iterator[Range]:
    at = 0
    for first, end in [*kept, (size, size)]:
        if first > at:
            yield at, first
        at = max(at, end)


def _useful(connection: duckdb.DuckDBPyConnection) -> set[str]:
    if not _has_any(connection):
        return set()
    rows = connection.execute(
        "SELECT DISTINCT s.stage FROM _hohmann.stages s JOIN _hohmann.staged_chunks c ON c.stage = s.stage "
        "WHERE s.used_at > now() - to_hours($1)",
        [STAGED_HOURS],
    ).fetchall()
    return {row[0] for row in rows}


def _made_schema(connection: duckdb.DuckDBPyConnection, stage: str) -> bool:
    if not _has_any(connection):
        return False
    row = connection.execute("SELECT made_schema FROM _hohmann.stages WHERE stage = $1", [stage]).fetchone()
    return bool(row and row[0])


def _has_any(connection: duckdb.DuckDBPyConnection) -> bool:
    return kind(connection, TableName("_hohmann", "staged_chunks")) != ""


def _has_schema(connection: duckdb.DuckDBPyConnection, schema: str) -> bool:
    return bool(
        connection.execute(
            "SELECT 1 FROM information_schema.schemata WHERE catalog_name = current_database() "
            "AND lower(schema_name) = lower($1)",
            [schema],
        ).fetchone()
    )


def _tables_in(connection: duckdb.DuckDBPyConnection, schema: str) -> int:
    row = connection.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_catalog = current_database() "
        "AND lower(table_schema) = lower($1)",
        [schema],
    ).fetchone()
    return int(row[0]) if row else 0
