"""ClickHouse as a destination, beyond the contract: loads that are cut off, other writers, other tables."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.connectors.lakes import PLAIN, Lake, crew
from tests.engine.api_server import Reply, api_server
from tests.support.clickhouse import ClickHouseServer, clickhouse_server
from webapp.engine.connectors import extras
from webapp.engine.connectors.base import Chunk, Column, Load, Mode, Target, Write, first_failure
from webapp.engine.connectors.clickhouse import contents, loading
from webapp.engine.connectors.clickhouse.outgoing import arrow_data
from webapp.engine.connectors.clickhouse.server import Server, fault
from webapp.engine.connectors.clickhouse.spec import ClickHouseSpec
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.sync.plan import StreamPlan, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

TABLE = Target("mission", "crew")
NULLABLE = (Column("id", "BIGINT"), Column("name", "VARCHAR"))


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[ClickHouseServer]:
    with clickhouse_server() as server:
        yield server


@pytest.fixture
def lake(clickhouse: ClickHouseServer, tmp_path: Path) -> Lake:
    for name in ("mission", "_hohmann"):
        clickhouse.ask(f"DROP DATABASE IF EXISTS {name}")
    clickhouse.ask("CREATE DATABASE mission")
    return Lake(tmp_path, "clickhouse", {**clickhouse.config(), "database": "mission"}, table=TABLE)


def leftovers(clickhouse: ClickHouseServer) -> list[str]:
    """What lies in the database of ours besides the ledger."""
    return clickhouse.ask("SELECT name FROM system.tables WHERE database = '_hohmann' AND name != 'content'")


# --- loads that are cut off -------------------------------------------------------------------------------------------


def cut_off_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does so many more calls; then nothing comes through, the last answer included."""
    original, left = Server._watched, [calls]

    def watched(self: Server, ask: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            answer = original(self, ask)
        if left[0] <= 0:
            raise EngineError("the line is dead", origin=Origin.DESTINATION, kind=Kind.TRANSIENT)
        return answer

    monkeypatch.setattr(Server, "_watched", watched)


@pytest.mark.slow
@pytest.mark.parametrize("write", list(Write))
def test_a_commit_cut_off_anywhere_leaves_the_old_rows_and_state_or_the_new_ones(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    old, new = {1: "a1", 2: "a2"}, {2: "b2", 3: "b3"}
    full = {Write.REPLACE: new, Write.UPSERT: {**old, **new}, Write.APPEND: {**old, 3: "b3", 4: "b4"}}[write]
    rows = crew(3, 4, name="b") if write is Write.APPEND else crew(2, 3, name="b")
    ends, landed, calls = [], False, 0
    with lake.destination.open() as session:
        while not landed:
            calls += 1
            lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
            writer = session.begin(Load(TABLE, write, PLAIN, key=("id",) if write is Write.UPSERT else ()))
            writer.write(pa.Table.from_pylist(rows, schema=arrow_schema(PLAIN)).to_reader(), Chunk("all"))
            with monkeypatch.context() as patch:
                cut_off_after(calls, patch)
                try:
                    writer.commit({"cursor": 3})
                    landed = True
                except EngineError as error:
                    assert error.kind is Kind.TRANSIENT, error
                    writer.abort()
            found = session.preview(TABLE, limit=9).sort_by("id").to_pylist()
            ends.append(({row["id"]: row["name"] for row in found}, session.state(TABLE)))
    before = ends.count((old, {"cursor": 2}))
    assert ends == [(old, {"cursor": 2})] * before + [(full, {"cursor": 3})] * (calls - before)
    assert 0 < before < calls


def test_what_a_killed_load_left_is_cleared_away_by_a_later_one(lake: Lake, clickhouse: ClickHouseServer) -> None:
    lake.load(Write.REPLACE, crew(1))
    with lake.destination.open() as session:
        session.begin(Load(TABLE, Write.APPEND, PLAIN))  # and neither committed nor given up
    assert len(leftovers(clickhouse)) == 1
    lake.load(Write.APPEND, crew(2))
    assert len(leftovers(clickhouse)) == 1, "another load may still be writing it"
    [name] = leftovers(clickhouse)
    mark = contents.Place("mission", "crew").mark
    assert name.startswith(f"stage_{mark}_")
    long_ago = f"g_{mark}_20200101000000_20200102000000_ab"
    clickhouse.ask(f"RENAME TABLE _hohmann.{name} TO _hohmann.{long_ago}")
    lake.load(Write.APPEND, crew(3))
    assert leftovers(clickhouse) == []


def test_a_cancelled_run_ends_what_the_server_does(lake: Lake) -> None:
    stop = threading.Event()
    server = Server(ClickHouseSpec.model_validate(lake.config), replace(lake.context, cancelled=stop.is_set))
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Cancelled):
        server.rows("SELECT sleepEachRow(1) FROM numbers(60) SETTINGS max_block_size = 1")
    server.close()


# --- other writers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [Write.APPEND, Write.UPSERT])
def test_of_two_loads_at_once_the_second_is_refused_and_loses_nothing(lake: Lake, write: Write) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    key = ("id",) if write is Write.UPSERT else ()
    with lake.destination.open() as session:
        late = session.begin(Load(TABLE, write, PLAIN, key=key))
        late.write(pa.Table.from_pylist(crew(5), schema=arrow_schema(PLAIN)).to_reader(), Chunk("all"))
        lake.load(Write.APPEND, crew(2), state={"cursor": 2})
        with pytest.raises(EngineError, match="somebody else") as refused:
            late.commit({"cursor": 5})
        late.abort()
    assert refused.value.kind is Kind.TRANSIENT
    assert (lake.names(), lake.state()) == ({1: "a1", 2: "a2"}, {"cursor": 2})


def test_a_load_that_slips_in_before_the_exchange_gets_its_content_back(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    do = Server.do

    def with_another(self: Server, *statements: str) -> None:
        if statements[0].startswith("EXCHANGE"):
            monkeypatch.setattr(Server, "do", do)
            lake.load(Write.APPEND, crew(2), state={"cursor": 2})
        do(self, *statements)

    monkeypatch.setattr(Server, "do", with_another)
    with pytest.raises(EngineError, match="somebody else"):
        lake.load(Write.APPEND, crew(5), state={"cursor": 5})
    assert (lake.names(), lake.state()) == ({1: "a1", 2: "a2"}, {"cursor": 2})


def test_rows_that_another_program_inserts_during_the_commit_are_not_lost(
    lake: Lake, clickhouse: ClickHouseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    fit = loading.ClickHouseWriter._fit

    def with_another(self: loading.ClickHouseWriter, new: contents.Place) -> None:
        clickhouse.ask("INSERT INTO mission.crew VALUES (7, 'theirs')")
        fit(self, new)

    monkeypatch.setattr(loading.ClickHouseWriter, "_fit", with_another)
    with pytest.raises(EngineError, match="somebody else"):
        lake.load(Write.APPEND, crew(5), state={"cursor": 5})
    assert (lake.names(), lake.state()) == ({1: "a1", 7: "theirs"}, {"cursor": 1})


# --- rows and tables --------------------------------------------------------------------------------------------------


def test_of_a_key_that_comes_twice_the_last_row_counts(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.UPSERT, PLAIN, key=("id",)))
        for name in ("b", "c"):
            rows = pa.Table.from_pylist(crew(1, 2, name=name), schema=arrow_schema(PLAIN))
            writer.write(rows.to_reader(), Chunk(name))
        assert writer.commit({}).found == 2
    assert lake.names() == {1: "c1", 2: "c2"}


def test_rows_that_are_the_same_all_arrive(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 1, 1, 1))
    assert lake.load(Write.APPEND, crew(1, 1)).total == 6


def test_readers_never_see_a_key_twice_and_kept_rows_that_were_deleted_stay_deleted(lake: Lake) -> None:
    lake.load(Write.UPSERT, crew(*range(100)))
    lake.load(Write.UPSERT, crew(*range(50, 150), name="b"))
    landed = lake.load(Write.UPSERT, crew(*range(140, 160), name="c"))
    assert (landed.found, landed.total) == (20, 160)
    assert sorted({name[0] for name in lake.names().values()}) == ["a", "b", "c"]
    assert len(lake.rows()) == 160


def test_nulls_open_a_column_that_took_none_unless_the_table_is_sorted_by_it(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    lake.load(Write.APPEND, [{"id": None, "name": "b"}], columns=NULLABLE)
    assert lake.load(Write.APPEND, crew(2)).total == 3
    lake.load(Write.REPLACE, crew(1), key=("id",))
    with pytest.raises(EngineError, match="NULL") as refused:
        lake.load(Write.APPEND, [{"id": None, "name": "b"}], columns=NULLABLE)
    assert "no nulls" in (refused.value.fix or "")
    assert lake.names() == {1: "a1"}


def test_a_column_that_sorts_the_table_keeps_its_type(lake: Lake) -> None:
    narrow = (Column("id", "INTEGER", False), Column("name", "VARCHAR"))
    lake.load(Write.UPSERT, crew(1), columns=narrow)
    with pytest.raises(EngineError) as refused:
        lake.load(Write.UPSERT, crew(2), columns=PLAIN)
    assert "full refresh" in (refused.value.fix or "")
    assert lake.names() == {1: "a1"}


def test_whole_numbers_are_not_rounded_to_reals(lake: Lake) -> None:
    numbers = (Column("id", "BIGINT", False), Column("name", "BIGINT"))
    reals = (Column("id", "BIGINT", False), Column("name", "DOUBLE"))
    lake.load(Write.REPLACE, [{"id": 1, "name": 2**53 + 1}], columns=numbers)
    with pytest.raises(EngineError, match="round"):
        lake.load(Write.APPEND, [{"id": 2, "name": 0.5}], columns=reals)
    lake.load(Write.REPLACE, [{"id": 1, "name": 2**53}], columns=numbers)
    lake.load(Write.APPEND, [{"id": 2, "name": 0.5}], columns=reals)
    assert [row["name"] for row in lake.rows()] == [2.0**53, 0.5]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("(id Int64, name String) ENGINE = ReplacingMergeTree ORDER BY id", "ReplacingMergeTree"),
        ("(id Int64, name Enum8('a1' = 1)) ENGINE = MergeTree ORDER BY id", "Enum8"),
        ("(id Int64, name String MATERIALIZED 'x') ENGINE = MergeTree ORDER BY id", "computed"),
        ("(id String, name String) ENGINE = MergeTree ORDER BY id", ""),
    ],
)
def test_tables_of_others_are_added_to_where_nothing_is_lost_and_replaced_in_any_case(
    lake: Lake, clickhouse: ClickHouseServer, made: str, words: str
) -> None:
    clickhouse.ask(f"CREATE TABLE mission.crew {made}")
    if words:
        with pytest.raises(EngineError, match=words) as refused:
            lake.load(Write.APPEND, crew(1))
        assert refused.value.fix
    else:
        assert lake.load(Write.APPEND, crew(1)).total == 1
    lake.load(Write.REPLACE, crew(1, 2))
    assert lake.load(Write.APPEND, crew(3)).total == 3


def test_a_view_is_not_replaced(lake: Lake, clickhouse: ClickHouseServer) -> None:
    clickhouse.ask("CREATE VIEW mission.crew AS SELECT 1 AS id")
    with pytest.raises(EngineError, match="not a table"):
        lake.load(Write.REPLACE, crew(1))


def test_a_database_whose_tables_cannot_be_exchanged_is_refused(lake: Lake) -> None:
    lake.config = {**lake.config, "database": "system"}
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert failed.name == "write"
    clash = replace(lake, table=Target("default", "crew"))  # of another engine in the library that the tests run
    with pytest.raises(EngineError, match="cannot be exchanged") as refused:
        clash.load(Write.REPLACE, crew(1))
    assert "Atomic" in (refused.value.fix or "")


def test_nothing_is_kept_where_the_job_wants_nothing_kept(lake: Lake, clickhouse: ClickHouseServer) -> None:
    lake.load(Write.REPLACE, crew(1), keep_days=0)
    for write in Write:
        assert lake.load(write, crew(2), keep_days=0).generation == ""
    assert leftovers(clickhouse) == []
    assert len(clickhouse.ask("SELECT number FROM _hohmann.content")) == 1


def test_a_large_chunk_goes_in_pieces(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PIECE_BYTES", 1000)
    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        rows = pa.Table.from_pylist(crew(*range(1000)), schema=arrow_schema(PLAIN))
        reader = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=100))
        assert writer.write(reader, Chunk("all")) == 1000
        assert writer.commit({}).found == 1000
    assert list(lake.names()) == list(range(1000))


def test_a_sync_goes_on_where_it_ended_and_its_receipts_agree(lake: Lake, clickhouse: ClickHouseServer) -> None:
    shop = lake.context.data_root / "shop.sqlite"
    columns = (Column("id", "BIGINT", False), Column("note", "VARCHAR"))
    plan = StreamPlan("main", "crew", columns, TABLE, Mode.INCREMENTAL, Write.UPSERT, ("id",), cursor="id")
    spec = SyncSpec("sqlite", {"path": "shop.sqlite"}, "clickhouse", lake.config, [plan])
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("CREATE TABLE crew (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany("INSERT INTO crew VALUES (?, ?)", [(n, f"n{n}") for n in range(1, 4)])
    (first,) = run_sync(spec, lake.context, lambda receipt: None)
    assert (first.status, first.rows_read, first.rows_found) == (StreamStatus.LANDED, 3, 3), first
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("INSERT INTO crew VALUES (4, 'four')")
    (second,) = run_sync(spec, lake.context, lambda receipt: None)
    assert (second.status, second.rows_read, second.rows_total) == (StreamStatus.LANDED, 1, 4), second
    assert clickhouse.ask("SELECT note FROM mission.crew ORDER BY id") == ["n1", "n2", "n3", "four"]


# --- values that ClickHouse would change ------------------------------------------------------------------------------


def sent(column: Column, *values: Any, wide_dates: bool = False) -> None:
    batch = pa.RecordBatch.from_pylist([{"c": value} for value in values], schema=arrow_schema([column]))
    arrow_data([batch], [column], wide_dates=wide_dates)


def test_a_text_that_is_no_uuid_is_refused() -> None:
    column = Column("c", "UUID")
    sent(column, "6F1C1F0E-0000-4000-8000-00000000000f", None)
    with pytest.raises(pa.ArrowInvalid, match="no UUID"):
        sent(column, "6f1c1f0e")


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"])
def test_dates_that_an_older_server_would_move_are_refused(kind: str) -> None:
    import datetime as dt

    def day(year: int) -> Any:
        return dt.date(year, 1, 1) if kind == "DATE" else dt.datetime(year, 1, 1)

    sent(Column("c", kind), day(1900), day(2299), None)
    sent(Column("c", kind), day(1), day(9999), wide_dates=True)
    for year in (1899, 2300):
        with pytest.raises(pa.ArrowInvalid, match="outside"):
            sent(Column("c", kind), day(2000), day(year))


# --- servers ----------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_said_without_the_password(lake: Lake) -> None:
    lake.config = {**lake.config, "password": "hidden-word"}
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert (failed.name, "password" in failed.fix, "hidden-word" in repr(failed)) == ("log in", True, False)


@pytest.mark.parametrize("status", [200, 302, 404])
def test_a_server_that_is_no_clickhouse_is_told_and_leads_nowhere_else(lake: Lake, status: int) -> None:
    asked: list[str] = []

    def answer(request: Any) -> Reply:
        asked.append(request.path)
        return Reply(b"<html>hello", status=status, headers={"Location": "/elsewhere"})

    with api_server(answer) as server:
        lake.config = {**lake.config, "port": int(server.url.rpartition(":")[2])}
        failed = first_failure(lake.destination.check())
    assert failed is not None
    assert (failed.name, "HTTP interface" in failed.fix) == ("log in", True), failed
    assert not [path for path in asked if "elsewhere" in path]


def test_a_server_that_speaks_plain_http_is_told_from_one_with_tls(lake: Lake) -> None:
    for mode in ("require", "verify-full"):
        lake.config = {**lake.config, "ssl": {"mode": mode}}
        failed = first_failure(lake.destination.check())
        assert failed is not None
        assert (failed.name, "TLS mode" in failed.fix) == ("log in", True)


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [(497, Kind.CONFIGURATION, "Grant"), (243, Kind.SYSTEM, "room"), (241, Kind.TRANSIENT, "later"),
     (62, Kind.CONFIGURATION, "old"), (1001, Kind.SYSTEM, "log")],
)  # fmt: skip
def test_what_the_server_refuses_is_sorted(code: int, kind: Kind, word: str) -> None:
    from clickhouse_connect.driver.exceptions import DatabaseError

    said = f"code: {code}, server response: Code: {code}. DB::Exception: no. (NO) (for url http://x)"
    told = fault(DatabaseError(said, code=code), ClickHouseSpec.model_validate({"host": "ch"}))
    assert (told.kind, told.message, word in (told.fix or "")) == (kind, "ch:8123: no. (NO)", True)


def test_a_missing_library_says_what_to_install(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert (failed.name, "pip install clickhouse-connect" in failed.fix) == ("library", True)
    with pytest.raises(EngineError, match="not installed"):
        lake.load(Write.REPLACE, crew(1))


def test_the_form_loads_without_the_library() -> None:
    code = (
        "import sys; from webapp.engine.connectors.registry import spec_class;"
        "spec_class('destination', 'clickhouse').model_json_schema();"
        "sys.exit(bool({'clickhouse_connect', 'urllib3', 'pyarrow', 'duckdb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
