"""What a table holds, and what it held before: each content is a table with a number of its own (its UUID).

ClickHouse has no transaction over two tables, but exchanges two tables in one step, and they keep their numbers. So the
ledger notes the state by the number of the content that it belongs to, before anybody sees that content: whichever
content bears the table's name has its own state.
"""

# ruff: noqa: S608  names are quoted by columns.quoted, texts by columns.literal

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from webapp.engine.connectors.base import STAGED_HOURS, Generation
from webapp.engine.connectors.clickhouse.columns import literal, quoted
from webapp.engine.connectors.clickhouse.server import Server
from webapp.engine.connectors.clickhouse.spec import OWN
from webapp.engine.errors import EngineError, Kind, Origin

_LEDGER = f"{OWN}.content"
_MAKE = (
    f"CREATE DATABASE IF NOT EXISTS {OWN}",
    f"CREATE TABLE IF NOT EXISTS {_LEDGER} (number UUID, of_table String, state String, run_id String,"
    " row_count UInt64, at DateTime64(9, 'UTC') DEFAULT now64(9)) ENGINE = MergeTree ORDER BY number",
)
_EXCHANGING = ("Atomic", "Replicated", "Shared")
MERGED = "engine IN ('MergeTree', 'SharedMergeTree')"
"""The condition by which `system.tables` finds those that are made of parts, one for each insert until merged."""
_MERGING = "max_bytes_to_merge_at_max_space_in_pool"
_TIME = "%Y%m%d%H%M%S"


@dataclass(frozen=True)
class Place:
    """A table by its database and name."""

    database: str
    table: str

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return f"{quoted(self.database)}.{quoted(self.table)}"

    @property
    def where(self) -> str:
        """The condition by which catalog tables find it."""
        return f"database = {literal(self.database)} AND name = {literal(self.table)}"

    @property
    def mark(self) -> str:
        """What the names of everything that belongs to it contain."""
        return hashlib.sha256(f"{len(self.database)} {self.database}.{self.table}".encode()).hexdigest()[:16]


def aside(place: Place) -> Place:
    """A name for what is being made for a table."""
    return Place(OWN, f"stage_{place.mark}_{secrets.token_hex(4)}")


def prepare(server: Server, place: Place) -> None:
    """Make what a load needs; several may try at once. Raises EngineError where tables cannot be exchanged."""
    server.do(f"CREATE DATABASE IF NOT EXISTS {quoted(place.database)}", *_MAKE)
    for name in (place.database, OWN):
        [[engine]] = server.rows(f"SELECT engine FROM system.databases WHERE name = {literal(name)}")
        if engine not in _EXCHANGING:
            raise EngineError(
                f"the database {name} has the engine {engine}, in which tables cannot be exchanged",
                origin=Origin.DESTINATION,
                fix="Name a database of the engine Atomic, which is what CREATE DATABASE makes.",
            )


def number(server: Server, place: Place) -> str | None:
    """The number of the content that bears this name now, None when there is no such table."""
    found = server.rows(f"SELECT toString(uuid) FROM system.tables WHERE {place.where}")
    return str(found[0][0]) if found else None


def state(server: Server, place: Place) -> dict[str, Any] | None:
    """The state that came with the content, None when there is none."""
    content = number(server, place)
    if content is None or number(server, Place(OWN, "content")) is None:
        return None
    found = server.rows(f"SELECT state FROM {_LEDGER} WHERE number = {literal(content)} ORDER BY at DESC LIMIT 1")
    return dict(json.loads(found[0][0])) if found and found[0][0] else None


def note(
    server: Server, place: Place, content: str, state: Mapping[str, Any] | None, *, rows: int, run_id: str = ""
) -> None:
    """Write the state of a content down, which is not yet seen under the table's name."""
    text = "" if state is None else json.dumps(dict(state))
    values = {"number": content, "of_table": f"{place.database}.{place.table}", "state": text, "run_id": run_id}
    line = json.dumps({**values, "row_count": rows}).encode()
    server.insert(_LEDGER, [*values, "row_count"], line, "JSONEachRow")


def keep(server: Server, place: Place, old: Place, days: int) -> str:
    """Keep an earlier content for so many days; returns its name."""
    now = datetime.now(UTC)
    until = now + timedelta(days=days)
    name = f"g_{place.mark}_{now.strftime(_TIME)}_{until.strftime(_TIME)}_{secrets.token_hex(2)}"
    kept = Place(OWN, name)
    server.do(f"RENAME TABLE {old.sql} TO {kept.sql}")
    if server.rows(f"SELECT 1 FROM system.tables WHERE {kept.where} AND {MERGED}"):
        # Its parts are those of the table, too: merging them once more would double them on the disk.
        server.do(f"ALTER TABLE {kept.sql} MODIFY SETTING {_MERGING} = 1")
    return name


def wake(server: Server, kept: Place) -> None:
    """Let the server look after a content again that was kept."""
    if server.rows(f"SELECT 1 FROM system.tables WHERE {kept.where} AND {MERGED}"):
        server.do(f"ALTER TABLE {kept.sql} RESET SETTING {_MERGING}")


def forget(server: Server, old: Place) -> None:
    """Drop a content and its state."""
    content = number(server, old)
    server.do(f"DROP TABLE IF EXISTS {old.sql}")
    if content is not None:
        server.do(f"DELETE FROM {_LEDGER} WHERE number = {literal(content)}")


def generations(server: Server, place: Place) -> list[Generation]:
    """What can be brought back, newest first."""
    if number(server, Place(OWN, "content")) is None:
        return []
    found = server.rows(
        f"SELECT t.name, maxOrNull(l.row_count) FROM system.tables t LEFT JOIN {_LEDGER} l ON l.number = t.uuid"
        f" WHERE t.database = '{OWN}' AND startsWith(t.name, 'g_{place.mark}_') GROUP BY t.name ORDER BY t.name DESC"
        " SETTINGS join_use_nulls = 1"
    )
    return [Generation(name, _at(name, 2), None if rows is None else int(rows)) for name, rows in found]


def prune(server: Server, place: Place) -> None:
    """Drop what has been kept long enough, and what loads left that were killed."""
    found = server.rows(
        f"SELECT name, metadata_modification_time < now() - INTERVAL {STAGED_HOURS} HOUR FROM system.tables"
        f" WHERE database = '{OWN}' AND match(name, '^(g|stage)_{place.mark}_')"
    )
    now = datetime.now(UTC).isoformat()
    for name, old in found:
        if old if name.startswith("stage_") else _at(name, 3) < now:
            forget(server, Place(OWN, name))


def check_known(server: Server, place: Place, generation: str) -> Place:
    """The table of a kept content. Raises EngineError when there is none."""
    if generation not in {one.name for one in generations(server, place)}:
        raise EngineError(
            f"{place.database}.{place.table} cannot go back to {generation}",
            origin=Origin.USER,
            kind=Kind.CONFIGURATION,
            fix="It may have expired: choose one of those that are listed now.",
        )
    return Place(OWN, generation)


def _at(name: str, part: int) -> str:
    """A time in a kept content's name: 2 when it was replaced, 3 when it expires."""
    return datetime.strptime(name.split("_")[part], _TIME).replace(tzinfo=UTC).isoformat()
