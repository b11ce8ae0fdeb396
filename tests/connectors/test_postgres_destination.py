"""PostgreSQL as a destination, against a real server: what lands, what stays visible, what can be brought back."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.connectors.postgres_home import context, destination, land, read_all, source, stream_of, whole
from tests.connectors.test_postgres_source import VALUES
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Chunk, Column, Load, Target, Write
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import Cancelled, EngineError, Kind

TWO = (Column("id", "BIGINT", False), Column("name", "VARCHAR"))
TARGET = Target("", "landed")


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    one.run(
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE DOMAIN positive AS integer",
        "CREATE DOMAIN price AS numeric(8,3)",
        "CREATE TYPE point3 AS (a integer, b integer, c text)",
    )
    yield one
    one.remove()


@pytest.fixture
def empty(server: TcpPostgres) -> TcpPostgres:
    """The server without anything that a load has left."""
    server.run(
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        "DROP SCHEMA IF EXISTS _hohmann, _hohmann_parachute CASCADE",
    )
    server.run(
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE DOMAIN positive AS integer",
        "CREATE DOMAIN price AS numeric(8,3)",
        "CREATE TYPE point3 AS (a integer, b integer, c text)",
    )
    return server


def rows(*pairs: tuple[int, str | None]) -> pa.Table:
    return pa.Table.from_pylist([{"id": one, "name": two} for one, two in pairs], arrow_schema(TWO))


def landed(server: TcpPostgres) -> list[tuple[Any, ...]]:
    return server.run("SELECT id, name FROM landed ORDER BY id, name")


def left_over(server: TcpPostgres) -> list[tuple[Any, ...]]:
    return server.run("SELECT relname FROM pg_class WHERE relname LIKE 'stage%'")


def test_every_type_goes_from_postgresql_to_postgresql_and_back(empty: TcpPostgres, tmp_path: Path) -> None:
    for at, (kind, value, _, expected) in enumerate(VALUES):
        quoted = value.replace("'", "''")
        empty.run(f"CREATE TABLE one_{at} (x {kind})", f"INSERT INTO one_{at} VALUES ('{quoted}'), (NULL)")
        stream = stream_of(source(empty, context(tmp_path)), f"public.one_{at}")
        table = read_all(source(empty, context(tmp_path)), whole(stream))
        land(destination(empty, context(tmp_path)), table, stream.columns, name=f"two_{at}")
        again = stream_of(source(empty, context(tmp_path)), f"public.two_{at}")
        assert again.columns[0].type == stream.columns[0].type
        found = read_all(source(empty, context(tmp_path)), whole(again)).column(0).to_pylist()
        assert found == [expected, None], kind
    assert left_over(empty) == []


@pytest.mark.parametrize(
    ("ours", "value", "expected"),
    [
        ("UTINYINT", 255, 255),
        ("TINYINT", -128, -128),
        ("USMALLINT", 65535, 65535),
        ("UINTEGER", 2**32 - 1, 2**32 - 1),
        ("UBIGINT", 2**64 - 1, Decimal(2**64 - 1)),
        ("HUGEINT", Decimal(10**37), Decimal(10**37)),
        ("TIMESTAMP_NS", datetime.datetime(2026, 1, 1, 0, 0, 0, 1), datetime.datetime(2026, 1, 1, 0, 0, 0, 1)),
        ("STRUCT(a INTEGER, b VARCHAR[])", {"a": 1, "b": ["ä"]}, {"a": 1, "b": ["ä"]}),
        ("STRUCT(a DATE)[]", [{"a": datetime.date(2026, 1, 2)}], [{"a": "2026-01-02"}]),
        ("INTEGER[][]", [[1], [2, None]], [[1], [2, None]]),
        ("UTINYINT[]", [1, None], [1, None]),
        ("JSON[]", ['{"a":1}'], ['{"a":1}']),
    ],
)
def test_types_of_other_sources_find_a_home(
    empty: TcpPostgres, tmp_path: Path, ours: str, value: Any, expected: Any
) -> None:
    columns = (Column("x", ours),)
    table = pa.table({"x": pa.array([value, None], arrow_schema(columns).field(0).type)}, arrow_schema(columns))
    assert land(destination(empty, context(tmp_path)), table, columns).found == 2
    assert empty.run("SELECT x FROM landed") == [(expected,), (None,)]


@pytest.mark.parametrize("native", ["json", "jsonb"])
@pytest.mark.parametrize("write", [Write.APPEND, Write.UPSERT])
def test_a_json_column_of_ones_own_takes_structures_lists_and_json(
    empty: TcpPostgres, tmp_path: Path, native: str, write: Write
) -> None:
    empty.run(f"CREATE TABLE landed (id bigint, a {native}, b {native}, c {native})")
    kinds = {"id": "BIGINT", "a": "STRUCT(x INTEGER)", "b": "INTEGER[]", "c": "JSON"}
    columns = tuple(Column(name, kind) for name, kind in kinds.items())
    values = {"a": {"x": 1}, "b": [1, None], "c": '{"y": 2}'}
    key = ("id",) if write is Write.UPSERT else ()
    for number in (1, 2):
        table = pa.Table.from_pylist([{"id": number, **values}], arrow_schema(columns))
        assert land(destination(empty, context(tmp_path)), table, columns, write, key=key).found == 1
    expected = ({"x": 1}, [1, None], {"y": 2})
    assert empty.run("SELECT a, b, c FROM landed") == [expected, expected]


def test_a_replace_shows_all_at_once_and_keeps_the_old_rows(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    first = land(writer, rows((1, "a"), (2, None)), TWO, state={"run": 1})
    assert (first.written, first.found, first.total, first.generation) == (2, 2, 2, "")
    seen: list[Any] = []
    second = land(
        writer, rows((3, "c")), TWO, state={"run": 2}, before_commit=lambda: seen.append(landed(empty)), keep_days=3
    )
    assert seen == [[(1, "a"), (2, None)]]
    assert landed(empty) == [(3, "c")]
    with writer.open() as session:
        assert session.state(TARGET) == {"run": 2}
        (generation,) = session.generations(TARGET)
        assert (generation.name, generation.rows) == (second.generation, 2)
        assert session.restore(TARGET, generation.name, {"run": 1}).total == 2
        assert session.state(TARGET) == {"run": 1}
        assert landed(empty) == [(1, "a"), (2, None)]
        (back,) = session.generations(TARGET)
        session.restore(TARGET, back.name, {"run": 2})
    assert landed(empty) == [(3, "c")]


def test_views_and_rights_follow_a_replaced_table(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    land(writer, rows((1, "a")), TWO)
    empty.run(
        "DROP ROLE IF EXISTS analyst",
        "CREATE ROLE analyst",
        "GRANT SELECT ON landed TO analyst",
        "CREATE VIEW names AS SELECT name FROM landed",
    )
    land(writer, rows((2, "b")), TWO)
    assert empty.run("SELECT name FROM names") == [("b",)]
    assert empty.run("SELECT has_table_privilege('analyst', 'landed', 'SELECT')") == [(True,)]


def test_a_materialized_view_stops_a_replace_and_nothing_changes(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    land(writer, rows((1, "a")), TWO, state={"run": 1})
    empty.run("CREATE MATERIALIZED VIEW frozen AS SELECT name FROM landed")
    with pytest.raises(EngineError, match="frozen depends on it"):
        land(writer, rows((2, "b")), TWO, state={"run": 2})
    assert landed(empty) == [(1, "a")]
    with writer.open() as session:
        assert session.state(TARGET) == {"run": 1}
    assert left_over(empty) == []


def test_appends_add_up_and_can_be_taken_back(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    for number in (1, 2, 3):
        done = land(writer, rows((number, "x")), TWO, Write.APPEND)
        assert (done.found, done.total) == (1, number)
    with writer.open() as session:
        assert len(session.generations(TARGET)) == 2
        session.restore(TARGET, session.generations(TARGET)[-1].name, None)
        assert session.state(TARGET) is None
    assert landed(empty) == [(1, "x")]


def test_an_append_that_was_touched_since_is_not_taken_back(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    land(writer, rows((1, "x")), TWO, Write.APPEND)
    done = land(writer, rows((2, "y")), TWO, Write.APPEND)
    empty.run("UPDATE landed SET name = 'mine' WHERE id = 2")
    with writer.open() as session, pytest.raises(EngineError, match="0 are as they were loaded"):
        session.restore(TARGET, done.generation, None)
    assert landed(empty) == [(1, "x"), (2, "mine")]


@pytest.mark.parametrize("own_table", [False, True])
def test_an_upsert_changes_by_key_and_can_be_taken_back(empty: TcpPostgres, tmp_path: Path, own_table: bool) -> None:
    if own_table:  # without any index on the key
        empty.run("CREATE TABLE landed (id bigint, name text)")
    writer = destination(empty, context(tmp_path))
    land(writer, rows((1, "a"), (2, "b")), TWO, Write.UPSERT, key=("id",))
    done = land(writer, rows((2, "B"), (3, "c"), (3, "C")), TWO, Write.UPSERT, key=("id",))
    assert (done.written, done.found, done.total) == (3, 2, 3)
    assert landed(empty) == [(1, "a"), (2, "B"), (3, "C")]
    with writer.open() as session:
        session.restore(TARGET, done.generation, {"back": True})
    assert landed(empty) == [(1, "a"), (2, "b")]


def test_drift_adds_and_widens_columns_on_the_way(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    narrow = (Column("id", "INTEGER"), Column("amount", "DECIMAL(5,2)"))
    one = pa.table({"id": pa.array([1], pa.int32()), "amount": pa.array([Decimal("1.50")], pa.decimal128(5, 2))})
    land(writer, one, narrow, Write.APPEND)
    wide = (Column("id", "BIGINT"), Column("amount", "DECIMAL(10,4)"), Column("note", "VARCHAR"))
    two = pa.table(
        {"id": [2**40], "amount": pa.array([Decimal("99999.1234")], pa.decimal128(10, 4)), "note": ["new"]},
        arrow_schema(wide),
    )
    land(writer, two, wide, Write.APPEND)
    with writer.open() as session:
        columns = session.columns(TARGET)
        assert columns is not None
        assert [(c.name, c.type) for c in columns] == [
            ("id", "BIGINT"), ("amount", "DECIMAL(10,4)"), ("note", "VARCHAR")
        ]  # fmt: skip
        assert session.preview(TARGET, limit=1).num_rows == 1
        assert session.columns(Target("", "nothing")) is None
    land(writer, one, narrow, Write.APPEND)
    assert empty.run("SELECT id, amount, note FROM landed ORDER BY id") == [
        (1, Decimal("1.5000"), None), (1, Decimal("1.5000"), None), (2**40, Decimal("99999.1234"), "new")
    ]  # fmt: skip


def test_a_type_that_cannot_be_widened_is_refused_before_rows_move(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    land(writer, rows((1, "a")), TWO, Write.APPEND)
    with writer.open() as session, pytest.raises(EngineError, match="column id"):
        session.begin(Load(TARGET, Write.APPEND, (Column("id", "BLOB"),)))
    assert left_over(empty) == []


def test_two_loads_of_one_table_do_not_mix(empty: TcpPostgres, tmp_path: Path) -> None:
    with destination(empty, context(tmp_path)).open() as session:
        first = session.begin(Load(TARGET, Write.REPLACE, TWO))
        with pytest.raises(EngineError, match="another load") as caught:
            session.begin(Load(TARGET, Write.REPLACE, TWO))
        assert caught.value.kind is Kind.TRANSIENT
        first.abort()
        session.begin(Load(TARGET, Write.REPLACE, TWO)).abort()


def test_what_a_killed_load_left_is_cleared_by_the_next(empty: TcpPostgres, tmp_path: Path) -> None:
    with destination(empty, context(tmp_path)).open() as session:
        killed = session.begin(Load(TARGET, Write.REPLACE, TWO))
        empty.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hohmann'")
        killed.abort()
    assert len(left_over(empty)) == 1
    land(destination(empty, context(tmp_path)), rows((1, "a")), TWO)
    assert (left_over(empty), landed(empty)) == ([], [(1, "a")])


def test_a_source_that_fails_is_told_in_its_own_words(empty: TcpPostgres, tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from rows((1, "a")).to_batches()
        raise Cancelled("the source says so")

    with destination(empty, context(tmp_path)).open() as session:
        writer = session.begin(Load(TARGET, Write.REPLACE, TWO))
        stream = pa.RecordBatchReader.from_batches(arrow_schema(TWO), broken())
        with pytest.raises(Cancelled, match="the source says so"):
            writer.write(stream, Chunk("all"))
        assert writer.write(rows((1, "a")).to_reader(), Chunk("all")) == 1  # the chunk again: nothing of it was kept
        assert writer.commit({}).found == 1


@pytest.mark.parametrize(
    ("columns", "value", "said"),
    [
        ((Column("x", "VARCHAR"),), "zero \0 byte", "0x00"),
        ((Column("x", "UUID"),), "no uuid", "UUID"),
        ((Column("x" * 64, "VARCHAR"),), "a", "63 bytes"),
    ],
)
def test_what_postgresql_cannot_hold_is_said_with_a_fix(
    empty: TcpPostgres, tmp_path: Path, columns: tuple[Column, ...], value: str, said: str
) -> None:
    table = pa.table([pa.array([value])], schema=arrow_schema(columns))
    with pytest.raises(EngineError, match=said) as caught:
        land(destination(empty, context(tmp_path)), table, columns)
    assert caught.value.fix
    assert left_over(empty) == []


def test_what_was_kept_long_enough_is_dropped(empty: TcpPostgres, tmp_path: Path) -> None:
    writer = destination(empty, context(tmp_path))
    for number in (1, 2):
        land(writer, rows((number, "x")), TWO)
    empty.run("UPDATE _hohmann.generation SET expires_at = now() - interval '1 day'")
    land(writer, rows((3, "x")), TWO, keep_days=0)
    parachute = "SELECT count(*) FROM pg_class WHERE relnamespace = '_hohmann_parachute'::regnamespace"
    assert empty.run(parachute) == [(0,)]
    assert empty.run("SELECT count(*) FROM _hohmann.generation") == [(0,)]
