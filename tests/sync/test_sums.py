"""Sums in receipts: asked of the source and of the destination, exactly; a count that is asked for."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.connectors.postgres_home import context, source, stream_of
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Column, Mode, Target, Write
from webapp.engine.connectors.sums import plain
from webapp.engine.sync.plan import Counting, StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    yield one
    one.remove()


def to(kind: str, server: TcpPostgres) -> dict[str, Any]:
    return {
        "duckdb": {"path": "lake.duckdb"},
        "postgres": server.config(),
        "s3": {"type": "PARQUET", "writer": {"local_path": "lake"}},
    }[kind]


def run(folder: Path, from_: tuple[str, dict[str, Any]], to_: tuple[str, dict[str, Any]], plan: StreamPlan) -> Any:
    (folder / "data").mkdir(exist_ok=True)
    around = context(folder)
    [receipt] = run_sync(SyncSpec(*from_, *to_, [plan]), around, lambda one: None)
    return receipt


def agreed(receipt: StreamReceipt) -> dict[str, tuple[int, str]]:
    assert (receipt.status, receipt.error, receipt.doubt) == (StreamStatus.LANDED, None, None)
    assert all(one["source"] == one["destination"] for one in receipt.sums.values())
    return {name: (one["source"]["values"], one["source"]["total"]) for name, one in receipt.sums.items()}


@pytest.mark.parametrize("kind", ["duckdb", "postgres", "s3"])
@pytest.mark.parametrize("write", [Write.REPLACE, Write.APPEND, Write.UPSERT])
def test_sums_agree_through_all_modes(server: TcpPostgres, tmp_path: Path, kind: str, write: Write) -> None:
    server.run(
        "DROP SCHEMA IF EXISTS mart, _hohmann, _hohmann_parachute CASCADE",
        "DROP TABLE IF EXISTS orders",
        "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(20,4), big bigint)",
        "INSERT INTO orders SELECT i, i * 0.0001, 9223372036854775807 FROM generate_series(1, 1000) i",
        "INSERT INTO orders VALUES (1001, NULL, NULL), (1002, 'NaN', 1)",
    )
    stream = stream_of(source(server, context(tmp_path)), "public.orders")
    incremental: dict[str, Any] = {"mode": Mode.INCREMENTAL, "cursor": "id"} if write is not Write.REPLACE else {}
    plan = StreamPlan("public", "orders", stream.columns, Target("mart", "orders"), write=write, primary_key=("id",),
                      sums=("amount", "big"), **incremental)  # fmt: skip
    first = agreed(run(tmp_path, ("postgres", server.config()), (kind, to(kind, server)), plan))
    assert first == {"amount": (1000, "50.05"), "big": (1001, "9223372036854775807001")}
    server.run("INSERT INTO orders VALUES (1003, -0.5, -7)")
    second = agreed(run(tmp_path, ("postgres", server.config()), (kind, to(kind, server)), plan))
    everything = {"amount": (1001, "49.55"), "big": (1002, "9223372036854775806994")}
    assert second == (everything if write is Write.REPLACE else {"amount": (1, "-0.5"), "big": (1, "-7")})


def test_a_value_that_changes_on_its_way_is_a_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webapp.engine.connectors.sqlite.source import SQLiteSession
    from webapp.engine.sync import stream

    monkeypatch.setattr(stream, "GRACE", 0.01)
    with sqlite3.connect(tmp_path / "shop.db") as file:
        file.execute("CREATE TABLE t (id INTEGER, n INTEGER)")
        file.executemany("INSERT INTO t VALUES (?, ?)", [(i, i) for i in range(10)])
    file.close()
    plan = StreamPlan("main", "t", (Column("id", "BIGINT"), Column("n", "BIGINT")), Target("main", "t"), sums=("n",))
    ends = ("sqlite", {"path": "shop.db"}), ("duckdb", {"path": "lake.duckdb"})
    assert agreed(run(tmp_path, *ends, plan)) == {"n": (10, "45")}
    honest = SQLiteSession._row
    # What arrives is right, and what the source says of it is not: the other way round looks the same from here.
    monkeypatch.setattr(
        SQLiteSession, "_row", lambda self, select, read: [v + ("sum" in select) for v in honest(self, select, read)]
    )
    receipt = run(tmp_path, *ends, plan)
    assert receipt.status is StreamStatus.DOUBT
    assert "n adds up to" in str(receipt.doubt)


def test_sums_of_a_duckdb_and_a_sqlite_file_are_exact(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT i AS id, (i / 8)::DECIMAL(18,3) AS d FROM range(1000) r(i)")
    columns = (Column("id", "BIGINT"), Column("d", "DECIMAL(18,3)"))
    plan = StreamPlan("main", "t", columns, Target("main", "t"), sums=("id", "d"))
    found = agreed(run(tmp_path, ("duckdb", {"path": "a.duckdb"}), ("duckdb", {"path": "b.duckdb"}), plan))
    assert found == {"id": (1000, "499500"), "d": (1000, "62437.5")}
    with sqlite3.connect(tmp_path / "shop.db") as file:
        file.execute("CREATE TABLE t (id INTEGER)")
        file.executemany("INSERT INTO t VALUES (?)", [(2**63 - 1,), (2**63 - 1,), (-(2**63),), (None,), (-5,)])
    file.close()
    plan = StreamPlan("main", "t", (Column("id", "BIGINT"),), Target("main", "u"), sums=("id",))
    found = agreed(run(tmp_path, ("sqlite", {"path": "shop.db"}), ("duckdb", {"path": "b.duckdb"}), plan))
    assert found == {"id": (4, str(2**63 - 7))}


@pytest.mark.parametrize(
    ("columns", "sums", "said"),
    [
        ((Column("x", "DOUBLE"),), ("x",), "x is DOUBLE"),
        ((Column("x", "VARCHAR"),), ("x",), "x is VARCHAR"),
        ((Column("x", "BIGINT"),), ("y",), "y is not among the chosen columns"),
    ],
)
def test_what_has_no_exact_sum_is_refused_before_anything_moves(
    tmp_path: Path, columns: tuple[Column, ...], sums: tuple[str, ...], said: str
) -> None:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    plan = StreamPlan("main", "t", columns, Target("main", "t"), sums=sums)
    receipt = run(tmp_path, ("duckdb", {"path": "a.duckdb"}), ("duckdb", {"path": "b.duckdb"}), plan)
    assert receipt.status is StreamStatus.FAILED
    assert said in receipt.error["message"]
    assert receipt.rows_read == 0


def test_a_side_that_adds_nothing_up_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\n")
    plan = StreamPlan("", "t", (Column("x", "BIGINT"),), Target("main", "t"), sums=("x",))
    receipt = run(tmp_path, ("files", {"path": "t.csv", "format": "csv"}), ("duckdb", {"path": "b.duckdb"}), plan)
    assert "cannot add columns up" in receipt.error["message"]


def test_a_large_table_is_counted_when_that_is_asked_for(
    server: TcpPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webapp.engine.connectors.postgres import session

    monkeypatch.setattr(session, "_COUNT_PAGES", 0)  # as if the table had 256 MB
    server.run("DROP TABLE IF EXISTS few", "CREATE TABLE few AS SELECT i FROM generate_series(1, 5000) i")
    stream = stream_of(source(server, context(tmp_path)), "public.few")
    found = {}
    for count in Counting:
        plan = StreamPlan("public", "few", stream.columns, Target("main", "few"), count=count)
        found[count] = run(tmp_path, ("postgres", server.config()), ("duckdb", {"path": "b.duckdb"}), plan).rows_source
    assert found == {Counting.ALWAYS: 5000, Counting.CHEAP: None, Counting.NEVER: None}


def test_numbers_are_written_in_one_way() -> None:
    from decimal import Decimal

    said = [plain(Decimal(text)) for text in ("-0", "0.000", "1E+3", "10", "1.500", "-2.50")]
    assert said == ["0", "0", "1000", "10", "1.5", "-2.5"]
