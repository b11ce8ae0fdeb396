"""A small source and what a sync job of it looks like in contract 002's words."""

import json
import sqlite3
from pathlib import Path
from typing import Any

VERSION = "v1.0.0"


def make_source(path: Path, *, rows: int = 3) -> str:
    """A SQLite file with the tables `probes` (key, cursor) and `notes` (neither); returns its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE probes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, seen INTEGER NOT NULL)")
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute("INSERT INTO notes VALUES ('one'), ('two')")
    connection.close()
    add_rows(path, 1, rows)
    return path.name


def add_rows(path: Path, first: int, last: int) -> None:
    """Probes with these ids."""
    with sqlite3.connect(path) as connection:
        rows = [(number, f"probe {number}", number) for number in range(first, last + 1)]
        connection.executemany("INSERT INTO probes VALUES (?, ?, ?)", rows)
    connection.close()


def stream(name: str = "probes", **more: Any) -> dict[str, Any]:
    """A stream of a catalog document, as discovery writes it."""
    properties = {
        "id": {"type": ["integer"], "destination_column_name": "id", "data_type": "BIGINT"},
        "name": {"type": ["string"], "destination_column_name": "name", "data_type": "VARCHAR"},
        "seen": {"type": ["integer"], "destination_column_name": "seen", "data_type": "BIGINT"},
    }
    described = {
        "name": name,
        "namespace": "main",
        "sync_mode": "full_refresh",
        "supported_sync_modes": ["full_refresh", "incremental"],
        "cursor_field": "",
        "available_cursor_fields": ["id", "seen"],
        "source_defined_primary_key": ["id"],
        "type_schema": {"properties": properties},
        "destination_database": "lake:main",
        "destination_table": name,
    }
    return {"stream": described | more}


def choice(name: str = "probes", **more: Any) -> dict[str, Any]:
    """A selected stream."""
    return {"stream_name": name, "partition_regex": "", "normalization": True, "filter": ""} | more


def document(*streams: dict[str, Any], **choices: list[dict[str, Any]]) -> dict[str, Any]:
    """A catalog document; without choices every stream is selected."""
    given = streams or (stream(),)
    selected: Any = choices or {"main": [choice(one["stream"]["name"]) for one in given]}
    return {"streams": list(given), "selected_streams": selected}


def job_body(
    name: str = "copy", *, streams: Any = None, frequency: str = "", file: str = "probes.db"
) -> dict[str, Any]:
    """A job as contract 002's clients send it, from a SQLite file to a DuckDB file."""
    return {
        "name": name,
        "source": {"name": "probes", "type": "sqlite", "version": VERSION, "config": json.dumps({"path": file})},
        "destination": {
            "name": "lake",
            "type": "duckdb",
            "version": VERSION,
            "config": json.dumps({"path": "lake.duckdb"}),
        },
        "frequency": frequency,
        "streams_config": json.dumps(document() if streams is None else streams),
    }
