"""MySQL and MariaDB as a source, against a real MariaDB."""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pymysql
import pytest

from tests.engine.conftest import Heard
from tests.support.mariadb import MariaServer, start_or_skip
from tests.support.stacks import free_port
from webapp.engine.connectors.base import Chunk, Condition, Filter, Mode, Read, ReadAgain, Stream, Target
from webapp.engine.connectors.mysql.source import BATCH_ROWS, MySQLSource
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

ALL_TYPES = """CREATE TABLE everything (
 id BIGINT PRIMARY KEY, t TINYINT, tu TINYINT UNSIGNED, s SMALLINT, m MEDIUMINT, i INT, iu INT UNSIGNED, b BIGINT,
 bu BIGINT UNSIGNED, d DECIMAL(20,4), wide DECIMAL(38,20), wider DECIMAL(65,10), f FLOAT, db DOUBLE, flag BIT(1),
 bits BIT(12), da DATE, at DATETIME(6), ts TIMESTAMP(3) NULL, ti TIME(6), y YEAR, c CHAR(10), v VARCHAR(255),
 txt LONGTEXT, raw VARBINARY(10), large LONGBLOB, e ENUM('red','blue'), se SET('x','y'), js JSON, place POINT)"""


@pytest.fixture(scope="module")
def maria() -> Iterator[MariaServer]:
    server = start_or_skip()
    yield server
    server.stop()


@pytest.fixture
def shop(maria: MariaServer) -> Iterator[pymysql.cursors.Cursor]:
    connection = maria.connect()
    cursor = connection.cursor()
    cursor.execute("CREATE OR REPLACE DATABASE shop CHARACTER SET utf8mb4")
    cursor.execute("USE shop")
    yield cursor
    connection.close()


def config(maria: MariaServer) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": maria.port, "username": "root", "password": "", "database": "shop"}


def source(maria: MariaServer, tmp_path: Path, **changes: Any) -> MySQLSource:
    context = Context(tmp_path, (), tmp_path / "w.duckdb", tmp_path / "t", Heard(), allow_private_addresses=True)
    return MySQLSource(MySQLSource.Spec.model_validate({**config(maria), **changes}), context)


def rows_of(found: MySQLSource, stream: Stream, **window: Any) -> list[dict[str, Any]]:
    read = Read(stream, stream.columns, **window)
    with found.open(parallel=1) as session:
        reader = session.read(read, Chunk("all"))
        assert reader.schema.equals(arrow_schema(stream.columns))
        rows: list[dict[str, Any]] = reader.read_all().to_pylist()
        assert session.count(read) == len(rows)
    return rows


def test_every_type_arrives_with_its_value(maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path) -> None:
    shop.execute(ALL_TYPES)
    shop.execute("SET time_zone = '+05:00'")
    shop.execute(
        """INSERT INTO everything VALUES (1, -128, 255, -32768, -8388608, -2147483648, 4294967295, -9223372036854775808,
        18446744073709551615, '-1234567890123456.7891', '123456789012345678.12345678901234567890', '1.5', 1.5, 2.25,
        b'1', b'101010101010', '2024-02-29', '2024-02-29 01:02:03.123456', '2024-02-29 06:02:03.123',
        '-120:34:56.789', 2024, 'abc', 'é😀\n"x", y', 'long', x'00ff', x'0001', 'red', 'x,y', '{"a": 1}',
        POINT(1, 2))"""
    )
    shop.execute("INSERT INTO everything (id) VALUES (2)")
    (stream,) = source(maria, tmp_path).discover()
    full, empty = rows_of(source(maria, tmp_path), stream)
    assert full == {
        "id": 1, "t": -128, "tu": 255, "s": -32768, "m": -8388608, "i": -2147483648, "iu": 4294967295,
        "b": -9223372036854775808, "bu": 18446744073709551615, "d": Decimal("-1234567890123456.7891"),
        "wide": Decimal("123456789012345678.12345678901234567890"), "wider": "1.5000000000", "f": 1.5, "db": 2.25,
        "flag": True, "bits": 0b101010101010, "da": dt.date(2024, 2, 29),
        "at": dt.datetime(2024, 2, 29, 1, 2, 3, 123456),
        "ts": dt.datetime(2024, 2, 29, 1, 2, 3, 123000, tzinfo=dt.UTC), "ti": "-120:34:56.789000", "y": 2024,
        "c": "abc",
        "v": 'é😀\n"x", y', "txt": "long", "raw": b"\x00\xff", "large": b"\x00\x01", "e": "red", "se": "x,y",
        "js": '{"a": 1}', "place": "POINT(1 2)",
    }  # fmt: skip
    assert empty == {**dict.fromkeys(full), "id": 2}


def test_dates_that_are_none_become_null(maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path) -> None:
    shop.execute("SET sql_mode = ''")
    shop.execute("CREATE TABLE days (d DATE NOT NULL, a DATETIME NOT NULL)")
    shop.execute("INSERT INTO days VALUES ('0000-00-00', '2024-00-00 00:00:00'), ('2024-01-02', '2024-01-02')")
    (stream,) = source(maria, tmp_path).discover()
    assert rows_of(source(maria, tmp_path), stream) == [
        {"d": None, "a": None},
        {"d": dt.date(2024, 1, 2), "a": dt.datetime(2024, 1, 2)},
    ]


def test_days_that_no_calendar_has_become_null(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    shop.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
    shop.execute("CREATE TABLE days (d DATE NULL)")
    shop.execute("INSERT INTO days VALUES ('2024-00-05'), ('2024-02-31'), ('2024-02-29'), (NULL), ('2023-12-31')")
    (stream,) = source(maria, tmp_path).discover()
    days = [row["d"] for row in rows_of(source(maria, tmp_path), stream)]
    assert days == [None, None, dt.date(2024, 2, 29), None, dt.date(2023, 12, 31)]


def synced(maria: MariaServer, tmp_path: Path, streams: list[Stream]) -> list[StreamReceipt]:
    found = source(maria, tmp_path)
    plans = [StreamPlan(one.namespace, one.name, one.columns, Target("landed", one.name)) for one in streams]
    spec = SyncSpec("mysql", config(maria), "duckdb", {"path": "lake.duckdb"}, plans)
    return run_sync(spec, found.context, lambda receipt: None)


def test_a_date_that_is_none_behind_many_rows_has_the_stream_read_again(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    shop.execute("SET sql_mode = ''")
    shop.execute("CREATE TABLE days (id INT PRIMARY KEY, d DATETIME(6) NOT NULL)")
    shop.execute(f"INSERT INTO days SELECT seq, '2024-01-02' FROM seq_1_to_{2 * BATCH_ROWS}")
    shop.execute(f"UPDATE days SET d = '0000-00-00' WHERE id = {2 * BATCH_ROWS}")
    found = source(maria, tmp_path)
    (stream,) = found.discover()
    read = Read(stream, stream.columns)
    with found.open(parallel=1) as session:
        with pytest.raises(ReadAgain):
            session.read(read, Chunk("all")).read_all()
        assert session.read(read, Chunk("all")).read_all().column("d").null_count == 1
    (receipt,) = synced(maria, tmp_path, [stream])
    assert (receipt.status, receipt.doubt) == (StreamStatus.LANDED, None)
    assert receipt.rows_source == receipt.rows_read == receipt.rows_found == 2 * BATCH_ROWS
    with duckdb.connect(str(tmp_path / "lake.duckdb"), read_only=True) as lake:
        odd = lake.execute("SELECT id FROM landed.days WHERE d IS NULL").fetchall()
        assert odd == [(2 * BATCH_ROWS,)]
        assert lake.execute("SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'landed'").fetchone() == (1,)


def test_the_count_beside_a_read_is_that_of_the_rows_before_it(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    shop.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    shop.execute("INSERT INTO t VALUES (1), (2)")
    shop.execute("CREATE VIEW seen AS SELECT id FROM t")
    shop.execute("CREATE TABLE old (id INT) ENGINE=MyISAM")
    shop.execute("INSERT INTO old VALUES (1), (2)")
    shop.execute("SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED")
    found = source(maria, tmp_path)
    reads = [Read(stream, stream.columns) for stream in found.discover()]
    assert len(reads) == 3
    with found.open(parallel=1) as session:
        counting = [session.counting(read) for read in reads]
        shop.execute("INSERT INTO t VALUES (3)")
        shop.execute("INSERT INTO old VALUES (3)")
        assert [count() for count in counting] == [2, 2, 2]
        assert [session.count(read) for read in reads] == [3, 3, 3]
    shop.execute("SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def test_a_large_table_is_counted_only_when_that_is_asked_for(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.execute("CREATE TABLE big (id INT PRIMARY KEY) ENGINE=InnoDB")
    shop.execute("CREATE TABLE old (id INT) ENGINE=MyISAM")  # knows how many rows it has
    for table in ("big", "old"):
        shop.execute(f"INSERT INTO {table} SELECT seq FROM seq_1_to_5000")
    shop.execute("ANALYZE TABLE big, old")
    monkeypatch.setattr("webapp.engine.connectors.mysql.source.COUNT_BYTES", 20_000)
    found = source(maria, tmp_path)
    big, old = (Read(stream, stream.columns) for stream in found.discover())
    with found.open(parallel=1) as session:
        assert (session.count(big), session.counting(big)()) == (None, None)
        assert (session.count_exactly(big), session.counting(big, exactly=True)()) == (5000, 5000)
        assert (session.count(old), session.counting(old)()) == (5000, 5000)
    (receipt, _) = synced(maria, tmp_path, [big.stream, old.stream])
    assert (receipt.status, receipt.doubt) == (StreamStatus.LANDED, None)
    assert (receipt.rows_source, receipt.rows_read, receipt.rows_found) == (None, 5000, 5000)


def test_streams_side_by_side_do_not_mix_their_questions(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    for number in range(4):
        shop.execute(f"CREATE TABLE t{number} (id INT PRIMARY KEY)")
        shop.execute(f"INSERT INTO t{number} SELECT seq FROM seq_1_to_{1000 * (number + 1)}")
    found = source(maria, tmp_path)
    reads = [Read(stream, stream.columns, cursor="id") for stream in found.discover()] * 50
    with found.open(parallel=4) as session, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(session.high_water, reads)) == [1000, 2000, 3000, 4000] * 50


def test_tables_and_views_are_found_with_keys_cursors_and_modes(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    shop.execute("CREATE TABLE `lines` (b INT, a INT, note TEXT, PRIMARY KEY (a, b))")
    shop.execute("CREATE VIEW notes AS SELECT note FROM `lines`")
    lines, notes = source(maria, tmp_path).discover()
    assert (lines.namespace, lines.name, lines.primary_key) == ("shop", "lines", ("a", "b"))
    assert lines.cursor_fields == ("b", "a")
    assert Mode.INCREMENTAL in lines.modes
    assert (notes.name, notes.modes) == ("notes", (Mode.FULL_REFRESH,))
    assert [stream.name for stream in source(maria, tmp_path).discover(pattern="shop.n*")] == ["notes"]


def test_a_window_and_a_filter_choose_rows_whatever_text_they_hold(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    shop.execute("CREATE TABLE t (id INT PRIMARY KEY, name TEXT, at TIMESTAMP NULL)")
    shop.execute("SET time_zone = '+00:00'")
    tricky = "x' OR 1=1 -- \\"
    shop.executemany(
        "INSERT INTO t VALUES (%s, %s, %s)",
        [(n, tricky if n % 2 else "plain", f"2024-01-0{n} 00:00:00") for n in range(1, 7)],
    )
    found = source(maria, tmp_path)
    (stream,) = found.discover()
    chosen = Filter((Condition("name", "=", tricky),))
    assert [row["id"] for row in rows_of(found, stream, filter=chosen, cursor="id", since=2, until=5)] == [3, 5]
    with found.open(parallel=1) as session:
        assert session.high_water(Read(stream, stream.columns, cursor="id")) == 6
        until = session.high_water(Read(stream, stream.columns, cursor="at"))
    late = rows_of(found, stream, cursor="at", since="2024-01-05 00:00:00", until=until)
    assert [row["id"] for row in late] == [5, 6]
    assert rows_of(found, stream, filter=Filter((Condition("name", "=", None),))) == []


def test_a_check_goes_step_by_step_to_a_row(maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path) -> None:
    shop.execute("CREATE TABLE t (id INT)")
    steps = list(source(maria, tmp_path).check())
    assert [step.name for step in steps] == ["resolve", "log in", "rights", "read one row"]
    assert all(step.ok for step in steps)


@pytest.mark.parametrize(
    ("changes", "step", "said"),
    [
        ({"username": "nobody", "password": "wrong-password"}, "log in", "Access denied"),
        ({"host": "no-such-host.invalid"}, "resolve", "does not resolve"),
        ({"database": "nowhere"}, "log in", "Unknown database"),
    ],
)
def test_a_check_stops_where_it_fails_and_says_why(
    maria: MariaServer, tmp_path: Path, changes: dict[str, Any], step: str, said: str
) -> None:
    last = list(source(maria, tmp_path, **changes).check())[-1]
    assert (last.name, last.ok) == (step, False)
    assert said in last.message
    assert last.fix
    assert "wrong-password" not in last.message


def test_a_closed_port_is_transient(maria: MariaServer, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught, source(maria, tmp_path, port=free_port()).open(parallel=1):
        pass
    assert caught.value.kind is Kind.TRANSIENT


def test_a_table_that_is_gone_is_said_in_words(
    maria: MariaServer, shop: pymysql.cursors.Cursor, tmp_path: Path
) -> None:
    shop.execute("CREATE TABLE t (id INT)")
    found = source(maria, tmp_path)
    (stream,) = found.discover()
    shop.execute("DROP TABLE t")
    with found.open(parallel=1) as session, pytest.raises(EngineError, match="doesn't exist") as caught:
        session.read(Read(stream, stream.columns), Chunk("all")).read_all()
    assert caught.value.permanent


def test_loopback_is_refused_where_it_is_not_allowed(maria: MariaServer, tmp_path: Path) -> None:
    found = source(maria, tmp_path)
    strict = Context(tmp_path, (), tmp_path / "w.duckdb", tmp_path / "t", Heard())
    (step,) = MySQLSource(found.config, strict).check()
    assert "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in step.fix
