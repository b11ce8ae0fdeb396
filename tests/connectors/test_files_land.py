"""Files, APIs, SQLite and DuckDB all the way into a DuckDB file, again and again, with every row proven."""

import dataclasses
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.connectors.reading import context_in
from tests.engine.api_server import Asked, Reply, api_server
from webapp.engine.connectors.base import Mode, Target, Write
from webapp.engine.connectors.registry import source_class
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync


def land(folder: Path, type_: str, config: dict[str, Any], cursor: str | None = None) -> StreamReceipt:
    """Discover the one stream and move it to the table `landed`, appending what is new where there is a cursor."""
    context = context_in(folder)
    known = source_class(type_)
    (stream,) = known(known.Spec.model_validate(config), context).discover()
    mode, write = (Mode.INCREMENTAL, Write.APPEND) if cursor else (Mode.FULL_REFRESH, Write.REPLACE)
    plan = StreamPlan(stream.namespace, stream.name, stream.columns, Target("", "landed"), mode, write, cursor=cursor)
    (receipt,) = run_sync(SyncSpec(type_, config, "duckdb", {"path": "lake.duckdb"}, [plan]), context, lambda _: None)
    return receipt


def landed(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(folder / "data" / "lake.duckdb"), read_only=True) as connection:
        return connection.sql(f"SELECT {columns} FROM landed ORDER BY ALL").fetchall()


def in_files(folder: Path) -> tuple[dict[str, Any], str, Callable[[int], None]]:
    (folder / "data" / "in").mkdir(parents=True)

    def add(number: int) -> None:
        file = folder / "data" / "in" / f"{number}.csv"
        file.write_text(f"id,t\n{number},x\n")
        os.utime(file, (1_700_000_000, 1_700_000_000 + number // 2))

    return {"streams": [{"name": "in", "path": "in/*.csv"}]}, "_last_modified_time", add


def in_sqlite(folder: Path) -> tuple[dict[str, Any], str, Callable[[int], None]]:
    (folder / "data").mkdir()

    def add(number: int) -> None:
        with closing(sqlite3.connect(folder / "data" / "a.db")) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, at DATETIME)")
            connection.execute("INSERT INTO t VALUES (?, ?)", [number, f"2024-01-0{1 + number // 2} 10:00:00"])
            connection.commit()

    return {"path": "a.db"}, "at", add


def in_duckdb(folder: Path) -> tuple[dict[str, Any], str, Callable[[int], None]]:
    (folder / "data").mkdir()

    def add(number: int) -> None:
        with duckdb.connect(str(folder / "data" / "a.duckdb")) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (id BIGINT, moment TIMESTAMPTZ)")
            connection.execute("INSERT INTO t VALUES ($1, $2)", [number, f"2024-01-0{1 + number // 2} 10:00:00.5+00"])

    return {"path": "a.duckdb"}, "moment", add


@pytest.mark.parametrize(
    ("type_", "made"),
    [("files", in_files), ("sqlite", in_sqlite), ("duckdb", in_duckdb)],
    ids=["csv", "sqlite", "duckdb"],
)
def test_each_row_lands_once_however_often_it_is_looked_for(tmp_path: Path, type_: str, made: Any) -> None:
    config, cursor, add = made(tmp_path)
    for number in (1, 2, 4, 5):
        add(number)
        receipt = land(tmp_path, type_, config, cursor)
        assert (receipt.status, receipt.error, receipt.rows_written) == (StreamStatus.LANDED, None, 1)
    assert land(tmp_path, type_, config, cursor).rows_written == 0
    assert landed(tmp_path, "id") == [(1,), (2,), (4,), (5,)]


def test_records_of_an_api_land_once(tmp_path: Path) -> None:
    rows = [{"id": 1, "at": "2024-01-01T10:00:00Z"}]
    stream = {"name": "orders", "cursor_field": "at", "incremental_param": "since", "primary_key": "id"}

    def answer(asked: Asked) -> Reply:
        return Reply([row for row in rows if str(row["at"]) >= asked.params.get("since", "")])

    with api_server(answer) as server:
        config = {"base_url": server.url, "streams": [stream]}
        assert land(tmp_path, "rest", config, "at").rows_written == 1
        rows.append({"id": 2, "at": "2024-01-02T10:00:00Z"})
        assert land(tmp_path, "rest", config, "at").rows_written == 1
        assert landed(tmp_path, "id") == [(1,), (2,)]


def test_a_full_refresh_replaces_the_table(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json").write_text('[{"id": 1, "who": {"name": "Ada"}}, {"id": 2}]')
    receipt = land(tmp_path, "json", {"path": "a.json"})
    assert (receipt.status, receipt.rows_written, receipt.rows_found) == (StreamStatus.LANDED, 2, 2)
    (tmp_path / "data" / "a.json").write_text('[{"id": 3, "who": {"name": "Eve"}}]')
    assert land(tmp_path, "json", {"path": "a.json"}).status is StreamStatus.LANDED
    assert landed(tmp_path, "id, who") == [(3, {"name": "Eve"})]


def test_a_bad_row_fails_its_stream_and_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    config, _cursor, add = in_files(tmp_path)
    add(1)
    assert land(tmp_path, "csv", config).status is StreamStatus.LANDED
    context = context_in(tmp_path)
    known = source_class("files")
    (stream,) = known(known.Spec.model_validate(config), context).discover()
    plan = StreamPlan("", "in", stream.columns, Target("", "landed"))
    (tmp_path / "data" / "in" / "2.csv").write_text("id,t\nmany,x\n")
    spec = SyncSpec("files", config, "duckdb", {"path": "lake.duckdb"}, [plan])
    (receipt,) = run_sync(dataclasses.replace(spec), context, lambda _: None)
    assert receipt.status is StreamStatus.FAILED
    assert receipt.error is not None
    assert (receipt.error["origin"], "2.csv, line 2: 'many' in column id" in receipt.error["message"]) == (
        "source",
        True,
    )
    assert landed(tmp_path, "id") == [(1,)]
