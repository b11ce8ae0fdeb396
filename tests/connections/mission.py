"""Connections for tests of this room: real SQLite files to look at, and a database server with a secret."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.people import Person
from webapp.connections import operations as connections
from webapp.connections.models import Connection, ConnectionRole
from webapp.connections.operations import ConnectionDraft

SERVER = {"host": "127.0.0.1", "port": 1, "database": "crm", "username": "reader", "password": "hunter2hunter2"}


def make_shop(home: Path, *, tables: int = 1, rows: int = 3) -> str:
    """A SQLite file in the data folder; returns its path there."""
    folder = home / "data"
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "shop.db")
    with database:
        for number in range(tables):
            database.execute(f"CREATE TABLE sale_{number:05} (id INTEGER PRIMARY KEY, what TEXT)")
        database.executemany("INSERT INTO sale_00000 (what) VALUES (?)", [(f"thing {n}",) for n in range(rows)])
    database.close()
    return "shop.db"


def make_source(
    person: Person, *, name: str = "shop", type_: str = "sqlite", config: Mapping[str, Any] | None = None
) -> Connection:
    """A stored source. Needs a unit of work."""
    draft = ConnectionDraft(name, type_, "v1.0.0", config or {"path": "shop.db"})
    return connections.create_connection(person.actor, ConnectionRole.SOURCE, draft)
