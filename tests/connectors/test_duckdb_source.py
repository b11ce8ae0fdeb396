"""DuckDB files as a source: every type travels, nobody writes meanwhile, and what is wrong is said."""

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.connectors.reading import context_in, failed, rows_of, stream_of, types_of, whole
from webapp.engine.connectors.base import Condition, Filter
from webapp.engine.connectors.duckdb.source import DuckDBSource
from webapp.engine.connectors.duckdb.source_spec import DuckDBSourceSpec
from webapp.engine.database import writing
from webapp.engine.errors import EngineError, Kind, Origin


def source_with(folder: Path, *statements: str) -> DuckDBSource:
    context = context_in(folder)
    with duckdb.connect(str(folder / "data" / "a.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)
    return DuckDBSource(DuckDBSourceSpec(path="a.duckdb"), context)


def test_tables_and_views_of_all_schemas_are_streams(tmp_path: Path) -> None:
    source = source_with(
        tmp_path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s VARCHAR)",
        "CREATE SCHEMA more",
        "CREATE VIEW more.v AS SELECT 1 AS one",
    )
    assert [step for step in source.check() if not step.ok] == []
    streams = list(source.discover())
    assert [stream.label for stream in streams] == ["main.t", "more.v"]
    assert (streams[0].primary_key, streams[0].columns[0].nullable) == (("id",), False)
    assert [stream.label for stream in source.discover(pattern="more.*")] == ["more.v"]
    assert rows_of(source, whole(streams[1])) == [{"one": 1}]


def test_every_type_travels(tmp_path: Path) -> None:
    source = source_with(
        tmp_path,
        "CREATE TABLE t AS SELECT '6ecd8c99-4036-403d-bf84-cf8400f67836'::UUID AS u, '{\"a\":1}'::JSON AS j,"
        " 170141183460469231731687303715884::HUGEINT AS h, MAP {'k': 1} AS m, [1, 2]::INTEGER[2] AS a,"
        " {'u': '6ecd8c99-4036-403d-bf84-cf8400f67836'::UUID, 'l': [1]} AS s, 'x'::ENUM('x', 'y') AS e,"
        " '2024-01-01 10:00:00+00'::TIMESTAMPTZ AS z, 1.50::DECIMAL(9,2) AS d, 'b'::BLOB AS b, TIME '10:00' AS c,"
        " '2024-01-01'::TIMESTAMP_S AS secs, NULL::INTEGER AS nothing",
    )
    stream = stream_of(source, "t")
    types = types_of(stream)
    assert (types["m"], types["a"], types["e"], types["secs"]) == ("JSON", "INTEGER[]", "VARCHAR", "TIMESTAMP")
    (row,) = rows_of(source, whole(stream))
    assert (row["u"], row["m"], row["e"]) == ("6ecd8c99-4036-403d-bf84-cf8400f67836", '{"k":1}', "x")
    assert (row["h"], row["d"]) == (Decimal("170141183460469231731687303715884"), Decimal("1.50"))
    assert row["s"] == {"u": "6ecd8c99-4036-403d-bf84-cf8400f67836", "l": [1]}
    assert row["z"].isoformat() == "2024-01-01T10:00:00+00:00"


def test_a_window_holds_what_lies_between_two_states(tmp_path: Path) -> None:
    source = source_with(
        tmp_path,
        "CREATE TABLE t AS SELECT i, TIMESTAMPTZ '2024-01-01 00:00:00+00' + i * INTERVAL 1 HOUR AS at"
        " FROM range(1000) r(i)",
    )
    stream = stream_of(source, "t")
    read = whole(stream, cursor="at", filter=Filter((Condition("i", "<", 100),)))
    with source.open(parallel=2) as session:
        high = session.high_water(read)
        assert session.count(whole(stream, cursor="at", since=high)) == 901
        assert session.count(whole(stream, cursor="at", since=high, until=high)) == 1
        assert session.count(whole(stream, cursor="at", until="2024-01-01T01:00:00")) == 2


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    source = source_with(tmp_path, "CREATE TABLE t (i INTEGER)")
    file = tmp_path / "data" / "a.duckdb"
    with (
        writing(file, context_in(tmp_path), shown="a.duckdb", may_read=()),
        pytest.raises(EngineError, match="was in use for") as busy,
    ):
        list(source.discover())
    assert (busy.value.kind, busy.value.origin) == (Kind.TRANSIENT, Origin.SOURCE)
    assert [stream.name for stream in source.discover()] == ["t"]


def test_a_column_that_changed_its_type_is_refused_and_text_takes_anything(tmp_path: Path) -> None:
    source = source_with(tmp_path, "CREATE TABLE t (i BIGINT, s VARCHAR)")
    stream = stream_of(source, "t")
    source = source_with(tmp_path, "CREATE OR REPLACE TABLE t AS SELECT 1.5::DOUBLE AS i, [1] AS s")
    assert rows_of(source, whole(stream, "s")) == [{"s": "[1]"}]
    with pytest.raises(EngineError, match=r"column i of main.t was BIGINT and is DOUBLE now"):
        rows_of(source, whole(stream))


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    source = DuckDBSource(DuckDBSourceSpec(path="a.duckdb"), context_in(tmp_path))
    assert "is not there" in failed(list(source.check())).message
    (tmp_path / "data" / "a.duckdb").write_bytes(b"something else" * 5000)
    step = failed(list(source.check()))
    assert (step.name, "not a DuckDB database file" in step.message) == ("connect", True)


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    source = source_with(tmp_path, "CREATE TABLE t (i BIGINT)")
    stream = stream_of(source, "t")
    source = source_with(tmp_path, "DROP TABLE t")
    with pytest.raises(EngineError, match="t does not exist"):
        rows_of(source, whole(stream))


def test_a_file_is_not_synced_into_itself_and_says_so_at_once(tmp_path: Path) -> None:
    from tests.sync.conftest import context_at
    from webapp.engine.connectors.base import Column, Target
    from webapp.engine.sync.plan import StreamPlan, SyncSpec
    from webapp.engine.sync.runner import run_sync

    with duckdb.connect(str(tmp_path / "lake.duckdb")) as connection:
        connection.execute("CREATE TABLE a AS SELECT 1 AS id")
    plan = StreamPlan("main", "a", (Column("id", "INTEGER"),), Target("copy", "a"))
    spec = SyncSpec("duckdb", {"path": "lake.duckdb"}, "duckdb", {"path": "./lake.duckdb"}, [plan])
    with pytest.raises(EngineError, match="source and destination are the same file") as refused:
        run_sync(spec, context_at(tmp_path), lambda receipt: None)
    assert refused.value.permanent
