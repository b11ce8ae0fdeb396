"""Tables that loads fill aside, and which chunks of theirs a later load may go on with.

A chunk is what one transaction wrote: its rows bear that transaction's number.
"""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import STAGED_HOURS, Chunk, Staged
from webapp.engine.connectors.postgres.catalog import OWN
from webapp.engine.connectors.postgres.ledger import Place, exists
from webapp.engine.connectors.postgres.queries import table_sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

_MADE = f"""
CREATE TABLE IF NOT EXISTS {OWN}.aside (
  name text PRIMARY KEY, schema_name text, table_name text, fingerprint text NOT NULL,
  used_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS {OWN}.aside_chunk (
  stage text, xid text, chunk text NOT NULL, bounds json NOT NULL, mark json NOT NULL, rows bigint NOT NULL,
  PRIMARY KEY (stage, xid))"""
LOCK = "hashtextextended('hohmann ' || %s, 0)"
"""The number of the lock that a load holds on the table, by its name as SQL."""
XID = "SELECT (txid_current() % 4294967296)::text"
"""The number that rows of the transaction bear."""


def prepare(cursor: Cursor) -> None:
    """Make what is noted in; only one may try at once."""
    if not exists(cursor, f"{OWN}.aside_chunk"):
        cursor.execute(_MADE)


def sweep(cursor: Cursor) -> None:
    """Drop what nobody has gone on with for long, of whatever table, unless a load has it."""
    cursor.execute(
        f"SELECT name, schema_name, table_name FROM {OWN}.aside WHERE used_at < now() - make_interval(hours => %s)",
        (STAGED_HOURS,),
    )
    for name, schema, table in cursor.fetchall():
        cursor.execute(f"SELECT pg_try_advisory_xact_lock({LOCK})", (table_sql(schema, table),))
        if (cursor.fetchone() or (False,))[0]:
            drop(cursor, name)


def taken_up(cursor: Cursor, prefix: str, fingerprint: str) -> str | None:
    """What an interrupted load of the same fingerprint left; the table's others are dropped. The lock is held."""
    cursor.execute(
        "SELECT c.relname, s.fingerprint FROM pg_class c"
        f" LEFT JOIN {OWN}.aside s ON s.name = c.relname WHERE c.relnamespace = %s::regnamespace"
        " AND starts_with(c.relname, %s) AND c.relkind = 'r'",
        (OWN, prefix),
    )
    found = None
    for name, known in cursor.fetchall():
        if fingerprint and known == fingerprint and found is None:
            found = name
        else:
            drop(cursor, name)
    return found


def made(cursor: Cursor, name: str, place: Place, fingerprint: str) -> None:
    """Remember a new table aside that may be gone on with."""
    cursor.execute(
        f"INSERT INTO {OWN}.aside (name, schema_name, table_name, fingerprint) VALUES (%s, %s, %s, %s)",
        (name, *place.key, fingerprint),
    )


def note(cursor: Cursor, name: str, chunk: Chunk, mark: Mapping[str, Any], written: tuple[str, int]) -> None:
    """Remember by which transaction a chunk's rows came, and how many."""
    cursor.execute(
        f"INSERT INTO {OWN}.aside_chunk (stage, chunk, bounds, mark, xid, rows) VALUES (%s, %s, %s, %s, %s, %s)",
        (name, chunk.name, json.dumps(dict(chunk.bounds)), json.dumps(dict(mark)), *written),
    )


def noted(cursor: Cursor, name: str) -> list[Staged]:
    """The chunks that are there as they were noted: an unlogged table is empty after a crash of the server."""
    cursor.execute(f"SELECT xmin::text, count(*) FROM {table_sql(OWN, name)} GROUP BY xmin")
    there = dict(cursor.fetchall())
    cursor.execute(f"SELECT xid, chunk, bounds, mark, rows FROM {OWN}.aside_chunk WHERE stage = %s", (name,))
    return [
        Staged(xid, Chunk(chunk, bounds), rows, mark)
        for xid, chunk, bounds, mark, rows in cursor.fetchall()
        if there.get(xid) == rows
    ]


def keep(cursor: Cursor, name: str, xids: Sequence[str]) -> None:
    """Drop all other rows."""
    cursor.execute(f"DELETE FROM {table_sql(OWN, name)} WHERE xmin <> ALL(%s::xid[])", (list(xids),))
    cursor.execute(f"DELETE FROM {OWN}.aside_chunk WHERE stage = %s AND xid <> ALL(%s)", (name, list(xids)))
    cursor.execute(f"UPDATE {OWN}.aside SET used_at = now() WHERE name = %s", (name,))


def forget(cursor: Cursor, name: str) -> None:
    """Remember nothing of a table that is not aside any more."""
    cursor.execute(f"DELETE FROM {OWN}.aside_chunk WHERE stage = %s", (name,))
    cursor.execute(f"DELETE FROM {OWN}.aside WHERE name = %s", (name,))


def drop(cursor: Cursor, name: str) -> None:
    """Drop a table aside."""
    cursor.execute(f"DROP TABLE IF EXISTS {table_sql(OWN, name)}")
    forget(cursor, name)
