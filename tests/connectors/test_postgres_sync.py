"""Whole runs from PostgreSQL, to PostgreSQL and to DuckDB: full, incremental, and what a run says of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.connectors.postgres_home import context, source, stream_of
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Column, Mode, Target, Write
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    yield one
    one.remove()


def sync(server: TcpPostgres, folder: Path, kind: str, settings: dict[str, Any], *plans: StreamPlan) -> Any:
    spec = SyncSpec("postgres", server.config(), kind, settings, plans)
    return run_sync(spec, context(folder), lambda receipt: None)


def plan(server: TcpPostgres, folder: Path, label: str, target: Target, **more: Any) -> StreamPlan:
    stream = stream_of(source(server, context(folder)), label)
    return StreamPlan(stream.namespace, stream.name, stream.columns, target, primary_key=stream.primary_key, **more)


def test_a_large_table_lands_in_duckdb_with_every_row_counted(server: TcpPostgres, tmp_path: Path) -> None:
    server.run(
        "DROP TABLE IF EXISTS big",
        "CREATE TABLE big AS SELECT i::bigint AS id, (i / 7.0)::numeric(12,4) AS amount, repeat('x', 300) AS note,"
        " ARRAY[i, NULL] AS list, gen_random_uuid() AS u, to_jsonb(i) AS j FROM generate_series(1, 80000) i",
    )
    file = str(tmp_path / "landed.duckdb")
    (receipt,) = sync(
        server, tmp_path, "duckdb", {"path": file}, plan(server, tmp_path, "public.big", Target("main", "big"))
    )
    assert (receipt.status, receipt.error) == (StreamStatus.LANDED, None)
    assert (receipt.rows_source, receipt.rows_read, receipt.rows_found) == (80000, 80000, 80000)
    assert receipt.chunks == 4
    expected = server.run("SELECT sum(id), sum(amount), sum(list[1]), count(DISTINCT u) FROM big")
    with duckdb.connect(file, read_only=True) as connection:
        found = connection.execute("SELECT sum(id), sum(amount), sum(list[1]), count(DISTINCT u) FROM big").fetchall()
    assert [tuple(map(str, row)) for row in found] == [tuple(map(str, row)) for row in expected]


@pytest.mark.parametrize("write", [Write.APPEND, Write.UPSERT])
def test_incremental_runs_between_two_schemas_bring_each_change_once(
    server: TcpPostgres, tmp_path: Path, write: Write
) -> None:
    server.run(
        "DROP SCHEMA IF EXISTS mart, _hohmann, _hohmann_parachute CASCADE",
        "DROP TABLE IF EXISTS orders",
        "CREATE TABLE orders (id integer PRIMARY KEY, changed timestamptz, note text)",
        "INSERT INTO orders SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', 'n' FROM generate_series(1, 9) i",
        "INSERT INTO orders VALUES (10, NULL, 'no time')",
    )

    def run() -> StreamReceipt:
        one = plan(
            server, tmp_path, "public.orders", Target("mart", "orders"),
            mode=Mode.INCREMENTAL, write=write, cursor="changed",
        )  # fmt: skip
        (receipt,) = sync(server, tmp_path, "postgres", server.config(), one)
        assert (receipt.status, receipt.error, receipt.doubt) == (StreamStatus.LANDED, None, None)
        return receipt

    assert run().rows_read == 10
    assert run().rows_read == 0
    server.run(
        "UPDATE orders SET note = 'new', changed = '2026-01-02' WHERE id = 3",
        "INSERT INTO orders VALUES (11, '2026-01-03', 'later')",
    )
    assert run().rows_read == 2
    threes = server.run("SELECT note FROM mart.orders WHERE id = 3 ORDER BY note DESC")
    assert threes == ([("new",), ("n",)] if write is Write.APPEND else [("new",)])
    assert server.run("SELECT count(*) FROM mart.orders") == [(12 if write is Write.APPEND else 11,)]


@pytest.mark.parametrize("write", [Write.APPEND, Write.UPSERT])
def test_structures_and_nested_lists_of_another_source_come_a_second_time(
    server: TcpPostgres, tmp_path: Path, write: Write
) -> None:
    server.run("DROP SCHEMA IF EXISTS mart, _hohmann, _hohmann_parachute CASCADE")
    types = {"id": "BIGINT", "home": 'STRUCT("city" VARCHAR)', "grid": "INTEGER[][]", "tags": "VARCHAR[]"}
    columns = tuple(Column(name, kind) for name, kind in types.items())
    one = StreamPlan(
        "main", "crew", columns, Target("mart", "crew"),
        mode=Mode.INCREMENTAL, write=write, cursor="id", primary_key=("id",),
    )  # fmt: skip
    origin = {"path": str(tmp_path / "crew.duckdb")}
    with duckdb.connect(origin["path"]) as connection:
        connection.execute(f"CREATE TABLE crew ({', '.join(f'{name} {kind}' for name, kind in types.items())})")
    for number in (1, 2):
        with duckdb.connect(origin["path"]) as connection:
            connection.execute("INSERT INTO crew VALUES ($1, {'city': 'Ulm'}, [[1], [2, NULL]], ['a'])", [number])
        spec = SyncSpec("duckdb", origin, "postgres", server.config(), (one,))
        (receipt,) = run_sync(spec, context(tmp_path), lambda receipt: None)
        assert (receipt.status, receipt.error, receipt.doubt) == (StreamStatus.LANDED, None, None)
    found = server.run("SELECT id, home, grid, tags FROM mart.crew ORDER BY id")
    assert found == [(number, {"city": "Ulm"}, [[1], [2, None]], ["a"]) for number in (1, 2)]


def test_one_table_that_fails_leaves_the_others_alone(server: TcpPostgres, tmp_path: Path) -> None:
    server.run(
        "DROP TABLE IF EXISTS good, bad",
        "CREATE TABLE good AS SELECT 1 AS a",
        "CREATE TABLE bad AS SELECT 1 AS a",
    )
    plans = [plan(server, tmp_path, f"public.{name}", Target("out", name)) for name in ("bad", "good")]
    server.run("DROP TABLE bad")
    bad, good = sync(server, tmp_path, "postgres", server.config(), *plans)
    assert (bad.status, good.status) == (StreamStatus.FAILED, StreamStatus.LANDED)
    assert bad.error["origin"] == "source"
    assert "public.bad" in bad.error["message"]
