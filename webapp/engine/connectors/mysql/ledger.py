"""What the destination remembers beside the tables: states, and contents that the parachute can bring back.

MySQL commits before and after each change of a table's definition, but renames any number of tables in one step. So
each table's state is a table of its own in the database `_hohmann`: written within the rows' transaction, or renamed
together with the table.
"""

# ruff: noqa: S608  names are quoted by columns.quoted, values are bound

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webapp.engine.connectors.base import Generation
from webapp.engine.connectors.mysql.columns import quoted
from webapp.engine.connectors.mysql.spec import OWN
from webapp.engine.errors import EngineError, Kind, Origin

_SUFFIXES = ("", "_state", "_old", "_keys")
_TAIL = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_STATE = f"(state LONGTEXT NOT NULL, run_id VARCHAR(64), of_table VARCHAR(140), updated_at DATETIME) {_TAIL}"
_GENERATIONS = f"""CREATE TABLE IF NOT EXISTS {OWN}.generation (
  number BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64) NOT NULL UNIQUE, schema_name VARCHAR(64) NOT NULL,
  table_name VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL, at DATETIME NOT NULL, row_count BIGINT,
  key_columns LONGTEXT, expires_at DATETIME NOT NULL, KEY (schema_name, table_name)) {_TAIL}"""


@dataclass(frozen=True)
class Place:
    """The table of a load: its database and name."""

    schema: str
    table: str

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def key(self) -> tuple[str, str]:
        """How the ledger names it."""
        return (self.schema, self.table)

    @property
    def mark(self) -> str:
        """What the names of everything that belongs to it contain."""
        return hashlib.sha256(f"{len(self.schema)} {self.schema}.{self.table}".encode()).hexdigest()[:16]

    @property
    def state(self) -> Place:
        """The table that holds its state."""
        return own(f"state_{self.mark}")


@dataclass(frozen=True)
class Kept:
    """What undoes one load; an append is only noted, because nothing undoes it."""

    name: str
    kind: str
    at: str
    rows: int | None
    key: list[str]

    def part(self, suffix: str = "") -> Place:
        """A table of the parachute."""
        return own(self.name + suffix)


def own(name: str) -> Place:
    """A table of ours."""
    return Place(OWN, name)


def prepare(cursor: Any, place: Place) -> None:
    """Make what a load needs; several may try at once."""
    cursor.execute(f"CREATE DATABASE IF NOT EXISTS {OWN}")
    cursor.execute(f"CREATE DATABASE IF NOT EXISTS {quoted(place.schema)} DEFAULT CHARACTER SET utf8mb4")
    cursor.execute(f"USE {OWN}")  # without a database MySQL deletes from no table that has an alias
    cursor.execute(_GENERATIONS)
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {place.state.sql} {_STATE}")


def exists(cursor: Any, place: Place) -> bool:
    """Whether there is such a table or view."""
    cursor.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = %s AND table_name = %s", place.key
    )
    return bool(cursor.fetchone()[0])


def state(cursor: Any, place: Place) -> dict[str, Any] | None:
    """The state that the last commit left; a table that somebody dropped has none."""
    if not exists(cursor, place) or not exists(cursor, place.state):
        return None
    cursor.execute(f"SELECT state FROM {place.state.sql}")
    row = cursor.fetchone()
    return None if row is None else dict(json.loads(row[0]))


def set_state(cursor: Any, place: Place, state: Mapping[str, Any] | None, run_id: str, holder: Place) -> None:
    """Write the state of `place` into the table `holder`."""
    cursor.execute(f"DELETE FROM {holder.sql}")
    if state is not None:
        cursor.execute(
            f"INSERT INTO {holder.sql} VALUES (%s, %s, %s, UTC_TIMESTAMP())",
            (json.dumps(dict(state)), run_id, f"{place.schema}.{place.table}"),
        )


def new_state(cursor: Any, place: Place, state: Mapping[str, Any] | None, run_id: str, holder: Place) -> None:
    """Make the table that will take the place of the state's."""
    cursor.execute(f"CREATE TABLE {holder.sql} {_STATE}")
    set_state(cursor, place, state, run_id, holder)


def fresh(place: Place, kind: str, *, rows: int, key: Sequence[str] = ()) -> Kept:
    """What will undo the load that is being made, under a name of its own."""
    name = f"g_{place.mark}_{time.strftime('%Y%m%d%H%M%S', time.gmtime())}_{secrets.token_hex(3)}"
    return Kept(name, kind, "", rows, list(key))


def note(cursor: Any, place: Place, one: Kept, days: int) -> None:
    """Write it down, for so many days."""
    cursor.execute(
        f"INSERT INTO {OWN}.generation (name, schema_name, table_name, kind, at, row_count, key_columns, expires_at)"
        " VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(), %s, %s, UTC_TIMESTAMP() + INTERVAL %s DAY)",
        (one.name, *place.key, one.kind, one.rows, json.dumps(one.key), days),
    )


def strike(cursor: Any, one: Kept) -> None:
    """Take its line away, within the transaction that undoes it."""
    cursor.execute(f"DELETE FROM {OWN}.generation WHERE name = %s", (one.name,))


def generations(cursor: Any, place: Place) -> list[Generation]:
    """What can be brought back, newest first."""
    if not exists(cursor, own("generation")):
        return []
    known, there = _kept(cursor, place), _parts(cursor, place)
    return [
        Generation(one.name, one.at, one.rows)
        for at, one in enumerate(known)
        if all(step.kind == "replace" or f"{step.name}_old" in there for step in steps(known[: at + 1]))
    ]


def steps(chain: Sequence[Kept]) -> list[Kept]:
    """What is to be undone of a chain, newest first: a whole table that was kept makes what came after it moot."""
    whole = max((at for at, one in enumerate(chain) if one.kind == "replace"), default=0)
    return list(chain[whole:])


def chain(cursor: Any, place: Place, generation: str) -> list[Kept]:
    """The loads from the newest down to this one. Raises EngineError when they cannot be undone."""
    if generation not in {one.name for one in generations(cursor, place)}:
        raise EngineError(
            f"{place.schema}.{place.table} cannot go back to {generation}",
            origin=Origin.USER,
            kind=Kind.CONFIGURATION,
            fix="It may have expired, or rows were appended since: choose one of those that are listed now.",
        )
    known = _kept(cursor, place)
    return known[: next(at for at, one in enumerate(known) if one.name == generation) + 1]


def prune(cursor: Any, place: Place) -> None:
    """Drop what has been kept long enough, and what loads left that were killed."""
    cursor.execute(
        f"DELETE FROM {OWN}.generation WHERE schema_name = %s AND table_name = %s AND expires_at <= UTC_TIMESTAMP()",
        place.key,
    )
    cursor.execute(f"SELECT name FROM {OWN}.generation WHERE schema_name = %s AND table_name = %s", place.key)
    wanted = {row[0] + suffix for row in cursor.fetchall() for suffix in _SUFFIXES}
    for name in _parts(cursor, place) - wanted:
        cursor.execute(f"DROP TABLE IF EXISTS {own(name).sql}")


def forget(cursor: Any, one: Kept) -> None:
    """Drop what one load left in the parachute, and its line."""
    cursor.execute(f"DROP TABLE IF EXISTS {', '.join(one.part(suffix).sql for suffix in _SUFFIXES)}")
    strike(cursor, one)


def _kept(cursor: Any, place: Place) -> list[Kept]:
    """All that the ledger knows of a table, newest first. A replace that never came to its rename is none."""
    cursor.execute(
        f"""SELECT name, kind, DATE_FORMAT(at, '%%Y-%%m-%%dT%%H:%%i:%%sZ'), row_count, key_columns
        FROM {OWN}.generation WHERE schema_name = %s AND table_name = %s AND expires_at > UTC_TIMESTAMP()
        ORDER BY number DESC""",
        place.key,
    )
    known = [Kept(name, kind, at, rows, json.loads(key)) for name, kind, at, rows, key in cursor.fetchall()]
    there = _parts(cursor, place)
    return [one for one in known if one.kind != "replace" or one.name in there]


def _parts(cursor: Any, place: Place) -> set[str]:
    cursor.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_name LIKE %s",
        (OWN, f"g\\_{place.mark}\\_%"),
    )
    return {row[0] for row in cursor.fetchall()}
