"""PostgreSQL as a source, against a real server: what is found, what values become, what a snapshot promises."""

import datetime
import math
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.connectors.postgres_home import context, read_all, source, stream_of, whole
from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Condition, Filter, Mode, Read
from webapp.engine.connectors.postgres.spec import PostgresSpec
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

UTC = datetime.UTC
# SQL type, SQL value, our type, the value in Python
VALUES: list[tuple[str, str, str, Any]] = [
    ("smallint", "-32768", "SMALLINT", -32768),
    ("integer", "2147483647", "INTEGER", 2147483647),
    ("bigint", "-9223372036854775808", "BIGINT", -(2**63)),
    ("oid", "4294967295", "BIGINT", 4294967295),
    ("numeric(10,2)", "12345678.91", "DECIMAL(10,2)", Decimal("12345678.91")),
    ("numeric(38,10)", "-1234567890123456789012345678.0123456789", "DECIMAL(38,10)",
     Decimal("-1234567890123456789012345678.0123456789")),
    ("numeric(5,0)", "NaN", "DECIMAL(5,0)", None),
    ("numeric", "1e40", "VARCHAR", "1" + "0" * 40),
    ("numeric", "NaN", "VARCHAR", "NaN"),
    ("numeric(50,2)", "1.5", "VARCHAR", "1.50"),
    ("real", "1.5", "FLOAT", 1.5),
    ("double precision", "-Infinity", "DOUBLE", -math.inf),
    ("boolean", "true", "BOOLEAN", True),
    ("text", "Þórr 🚀 'quoted'", "VARCHAR", "Þórr 🚀 'quoted'"),
    ("varchar(5)", "abc", "VARCHAR", "abc"),
    ("char(5)", "abc", "VARCHAR", "abc  "),
    ("name", "abc", "VARCHAR", "abc"),
    ("bytea", "\\x00ff", "BLOB", b"\x00\xff"),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("json", '{"b": 1,  "b": 2}', "JSON", '{"b": 1,  "b": 2}'),
    ("jsonb", '{"b": [1, null]}', "JSON", '{"b": [1, null]}'),
    ("integer[]", "{1,NULL,3}", "INTEGER[]", [1, None, 3]),
    ("text[]", '{a,"b,c",NULL}', "VARCHAR[]", ["a", "b,c", None]),
    ("numeric(6,2)[]", "{1.5,NaN}", "DECIMAL(6,2)[]", [Decimal("1.50"), None]),
    ("uuid[]", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "UUID[]", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("integer[][]", "{{1,2},{3,4}}", "JSON", "[[1,2],[3,4]]"),
    ("date[]", "{infinity,2020-02-29}", "DATE[]", [None, datetime.date(2020, 2, 29)]),
    ("mood", "happy", "VARCHAR", "happy"),
    ("mood[]", "{happy,sad}", "VARCHAR[]", ["happy", "sad"]),
    ("positive", "7", "INTEGER", 7),
    ("price", "7.5", "DECIMAL(8,3)", Decimal("7.500")),
    ("point3", "(1,2,x)", "JSON", '{"a":1,"b":2,"c":"x"}'),
    ("inet", "10.0.0.1", "VARCHAR", "10.0.0.1"),
    ("cidr", "10.0.0.0/8", "VARCHAR", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03", "VARCHAR", "08:00:2b:01:02:03"),
    ("date", "2020-02-29", "DATE", datetime.date(2020, 2, 29)),
    ("date", "infinity", "DATE", None),
    ("time", "23:59:59.999999", "TIME", datetime.time(23, 59, 59, 999999)),
    ("timetz", "10:00:00+02", "VARCHAR", "10:00:00+02"),
    ("timestamp", "2020-02-29 12:00:00.000001", "TIMESTAMP", datetime.datetime(2020, 2, 29, 12, 0, 0, 1)),
    ("timestamp", "-infinity", "TIMESTAMP", None),
    ("timestamptz", "2020-02-29 12:00+02", "TIMESTAMP WITH TIME ZONE",
     datetime.datetime(2020, 2, 29, 10, tzinfo=UTC)),
    ("timestamptz", "infinity", "TIMESTAMP WITH TIME ZONE", None),
    ("timestamptz", "294276-12-31 23:59:59+00", "TIMESTAMP WITH TIME ZONE", None),
    ("interval", "1 year 2 days 3 seconds", "INTERVAL", (12, 2, 3_000_000_000)),
    ("int4range", "[1,5)", "VARCHAR", "[1,5)"),
    ("money", "-12.34", "DECIMAL(19,2)", Decimal("-12.34")),
    ("bit(3)", "101", "VARCHAR", "101"),
    ("point", "(1,2)", "VARCHAR", "(1,2)"),
    ("tsvector", "a b", "VARCHAR", "'a' 'b'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    one = TcpPostgres()
    one.run(
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
        "CREATE DOMAIN money_like AS numeric(8,3)",
        "CREATE DOMAIN price AS money_like",
        "CREATE TYPE point3 AS (a integer, b integer, c text)",
        "CREATE TABLE big AS SELECT i AS id, i % 97 AS part, repeat('x', 300) AS note,"
        " timestamp '2026-01-01' + i * interval '1 second' AS changed FROM generate_series(1, 120000) i",
        "ALTER TABLE big ADD PRIMARY KEY (id)",
        "ANALYZE big",
    )
    yield one
    one.remove()


@pytest.mark.parametrize(("kind", "value", "ours", "expected"), VALUES, ids=[f"{v[0]} {v[1][:20]}" for v in VALUES])
def test_a_value_arrives_as_its_type_promises(
    server: TcpPostgres, tmp_path: Path, kind: str, value: str, ours: str, expected: Any
) -> None:
    quoted = value.replace("'", "''")
    server.run(
        "DROP TABLE IF EXISTS one", f"CREATE TABLE one (x {kind})", f"INSERT INTO one VALUES ('{quoted}'), (NULL)"
    )
    reader = source(server, context(tmp_path))
    stream = stream_of(reader, "public.one")
    assert stream.columns[0].type == ours
    assert read_all(reader, whole(stream)).column(0).to_pylist() == [expected, None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20),
            st.none() | st.decimals(Decimal("-99999999.99"), Decimal("99999999.99"), places=2),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)),
            st.none() | st.binary(max_size=10),
            st.none() | st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=3),
        ),
        max_size=8,
    )
)
def test_any_rows_come_back_as_they_are(server: TcpPostgres, tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    connection = server.connect()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS anything")
        cursor.execute(
            "CREATE TABLE anything (at serial, i bigint, t text, d numeric(10,2), f float8, s timestamp, b bytea,"
            " a integer[])"
        )
        for row in rows:
            cursor.execute("INSERT INTO anything (i, t, d, f, s, b, a) VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
    connection.close()
    reader = source(server, context(tmp_path))
    read = read_all(reader, whole(stream_of(reader, "public.anything"))).sort_by("at").drop_columns("at")
    assert [tuple(row.values()) for row in read.to_pylist()] == rows


def test_streams_have_keys_cursors_modes_and_sizes(server: TcpPostgres, tmp_path: Path) -> None:
    big = stream_of(source(server, context(tmp_path)), "public.big")
    assert big.primary_key == ("id",)
    assert big.cursor_fields == ("id", "part", "changed")
    assert big.modes == (Mode.FULL_REFRESH, Mode.INCREMENTAL)
    assert big.rows == 120000
    assert (big.size_bytes or 0) > 30_000_000


def test_discovery_finds_tables_views_and_partitioned_tables_and_no_system_or_temporary_ones(
    server: TcpPostgres, tmp_path: Path
) -> None:
    server.run(
        "DROP SCHEMA IF EXISTS kinds CASCADE",
        "CREATE SCHEMA kinds",
        "CREATE TABLE kinds.plain (a int)",
        "CREATE VIEW kinds.seen AS SELECT a FROM kinds.plain",
        "CREATE MATERIALIZED VIEW kinds.kept AS SELECT a FROM kinds.plain",
        "CREATE TABLE kinds.parted (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE kinds.parted_1 PARTITION OF kinds.parted FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE kinds.parted_2 PARTITION OF kinds.parted FOR VALUES FROM (10) TO (20)",
        "INSERT INTO kinds.parted SELECT generate_series(0, 19)",
    )
    reader = source(server, context(tmp_path), schemas=["kinds"])
    assert [stream.name for stream in reader.discover()] == ["kept", "parted", "plain", "seen"]
    assert [stream.name for stream in reader.discover(pattern="kinds.p*")] == ["parted", "plain"]
    parted = stream_of(reader, "kinds.parted")
    with reader.open(parallel=2) as session:
        assert len(session.chunks(whole(parted), parallel=2)) == 2
    assert sorted(read_all(reader, whole(parted)).column(0).to_pylist()) == list(range(20))
    everything = {stream.namespace for stream in source(server, context(tmp_path)).discover()}
    assert not everything & {"pg_catalog", "information_schema", "_hohmann"}


def test_a_large_table_is_read_in_parts_that_hold_every_row_once(server: TcpPostgres, tmp_path: Path) -> None:
    reader = source(server, context(tmp_path))
    read = whole(stream_of(reader, "public.big"))
    with reader.open(parallel=2) as session:
        chunks = session.chunks(read, parallel=2)
        found: list[int] = []

        def take(which: int) -> None:
            for chunk in chunks[which::2]:
                found.extend(session.read(read, chunk).read_all().column(0).to_pylist())

        threads = [threading.Thread(target=take, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.count(read) == 120000
    assert len(chunks) == 4
    assert sorted(found) == list(range(1, 120001))


def test_a_reader_that_is_left_gives_its_connection_back(server: TcpPostgres, tmp_path: Path) -> None:
    reader = source(server, context(tmp_path), max_threads=1)
    read = whole(stream_of(reader, "public.big"))
    began = time.monotonic()
    with reader.open(parallel=4) as session:
        chunks = session.chunks(read, parallel=4)
        for chunk in chunks:
            assert session.read(read, chunk).read_next_batch().num_rows > 0
    assert time.monotonic() - began < 10


def test_all_connections_see_one_moment(server: TcpPostgres, tmp_path: Path) -> None:
    server.run("DROP TABLE IF EXISTS moment", "CREATE TABLE moment (a int)", "INSERT INTO moment VALUES (1)")
    reader = source(server, context(tmp_path))
    read = whole(stream_of(reader, "public.moment"), cursor="a")
    with reader.open(parallel=2) as session:
        server.run("INSERT INTO moment VALUES (2)")
        assert session.high_water(read) == 1
        assert session.count(read) == 1
        assert session.read(read, session.chunks(read, parallel=2)[0]).read_all().num_rows == 1


@pytest.mark.parametrize(
    ("joined", "conditions", "rows"),
    [
        ("and", [("id", ">=", 5), ("id", "<", 8)], 3),
        ("or", [("id", "=", 1), ("id", "=", 2), ("note", "=", "it's")], 2),
        ("and", [("note", "=", None)], 0),
        ("and", [("note", "!=", None), ("id", "<=", 10)], 10),
        ("and", [("changed", "<=", "2026-01-01T00:00:03")], 3),
    ],
)
def test_filters_choose_rows(
    server: TcpPostgres, tmp_path: Path, joined: str, conditions: list[tuple[str, str, Any]], rows: int
) -> None:
    reader = source(server, context(tmp_path))
    chosen = Filter(tuple(Condition(*one) for one in conditions), joined)
    read = whole(stream_of(reader, "public.big"), filter=chosen)
    assert read_all(reader, read).num_rows == rows


def test_a_cursor_window_is_closed_at_both_ends(server: TcpPostgres, tmp_path: Path) -> None:
    reader = source(server, context(tmp_path))
    read = whole(
        stream_of(reader, "public.big"), cursor="changed", since="2026-01-01 00:00:10", until="2026-01-01 00:00:20"
    )
    assert sorted(read_all(reader, read).column("id").to_pylist()) == list(range(10, 21))
    with reader.open(parallel=1) as session:
        assert session.high_water(read) == "2026-01-01 00:00:20"


def test_a_window_that_is_open_at_both_ends_has_rows_without_a_value_too(server: TcpPostgres, tmp_path: Path) -> None:
    server.run(
        "DROP TABLE IF EXISTS late",
        "CREATE TABLE late (a timestamptz)",
        "INSERT INTO late VALUES (NULL), ('2026-01-01'), ('infinity')",
    )
    reader = source(server, context(tmp_path))
    read = whole(stream_of(reader, "public.late"), cursor="a")
    with reader.open(parallel=1) as session:
        until = session.high_water(read)
    assert until == "2026-01-01 00:00:00+00"
    assert read_all(reader, read).num_rows == 3
    assert read_all(reader, whole(read.stream, cursor="a", until=until)).num_rows == 1
    assert read_all(reader, whole(read.stream, cursor="a", since=until, until=until)).num_rows == 1


def failure(act: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        act()
    assert caught.value.fix
    return caught.value


def test_a_table_without_rights_fails_alone(server: TcpPostgres, tmp_path: Path) -> None:
    server.run(
        "DROP TABLE IF EXISTS open_to_all, shut",
        "DROP ROLE IF EXISTS visitor",
        "CREATE ROLE visitor LOGIN PASSWORD 's3cret-word'",
        "CREATE TABLE open_to_all AS SELECT 1 AS a",
        "CREATE TABLE shut AS SELECT 1 AS a",
        "GRANT SELECT ON open_to_all TO visitor",
    )
    reader = source(server, context(tmp_path), username="visitor", password="s3cret-word")
    allowed, shut = (whole(stream_of(reader, f"public.{name}")) for name in ("open_to_all", "shut"))
    with reader.open(parallel=1) as session:
        error = failure(lambda: session.chunks(shut, parallel=1))
        assert (error.origin, error.kind) == (Origin.SOURCE, Kind.CONFIGURATION)
        assert "shut" in error.message and "GRANT" in (error.fix or "")
        assert session.read(allowed, session.chunks(allowed, parallel=1)[0]).read_all().num_rows == 1


def test_a_dropped_table_and_a_dropped_column_say_so(server: TcpPostgres, tmp_path: Path) -> None:
    server.run("DROP TABLE IF EXISTS gone, less", "CREATE TABLE gone (a int)", "CREATE TABLE less (a int, b int)")
    reader = source(server, context(tmp_path))
    gone, less = (whole(stream_of(reader, f"public.{name}")) for name in ("gone", "less"))
    server.run("DROP TABLE gone", "ALTER TABLE less DROP COLUMN b")
    with reader.open(parallel=1) as session:
        assert "public.gone" in failure(lambda: session.chunks(gone, parallel=1)).message
        assert "no column b" in failure(lambda: session.chunks(less, parallel=1)).message


def test_an_array_of_several_dimensions_is_refused_rather_than_flattened(server: TcpPostgres, tmp_path: Path) -> None:
    server.run("DROP TABLE IF EXISTS deep", "CREATE TABLE deep (a int[])", "INSERT INTO deep VALUES ('{{1,2},{3,4}}')")
    reader = source(server, context(tmp_path))
    error = failure(lambda: read_all(reader, whole(stream_of(reader, "public.deep"))))
    assert "several dimensions" in error.message


def test_a_filter_that_does_not_fit_its_column_is_a_matter_of_configuration(
    server: TcpPostgres, tmp_path: Path
) -> None:
    reader = source(server, context(tmp_path))
    read = whole(stream_of(reader, "public.big"), filter=Filter((Condition("id", "=", "x'; DROP TABLE big; --"),)))
    error = failure(lambda: read_all(reader, read))
    assert (error.kind, error.permanent) == (Kind.CONFIGURATION, True)
    assert server.run("SELECT count(*) FROM big") == [(120000,)]


def test_cancelling_stops_a_statement_that_runs(server: TcpPostgres, tmp_path: Path) -> None:
    server.run("CREATE OR REPLACE VIEW slow AS SELECT 1 AS a, pg_sleep(60)::text AS b")
    cancelled = threading.Event()
    reader = source(server, context(tmp_path, cancelled=cancelled.is_set))
    read = whole(stream_of(reader, "public.slow"))
    threading.Timer(0.5, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        read_all(reader, read)
    assert time.monotonic() - began < 10


def test_a_server_that_dies_under_a_read_is_worth_another_try(tmp_path: Path) -> None:
    own = TcpPostgres()
    try:
        own.run("CREATE TABLE t AS SELECT i, repeat('x', 200) AS note FROM generate_series(1, 200000) i", "CHECKPOINT")
        reader = source(own, context(tmp_path))
        read: Read = whole(stream_of(reader, "public.t"))
        with reader.open(parallel=1) as session:
            batches = session.read(read, session.chunks(read, parallel=1)[0])
            batches.read_next_batch()
            own.stop()
            error = failure(batches.read_all)
        assert error.kind is Kind.TRANSIENT
        assert failure(lambda: list(reader.discover())).kind is Kind.TRANSIENT
        own.start()
        assert read_all(reader, read).num_rows == 200000
    finally:
        own.remove()


def test_secrets_stay_out_of_what_is_said() -> None:
    spec = PostgresSpec.model_validate(
        {"host": "h", "port": "5433", "database": "d", "username": "u", "password": "s3cret-word"}
    )
    assert spec.port == 5433
    assert "s3cret-word" not in repr(spec) + spec.endpoint()
