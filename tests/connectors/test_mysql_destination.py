"""MySQL as a destination, against a real MariaDB: what lands, what stays visible, what can be brought back."""

import datetime as dt
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
import pytest

from tests.connectors.mysql_home import config, destination, land
from tests.connectors.reading import context_in, failed, rows_of, whole
from tests.support.mariadb import MariaServer, start_or_skip
from tests.support.stacks import free_port
from webapp.engine.connectors.base import Chunk, Column, Load, Mode, Target, Write
from webapp.engine.connectors.mysql.destination import MySQLDestination
from webapp.engine.connectors.mysql.source import MySQLSource
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.sync.plan import StreamPlan, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

TWO = (Column("id", "BIGINT", False), Column("name", "VARCHAR"))
TARGET = Target("", "landed")


@pytest.fixture(scope="module")
def maria() -> Iterator[MariaServer]:
    server = start_or_skip()
    yield server
    server.stop()


class Asked:
    """The server seen by somebody else."""

    def __init__(self, server: MariaServer) -> None:
        self.connection = server.connect()
        with self.connection.cursor() as cursor:  # what a failed test left locked must not be waited for
            cursor.execute("SET lock_wait_timeout = 20")

    def __call__(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def landed(self) -> list[tuple[Any, ...]]:
        return self("SELECT id, name FROM lake.landed ORDER BY id, name")

    def left_over(self) -> list[tuple[Any, ...]]:
        return self(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = '_hohmann' AND table_name LIKE 'stage%'"
        )


@pytest.fixture
def ask(maria: MariaServer) -> Iterator[Asked]:
    """The server without anything that a load has left."""
    asked = Asked(maria)
    asked("DROP DATABASE IF EXISTS lake", "DROP DATABASE IF EXISTS _hohmann", "CREATE DATABASE lake")
    yield asked
    asked.connection.close()


def rows(*pairs: tuple[int | None, str | None]) -> pa.Table:
    return pa.Table.from_pylist([{"id": one, "name": two} for one, two in pairs], arrow_schema(TWO))


WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678901)
VALUES: list[tuple[str, Any, Any]] = [
    ("BOOLEAN", True, 1),
    ("TINYINT", -128, -128),
    ("SMALLINT", -32768, -32768),
    ("INTEGER", -(2**31), -(2**31)),
    ("BIGINT", -(2**63), -(2**63)),
    ("UTINYINT", 255, 255),
    ("USMALLINT", 65535, 65535),
    ("UINTEGER", 2**32 - 1, 2**32 - 1),
    ("UBIGINT", 2**64 - 1, 2**64 - 1),
    ("HUGEINT", Decimal(10**37), Decimal(10**37)),
    ("DECIMAL(38,20)", Decimal(f"123456789012345678.{1:020}"), Decimal(f"123456789012345678.{1:020}")),
    ("DECIMAL(20,18)", Decimal("0.000000000000000001"), Decimal("0.000000000000000001")),
    ("DECIMAL(38,35)", Decimal("1.00000000000000000000000000000000001"), "1.00000000000000000000000000000000001"),
    ("FLOAT", 0.5, 0.5),
    ("DOUBLE", 1.7976931348623157e308, 1.7976931348623157e308),
    ("VARCHAR", "é😀\n\r\t\0'\"\\%_`; DROP", "é😀\n\r\t\0'\"\\%_`; DROP"),
    ("VARCHAR", "", ""),
    ("VARCHAR", "x" * 200_000, "x" * 200_000),
    ("JSON", '{"b": 1, "a": 12345678901234567890123}', '{"b": 1, "a": 12345678901234567890123}'),
    ("UUID", "0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    ("BLOB", bytes(range(256)), bytes(range(256))),
    ("BLOB", b"\xc3'\\\xff", b"\xc3'\\\xff"),
    ("DATE", dt.date(9999, 12, 31), dt.date(9999, 12, 31)),
    ("TIME", dt.time(23, 59, 59, 999999), dt.timedelta(hours=23, minutes=59, seconds=59, microseconds=999999)),
    ("TIMESTAMP", WHEN, WHEN),
    ("TIMESTAMP_NS", WHEN, WHEN),
    ("TIMESTAMP WITH TIME ZONE", WHEN.replace(tzinfo=dt.UTC), WHEN),
    ("TIMESTAMP WITH TIME ZONE", dt.datetime(9999, 12, 31, tzinfo=dt.UTC), dt.datetime(9999, 12, 31)),
    ("INTERVAL", pa.MonthDayNano([1, 2, 3_000_000]), "P1M2DT0.003000S"),
    ("STRUCT(a INTEGER, b VARCHAR[])", {"a": 1, "b": ["ä"]}, '{"a": 1, "b": ["ä"]}'),
    ("INTEGER[]", [1, None], "[1, null]"),
]  # fmt: skip


def test_every_type_finds_a_home_and_is_known_again(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    columns = tuple(Column(f"c{at}", kind) for at, (kind, _, _) in enumerate(VALUES))
    values = [{f"c{at}": value for at, (_, value, _) in enumerate(VALUES)}, {}]
    table = pa.Table.from_pylist(values, arrow_schema(columns))
    home = destination(maria, tmp_path)
    assert land(home, table, columns).found == 2
    full, empty = ask("SELECT * FROM lake.landed")
    for (kind, _, expected), found in zip(VALUES, full, strict=True):
        assert found == expected, kind
    assert set(empty) == {None}
    with home.open() as session:
        kept = session.columns(TARGET)
        assert kept is not None
        assert [one.type for one in kept] == [one.type for one in columns]
        assert session.preview(TARGET, limit=1).num_rows == 1
    assert land(home, table, columns, Write.APPEND).total == 4


def test_what_was_read_from_mysql_goes_back_to_mysql(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    ask(
        "CREATE TABLE lake.first"
        " (id INT PRIMARY KEY, flag BIT(1), at TIMESTAMP(3) NULL, t TIME(6), d DECIMAL(20,4), e ENUM('a'))",
        "INSERT INTO lake.first VALUES (1, b'1', '2026-01-02 03:04:05.678', '-100:00:00', -1.5, 'a')",
        "INSERT INTO lake.first (id, flag) VALUES (2, b'0')",
    )
    source = MySQLSource(MySQLSource.Spec.model_validate(config(maria)), context_in(tmp_path))
    (stream,) = source.discover(pattern="lake.first")
    read = rows_of(source, whole(stream))
    land(destination(maria, tmp_path), pa.Table.from_pylist(read, arrow_schema(stream.columns)), stream.columns)
    assert ask("SELECT id, flag, at, t, d, e FROM lake.landed ORDER BY id") == [
        (1, 1, dt.datetime(2026, 1, 2, 3, 4, 5, 678000), "-100:00:00.000000", Decimal("-1.5000"), "a"),
        (2, 0, None, None, None, None),
    ]


def test_a_replace_shows_all_at_once_and_keeps_the_old_rows(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    home = destination(maria, tmp_path)
    first = land(home, rows((1, "a"), (2, None)), TWO, state={"run": 1})
    assert (first.written, first.found, first.total, first.generation) == (2, 2, 2, "")
    seen: list[Any] = []
    second = land(home, rows((3, "c")), TWO, state={"run": 2}, before_commit=lambda: seen.append(ask.landed()))
    assert seen == [[(1, "a"), (2, None)]]
    assert ask.landed() == [(3, "c")]
    with home.open() as session:
        assert session.state(TARGET) == {"run": 2}
        (generation,) = session.generations(TARGET)
        assert (generation.name, generation.rows) == (second.generation, 2)
        assert session.restore(TARGET, generation.name, {"run": 1}).total == 2
        assert session.state(TARGET) == {"run": 1}
        assert ask.landed() == [(1, "a"), (2, None)]
        (back,) = session.generations(TARGET)
        session.restore(TARGET, back.name, None)
        assert session.state(TARGET) is None
    assert ask.landed() == [(3, "c")]
    assert ask.left_over() == []


def test_readers_never_miss_the_table_while_it_is_replaced(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    home = destination(maria, tmp_path)
    land(home, rows((0, "x")), TWO)
    ended, troubles = threading.Event(), list[Exception]()
    counts: set[int] = set()

    def read() -> None:
        with maria.connect() as connection, connection.cursor() as cursor:
            while not ended.is_set():
                try:
                    cursor.execute("SELECT count(*) FROM lake.landed")
                    counts.add(cursor.fetchone()[0])
                except pymysql.MySQLError as error:
                    troubles.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for size in (2, 3, 4):
        land(home, rows(*((n, "x") for n in range(size))), TWO)
    ended.set()
    reader.join()
    assert troubles == []
    assert counts <= {1, 2, 3, 4}


def test_appends_add_up_and_their_state_comes_with_them(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    home = destination(maria, tmp_path)
    for number in (1, 2, 3):
        done = land(home, rows((number, "x")), TWO, Write.APPEND, state={"at": number})
        assert (done.found, done.total, done.generation) == (1, number, "")
        with home.open() as session:
            assert session.state(TARGET) == {"at": number}
    with home.open() as session:
        assert session.generations(TARGET) == []


@pytest.mark.parametrize("own_table", [False, True])
def test_an_upsert_changes_by_key_and_can_be_taken_back(
    maria: MariaServer, ask: Asked, tmp_path: Path, own_table: bool
) -> None:
    if own_table:  # without any index on the key, and with columns of its own
        ask("CREATE TABLE lake.landed (ID bigint, name text, twice bigint AS (ID * 2) STORED, more int DEFAULT 7)")
    home = destination(maria, tmp_path)
    land(home, rows((1, "a"), (2, "b")), TWO, Write.UPSERT, key=("id",), state={"run": 1})
    done = land(home, rows((2, "B"), (3, "c"), (3, "C")), TWO, Write.UPSERT, key=("id",), state={"run": 2})
    assert (done.written, done.found, done.total) == (3, 2, 3)
    assert ask.landed() == [(1, "a"), (2, "B"), (3, "C")]
    with home.open() as session:
        session.restore(TARGET, done.generation, {"back": True})
        assert session.state(TARGET) == {"back": True}
        assert done.generation not in {one.name for one in session.generations(TARGET)}
    assert ask.landed() == [(1, "a"), (2, "b")]
    if own_table:
        assert ask("SELECT twice, more FROM lake.landed ORDER BY id") == [(2, 7), (4, 7)]


def test_text_keys_differ_by_case_accent_and_trailing_blank(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    columns = (Column("key", "VARCHAR"), Column("n", "INTEGER"))
    table = pa.table({"key": ["a", "A", "á", "a "], "n": pa.array([1, 2, 3, 4], pa.int32())})
    home = destination(maria, tmp_path)
    for _ in range(2):
        done = land(home, table, columns, Write.UPSERT, key=("key",))
        assert (done.found, done.total) == (4, 4)


def test_a_kept_table_comes_back_past_appends_and_an_upsert_does_not(
    maria: MariaServer, ask: Asked, tmp_path: Path
) -> None:
    home = destination(maria, tmp_path)
    key = {"key": ("id",)}
    land(home, rows((1, "a")), TWO, Write.UPSERT, **key)
    changed = land(home, rows((1, "b")), TWO, Write.UPSERT, **key)
    replaced = land(home, rows((9, "z")), TWO)
    land(home, rows((10, "y")), TWO, Write.APPEND)
    late = land(home, rows((10, "Y")), TWO, Write.UPSERT, **key)
    land(home, rows((11, "x")), TWO, Write.APPEND)
    with home.open() as session:
        assert [one.name for one in session.generations(TARGET)] == [replaced.generation, changed.generation]
        with pytest.raises(EngineError, match="cannot go back"):
            session.restore(TARGET, late.generation, None)
        session.restore(TARGET, changed.generation, None)
    assert ask.landed() == [(1, "a")]


def test_drift_adds_and_widens_columns_on_the_way(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    home = destination(maria, tmp_path)
    narrow = (Column("id", "INTEGER"), Column("amount", "DECIMAL(5,2)"))
    one = pa.table({"id": pa.array([1], pa.int32()), "amount": pa.array([Decimal("1.50")], pa.decimal128(5, 2))})
    land(home, one, narrow, Write.APPEND)
    wide = (Column("id", "BIGINT"), Column("amount", "DECIMAL(10,4)"), Column("note", "UUID"))
    values = [{"id": 2**40, "amount": Decimal("99999.1234"), "note": "0f8fad5b-d9cb-469f-a165-70867728950e"}]
    land(home, pa.Table.from_pylist(values, arrow_schema(wide)), wide, Write.APPEND)
    with home.open() as session:
        columns = session.columns(TARGET)
        assert columns is not None
        assert [(c.name, c.type) for c in columns] == [(c.name, c.type) for c in wide]
        assert session.columns(Target("", "nothing")) is None
    land(home, one, narrow, Write.APPEND)
    assert ask("SELECT id, amount FROM lake.landed ORDER BY id") == [
        (1, Decimal("1.5000")), (1, Decimal("1.5000")), (2**40, Decimal("99999.1234"))
    ]  # fmt: skip


def test_a_column_that_would_lose_its_default_is_not_widened(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    ask("CREATE TABLE lake.landed (id int DEFAULT 5, name longtext)")
    with pytest.raises(EngineError, match=r"column id .* has a default"):
        land(destination(maria, tmp_path), rows((1, "a")), TWO, Write.APPEND)


def test_a_type_that_cannot_be_widened_is_refused_before_rows_move(
    maria: MariaServer, ask: Asked, tmp_path: Path
) -> None:
    home = destination(maria, tmp_path)
    land(home, rows((1, "a")), TWO, Write.APPEND)
    with home.open() as session, pytest.raises(EngineError, match="column id"):
        session.begin(Load(TARGET, Write.APPEND, (Column("id", "BLOB"),)))
    assert ask.left_over() == []


def test_two_loads_of_one_table_do_not_mix(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    with destination(maria, tmp_path).open() as session:
        first = session.begin(Load(TARGET, Write.REPLACE, TWO))
        with pytest.raises(EngineError, match="another load") as caught:
            session.begin(Load(TARGET, Write.REPLACE, TWO))
        assert caught.value.kind is Kind.TRANSIENT
        first.abort()
        session.begin(Load(TARGET, Write.REPLACE, TWO)).abort()


def test_what_a_killed_load_left_is_cleared_by_the_next(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    home = destination(maria, tmp_path)
    land(home, rows((0, "old")), TWO)
    with home.open() as session:
        session.begin(Load(TARGET, Write.REPLACE, TWO))
        mine = ask.connection.thread_id()
        for (thread,) in ask("SELECT id FROM information_schema.processlist WHERE user = 'root'"):
            if thread != mine:
                with suppress(pymysql.err.OperationalError):  # it has just ended by itself
                    ask(f"KILL {thread}")
    assert len(ask.left_over()) == 1
    assert ask.landed() == [(0, "old")]
    land(home, rows((1, "a")), TWO)
    assert (ask.left_over(), ask.landed()) == ([], [(1, "a")])


def test_chunks_come_over_several_connections_and_a_failed_one_leaves_nothing(
    maria: MariaServer, ask: Asked, tmp_path: Path
) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from rows((1, "a")).to_batches()
        raise Cancelled("the source says so")

    with destination(maria, tmp_path).open() as session:
        writer = session.begin(Load(TARGET, Write.REPLACE, TWO))
        with pytest.raises(Cancelled, match="the source says so"):
            writer.write(pa.RecordBatchReader.from_batches(arrow_schema(TWO), broken()), Chunk("all"))
        threads = [
            threading.Thread(target=writer.write, args=(rows((n, "a")).to_reader(), Chunk(str(n)))) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.commit({}).found == 6


def test_a_cancelled_run_ends_its_statement(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    land(destination(maria, tmp_path), rows((1, "a")), TWO, Write.APPEND)
    ask("LOCK TABLES lake.landed READ")
    stop = threading.Event()
    try:
        home = destination(maria, tmp_path, cancelled=stop.is_set)
        with pytest.raises(Cancelled):
            land(home, rows((2, "b")), TWO, Write.APPEND, before_commit=stop.set)
    finally:
        ask("UNLOCK TABLES")
    assert (ask.landed(), ask.left_over()) == ([(1, "a")], [])


@pytest.mark.parametrize(
    ("columns", "value", "said"),
    [
        ((Column("x", "DOUBLE"),), float("nan"), "NaN"),
        ((Column("x", "DATE"),), dt.date(1, 1, 1), ""),
        ((Column("x" * 65, "VARCHAR"),), "a", "64 printable"),
        ((Column("😀", "VARCHAR"),), "a", "no emoji"),
    ],
)
def test_what_mysql_cannot_hold_is_said_with_a_fix(
    maria: MariaServer, ask: Asked, tmp_path: Path, columns: tuple[Column, ...], value: Any, said: str
) -> None:
    table = pa.table([pa.array([value])], schema=arrow_schema(columns))
    if not said:  # a date that it can hold, though not all that claim so
        assert land(destination(maria, tmp_path), table, columns).found == 1
        return
    with pytest.raises(EngineError, match=said) as caught:
        land(destination(maria, tmp_path), table, columns)
    assert caught.value.fix
    assert ask.left_over() == []


def test_a_key_that_is_too_long_is_refused_and_never_cut(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    columns = (Column("key", "VARCHAR"),)
    with pytest.raises(EngineError, match="Data too long") as caught:
        land(destination(maria, tmp_path), pa.table({"key": ["k" * 256]}), columns, Write.UPSERT, key=("key",))
    assert (caught.value.origin, caught.value.permanent) == (Origin.DESTINATION, True)


def test_a_row_beyond_the_servers_packet_is_said_in_numbers(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    ask("SET GLOBAL max_allowed_packet = 1048576")
    try:
        with pytest.raises(EngineError, match="max_allowed_packet"):
            land(destination(maria, tmp_path), rows((1, "x" * 2_000_000)), TWO)
    finally:
        ask("SET GLOBAL max_allowed_packet = 16777216")


def test_foreign_keys_on_the_table_stop_a_replace_and_nothing_changes(
    maria: MariaServer, ask: Asked, tmp_path: Path
) -> None:
    ask(
        "CREATE TABLE lake.landed (id bigint PRIMARY KEY, name text)",
        "CREATE TABLE lake.child (id bigint, FOREIGN KEY (id) REFERENCES lake.landed (id))",
        "INSERT INTO lake.landed VALUES (1, 'a')",
    )
    with pytest.raises(EngineError, match=r"lake\.child refers to it"):
        land(destination(maria, tmp_path), rows((2, "b")), TWO)
    assert (ask.landed(), ask.left_over()) == ([(1, "a")], [])


def test_a_view_is_no_place_for_rows(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    ask("CREATE VIEW lake.landed AS SELECT 1 AS id, 'a' AS name")
    with pytest.raises(EngineError, match="not a table"):
        land(destination(maria, tmp_path), rows((2, "b")), TWO)


def test_what_was_kept_long_enough_is_dropped(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    home = destination(maria, tmp_path)
    for number in (1, 2):
        land(home, rows((number, "x")), TWO)
    ask("UPDATE _hohmann.generation SET expires_at = expires_at - INTERVAL 9 DAY")
    land(home, rows((3, "x")), TWO, keep_days=0)
    names = ask("SELECT table_name FROM information_schema.tables WHERE table_schema = '_hohmann'")
    assert sorted(name[0].partition("_")[0] for name in names) == ["generation", "state"]
    assert ask("SELECT count(*) FROM _hohmann.generation") == [(0,)]


def test_a_check_writes_and_takes_back(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    steps = list(destination(maria, tmp_path).check())
    assert [(step.name, step.ok) for step in steps] == [("resolve", True), ("log in", True), ("write", True)]
    assert ask("SELECT count(*) FROM information_schema.tables WHERE table_name LIKE '\\_hohmann%'") == [(0,)]


@pytest.mark.parametrize(
    ("changes", "step", "said", "fix"),
    [
        ({"username": "nobody", "password": "planted-secret"}, "log in", "Access denied", "Check the user"),
        ({"username": "reader"}, "write", "denied", "Grant ALL to reader|Check the user"),
        ({"port": 0}, "log in", "refused", "Check that the server runs"),
    ],
)
def test_a_check_stops_where_it_fails_and_says_why(
    maria: MariaServer, ask: Asked, tmp_path: Path, changes: dict[str, Any], step: str, said: str, fix: str
) -> None:
    ask("CREATE USER IF NOT EXISTS reader", "GRANT SELECT ON lake.* TO reader")
    changes = {**changes, "port": free_port()} if "port" in changes else changes
    last = failed(list(destination(maria, tmp_path, **changes).check()))
    assert last.name == step
    assert said in last.message
    assert re.search(fix, last.fix)
    assert "planted-secret" not in last.message


def test_loopback_is_refused_where_it_is_not_allowed(maria: MariaServer, tmp_path: Path) -> None:
    strict = context_in(tmp_path, allow_private_addresses=False)
    last = failed(list(MySQLDestination(destination(maria, tmp_path).config, strict).check()))
    assert "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in last.fix


def test_a_sync_goes_on_where_it_ended_and_its_receipts_agree(maria: MariaServer, ask: Asked, tmp_path: Path) -> None:
    shop = tmp_path / "data" / "shop.sqlite"
    around = context_in(tmp_path)
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"n{n}") for n in range(1, 4)])
        connection.commit()
    columns = (Column("id", "BIGINT", False), Column("note", "VARCHAR"))
    plan = StreamPlan(
        "main", "orders", columns, Target("", "orders"), Mode.INCREMENTAL, Write.UPSERT, ("id",), cursor="id"
    )
    spec = SyncSpec("sqlite", {"path": "shop.sqlite"}, "mysql", config(maria), [plan])
    (first,) = run_sync(spec, around, lambda receipt: None)
    assert (first.status, first.rows_read, first.rows_found) == (StreamStatus.LANDED, 3, 3), first
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("INSERT INTO orders VALUES (4, 'four')")
        connection.commit()
    (second,) = run_sync(spec, around, lambda receipt: None)
    assert (second.status, second.rows_read, second.rows_total) == (StreamStatus.LANDED, 1, 4), second
    assert ask("SELECT note FROM lake.orders ORDER BY id") == [("n1",), ("n2",), ("n3",), ("four",)]
