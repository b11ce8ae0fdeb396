"""SQLite files: types that are true for every value, one view of the file, windows and filters, and broken files."""

import datetime
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.reading import context_in, failed, rows_of, stream_of, types_of, whole
from webapp.engine.connectors.base import Chunk, Condition, Filter, Mode
from webapp.engine.connectors.sqlite.source import SQLiteSource
from webapp.engine.connectors.sqlite.spec import SQLiteSourceSpec
from webapp.engine.errors import Cancelled, EngineError


def sqlite(folder: Path, *statements: str, **more: Any) -> SQLiteSource:
    context = context_in(folder, **more)
    run(folder, statements)
    return SQLiteSource(SQLiteSourceSpec(path="a.db"), context)


def run(folder: Path, statements: Iterable[str]) -> None:
    with closing(sqlite3.connect(folder / "data" / "a.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_tables_and_views_are_streams_with_their_keys(tmp_path: Path) -> None:
    source = sqlite(
        tmp_path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
        "CREATE TABLE pair (b TEXT, a INT, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "CREATE VIEW v AS SELECT name FROM t",
        "INSERT INTO t VALUES (1, 'x')",
    )
    assert all(step.ok for step in source.check())
    streams = {stream.name: stream for stream in source.discover()}
    assert sorted(streams) == ["pair", "t", "v"]
    assert (streams["t"].primary_key, streams["pair"].primary_key) == (("id",), ("a", "b"))
    assert [column.nullable for column in streams["t"].columns] == [False, False]
    assert (streams["t"].rows, streams["t"].modes) == (1, (Mode.FULL_REFRESH, Mode.INCREMENTAL))
    assert [stream.name for stream in source.discover(pattern="main.p*")] == ["pair"]


def test_values_that_fit_their_declared_types_have_these(tmp_path: Path) -> None:
    source = sqlite(
        tmp_path,
        "CREATE TABLE t (n BIGINT, f BOOLEAN, r REAL, m DECIMAL(10,2), d DATE, at DATETIME, z TIMESTAMP, b BLOB,"
        " j JSON, x)",
        "INSERT INTO t VALUES (9223372036854775807, 1, 1, 1.25, '2024-01-01', '2024-01-01 10:00:00.123456',"
        " '2024-01-01T12:00:00+02:00', x'00ff', '{\"a\": 1}', 'text')",
    )
    stream = stream_of(source, "t")
    assert types_of(stream) == {
        "n": "BIGINT", "f": "BOOLEAN", "r": "DOUBLE", "m": "DECIMAL(10,2)", "d": "DATE", "at": "TIMESTAMP",
        "z": "TIMESTAMP WITH TIME ZONE", "b": "BLOB", "j": "JSON", "x": "VARCHAR"}  # fmt: skip
    assert rows_of(source, whole(stream)) == [
        {"n": 2**63 - 1, "f": True, "r": 1.0, "m": Decimal("1.25"), "d": datetime.date(2024, 1, 1),
         "at": datetime.datetime(2024, 1, 1, 10, 0, 0, 123456),
         "z": datetime.datetime(2024, 1, 1, 10, tzinfo=datetime.UTC), "b": b"\x00\xff", "j": '{"a": 1}', "x": "text"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "values", "type_", "read"),
    [
        ("INTEGER", "(1), ('many')", "VARCHAR", ["1", "many"]),
        ("INTEGER", "(1), (1.5)", "DOUBLE", [1.0, 1.5]),
        ("INTEGER", "(9007199254740993), (1.5)", "VARCHAR", ["9007199254740993", "1.5"]),
        ("BOOLEAN", "(1), (2)", "BIGINT", [1, 2]),
        ("DECIMAL(10,2)", "(1), (1.234)", "DOUBLE", [1.0, 1.234]),
        ("DATE", "('2024-01-01'), ('soon')", "VARCHAR", ["2024-01-01", "soon"]),
        ("DATE", "('2024-02-30')", "VARCHAR", ["2024-02-30"]),
        ("DATETIME", "(1700000000)", "BIGINT", [1700000000]),
        ("DATETIME", "('2024-01-01T10:00'), ('2024-01-01T10Z')", "VARCHAR", ["2024-01-01T10:00", "2024-01-01T10Z"]),
        ("JSON", "('{broken')", "VARCHAR", ["{broken"]),
        ("TEXT", "(NULL)", "VARCHAR", [None]),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_change_the_type_and_never_themselves(
    tmp_path: Path, declared: str, values: str, type_: str, read: list[Any]
) -> None:
    source = sqlite(tmp_path, f"CREATE TABLE t (v {declared})", f"INSERT INTO t VALUES {values}")
    stream = stream_of(source, "t")
    assert types_of(stream) == {"v": type_}
    assert [row["v"] for row in rows_of(source, whole(stream))] == read


def test_a_value_that_came_later_and_does_not_fit_is_an_error_that_names_it(tmp_path: Path) -> None:
    source = sqlite(tmp_path, "CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (1)")
    stream = stream_of(source, "t")
    run(tmp_path, ["INSERT INTO t VALUES ('many')"])
    with pytest.raises(EngineError, match=r"t.v holds 'many', which is not a BIGINT") as refused:
        rows_of(source, whole(stream))
    assert refused.value.fix is not None
    assert "Discover the stream again" in refused.value.fix


def test_a_session_sees_the_file_as_it_was_when_it_began(tmp_path: Path) -> None:
    source = sqlite(tmp_path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (1)")
    read = whole(stream_of(source, "t"), cursor="v")
    with closing(sqlite3.connect(tmp_path / "data" / "a.db")) as writer, source.open(parallel=1) as session:
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        assert (session.count(read), session.high_water(read)) == (1, 1)
        assert session.read(read, Chunk("all")).read_all().num_rows == 1


def test_instants_are_compared_as_such_however_they_are_spelled(tmp_path: Path) -> None:
    source = sqlite(
        tmp_path,
        "CREATE TABLE t (at DATETIME)",
        "INSERT INTO t VALUES ('2024-01-01T09:00:00'), ('2024-01-01 10:00'), ('2024-01-01'), (NULL)",
    )
    stream = stream_of(source, "t")
    with source.open(parallel=1) as session:
        state = session.high_water(whole(stream, cursor="at"))
        assert state == "2024-01-01 10:00:00"
        assert session.count(whole(stream, cursor="at", since=state)) == 1
        assert session.count(whole(stream, cursor="at", since="2024-01-01", until="2024-01-01 09:00:00")) == 2


def test_filters_are_bound_and_joined(tmp_path: Path) -> None:
    source = sqlite(
        tmp_path, "CREATE TABLE t (id INTEGER, s TEXT)", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)"
    )
    stream = stream_of(source, "t")

    def ids(*conditions: Condition, join: str = "and") -> list[int]:
        return [row["id"] for row in rows_of(source, whole(stream, filter=Filter(conditions, join)))]

    assert ids(Condition("id", ">=", "2"), Condition("s", "!=", None)) == [2]
    assert ids(Condition("id", "=", 1), Condition("s", "=", None), join="or") == [1, 3]
    assert ids(Condition("s", "=", "a' OR 1=1 --")) == []
    with pytest.raises(EngineError, match="'many' is not a BIGINT"):
        ids(Condition("id", "=", "many"))
    with pytest.raises(EngineError, match="'nothing'"):
        ids(Condition("nothing", "=", 1))


def test_the_file_is_never_written(tmp_path: Path) -> None:
    source = sqlite(tmp_path, "CREATE TABLE t (v INTEGER)", "INSERT INTO t VALUES (1)")
    before = (tmp_path / "data" / "a.db").read_bytes()
    rows_of(source, whole(stream_of(source, "t")))
    assert (tmp_path / "data" / "a.db").read_bytes() == before
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["a.db"]


def test_many_rows_come_in_batches_and_stop_when_cancelled(tmp_path: Path) -> None:
    stop = False
    source = sqlite(
        tmp_path,
        "CREATE TABLE t AS WITH RECURSIVE c(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM c WHERE v < 100000)"
        " SELECT v, 'text ' || v AS s FROM c",
        cancelled=lambda: stop,
    )
    stream = stream_of(source, "t")
    assert sum(row["v"] for row in rows_of(source, whole(stream, "v"))) == 5_000_050_000
    with source.open(parallel=1) as session:
        batches = session.read(whole(stream), Chunk("all"))
        assert batches.read_next_batch().num_rows < 100_000
        stop = True
        with pytest.raises(Cancelled):
            batches.read_all()


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    source = SQLiteSource(SQLiteSourceSpec(path="a.db"), context_in(tmp_path))
    assert "is not there" in failed(list(source.check())).message
    (tmp_path / "data" / "a.db").write_bytes(b"no database at all" * 100)
    assert "not a whole SQLite database" in failed(list(source.check())).message
    outside = SQLiteSource(SQLiteSourceSpec(path="../a.db"), context_in(tmp_path))
    assert "outside the folders" in failed(list(outside.check())).message


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    source = sqlite(tmp_path, "CREATE TABLE t (v INTEGER)")
    stream = stream_of(source, "t")
    run(tmp_path, ["DROP TABLE t"])
    with pytest.raises(EngineError, match="no such table: t"):
        rows_of(source, whole(stream))
