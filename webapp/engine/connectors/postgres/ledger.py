"""What the destination remembers beside the tables: states, and contents that the parachute can bring back."""

# ruff: noqa: S608  names are quoted by names.quoted, values are bound

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Generation
from webapp.engine.connectors.postgres.catalog import OWN, PARACHUTE
from webapp.engine.connectors.postgres.queries import table_sql
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.names import quoted

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

_MADE = f"""
CREATE SCHEMA IF NOT EXISTS {OWN};
CREATE SCHEMA IF NOT EXISTS {PARACHUTE};
CREATE TABLE IF NOT EXISTS {OWN}.state (
  schema_name text, table_name text, state json NOT NULL, run_id text, updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schema_name, table_name));
CREATE TABLE IF NOT EXISTS {OWN}.generation (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE NOT NULL, schema_name text, table_name text,
  kind text NOT NULL, at timestamptz NOT NULL DEFAULT now(), rows bigint, xid text, key json, columns json,
  expires_at timestamptz NOT NULL)"""


@dataclass(frozen=True)
class Place:
    """The table of a load: its schema and name."""

    schema: str
    table: str

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return table_sql(self.schema, self.table)

    @property
    def key(self) -> tuple[str, str]:
        """How the ledger names it."""
        return (self.schema, self.table)


@dataclass(frozen=True)
class Kept:
    """A row of the ledger: what undoes one load."""

    name: str
    kind: str
    rows: int | None
    xid: str
    key: list[str]
    columns: list[str]

    def part(self, suffix: str = "") -> str:
        """A table of the parachute, as SQL."""
        return table_sql(PARACHUTE, self.name + suffix)


def prepare(cursor: Cursor, schema: str) -> None:
    """Make what a load needs; several may try at once."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('hohmann ledger'))")
    cursor.execute("SELECT to_regclass(%s), to_regnamespace(%s)", (f"{OWN}.generation", quoted(schema)))
    there, space = cursor.fetchone() or (None, None)
    if there is None:
        cursor.execute(_MADE)
    if space is None:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")


def exists(cursor: Cursor, sql_name: str) -> bool:
    """Whether there is such a relation; the name is quoted SQL."""
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (sql_name,))
    return bool((cursor.fetchone() or (False,))[0])


def state(cursor: Cursor, place: Place) -> dict[str, Any] | None:
    """The state that the last commit left."""
    if not exists(cursor, f"{OWN}.state"):
        return None
    cursor.execute(f"SELECT state FROM {OWN}.state WHERE schema_name = %s AND table_name = %s", place.key)
    row = cursor.fetchone()
    return None if row is None else dict(row[0])


def set_state(cursor: Cursor, place: Place, state: Mapping[str, Any] | None, run_id: str) -> None:
    """Remember the state within the transaction that makes its rows visible."""
    cursor.execute(f"DELETE FROM {OWN}.state WHERE schema_name = %s AND table_name = %s", place.key)
    if state is not None:
        cursor.execute(
            f"INSERT INTO {OWN}.state (schema_name, table_name, state, run_id) VALUES (%s, %s, %s, %s)",
            (*place.key, json.dumps(dict(state)), run_id),
        )


def keep(
    cursor: Cursor,
    place: Place,
    kind: str,
    days: int,
    *,
    rows: int,
    key: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
) -> Kept:
    """Note what can undo the load of this transaction."""
    name = f"g{time.strftime('%Y%m%d%H%M%S', time.gmtime())}_{secrets.token_hex(3)}"
    cursor.execute(
        f"INSERT INTO {OWN}.generation (name, schema_name, table_name, kind, rows, xid, key, columns, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, (txid_current() %% 4294967296)::text, %s, %s, now() + make_interval(days => %s))"
        " RETURNING xid",
        (name, *place.key, kind, rows, json.dumps(key), json.dumps(columns), days),
    )
    return Kept(name, kind, rows, (cursor.fetchone() or ("",))[0], list(key), list(columns))


def kept(cursor: Cursor, place: Place) -> list[Kept]:
    """All that the ledger knows of a table, newest first."""
    cursor.execute(
        f"SELECT name, kind, rows, xid, key, columns FROM {OWN}.generation"
        " WHERE schema_name = %s AND table_name = %s ORDER BY number DESC",
        place.key,
    )
    return [Kept(*row) for row in cursor.fetchall()]


def generations(cursor: Cursor, place: Place) -> list[Generation]:
    """What can be brought back, newest first."""
    if not exists(cursor, f"{OWN}.generation"):
        return []
    cursor.execute(
        f"""SELECT name, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), rows,
        pg_total_relation_size(coalesce(to_regclass('{PARACHUTE}.' || quote_ident(name)),
                                        to_regclass('{PARACHUTE}.' || quote_ident(name || '_old'))))
        FROM {OWN}.generation WHERE schema_name = %s AND table_name = %s AND expires_at > now() ORDER BY number DESC""",
        place.key,
    )
    return [Generation(*row) for row in cursor.fetchall()]


def prune(cursor: Cursor, place: Place) -> None:
    """Drop what has been kept long enough."""
    cursor.execute(
        f"DELETE FROM {OWN}.generation WHERE schema_name = %s AND table_name = %s AND expires_at <= now()"
        " RETURNING name, kind, rows, xid, key, columns",
        place.key,
    )
    for row in cursor.fetchall():
        forget(cursor, Kept(*row))


def forget(cursor: Cursor, one: Kept) -> None:
    """Drop what one load left in the parachute, and its line."""
    for suffix in ("", "_old", "_keys"):
        cursor.execute(f"DROP TABLE IF EXISTS {one.part(suffix)}")
    cursor.execute(f"DELETE FROM {OWN}.generation WHERE name = %s", (one.name,))


def chain(cursor: Cursor, place: Place, generation: str) -> list[Kept]:
    """The loads to undo, newest first, down to this one. Raises EngineError when it is not there any more."""
    known = kept(cursor, place)
    at = next((at for at, one in enumerate(known) if one.name == generation), None)
    if at is None:
        raise EngineError(
            f"{place.schema}.{place.table} has no earlier content {generation}",
            origin=Origin.USER,
            kind=Kind.CONFIGURATION,
            fix="It may have expired: choose one of those that are listed now.",
        )
    return known[: at + 1]
