"""Values of every type go from a real source to a real destination and come back as they went."""

import csv
import datetime as dt
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2.extras
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.connectors.contract.destinations import DestinationCase, by_connector
from tests.connectors.contract.servers import Servers
from tests.connectors.contract.values import array, plain
from tests.connectors.lakes import Lake
from webapp.engine.connectors.base import Column
from webapp.engine.connectors.registry import source_class
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.sync.plan import StreamPlan, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

# Rows are few: a failing example is told as it is, for to shrink it takes minutes of syncs.
FEW = settings(
    max_examples=3, deadline=None, database=None, phases=[Phase.generate], derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
#: Letters that have hurt somebody; all of Unicode would take seconds to choose from.
LETTERS = "aZ09 _-\t\n\r\"'`\\,;:%$|/{}[]()<>éßЖ中😀🚀\u200d\u0301\u2028\u00a0\x01\x7f\ufeff"
TEXT = st.text(LETTERS, max_size=20)
TRICKY = st.sampled_from(["", "NULL", "\\N", "null", "0012", "a,b;'c\"", "two\nlines\r\n", "x" * 3_000])
INSTANTS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))
SPANS = st.tuples(st.integers(-99, 99), st.integers(-999, 999), st.integers(-(10**12), 10**12).map(lambda n: n * 1000))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).map(json.dumps)


@dataclass(frozen=True)
class Kept:
    """A column: how the source declares it, the type on the way, the values that it may have."""

    declared: str
    kind: str
    values: st.SearchStrategy[Any]
    stored: Callable[[Any], Any] = lambda value: value


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(digits: int, places: int) -> st.SearchStrategy[Any]:
    whole = st.integers(-(10**digits) + 1, 10**digits - 1)
    from decimal import Context, Decimal

    return whole.map(lambda number: Decimal(number).scaleb(-places, Context(prec=60)))


EVERYWHERE = {
    "small": Kept("smallint", "SMALLINT", integers(16)),
    "num": Kept("integer", "INTEGER", integers(32)),
    "big": Kept("bigint", "BIGINT", integers(64)),
    "price": Kept("numeric(18,4)", "DECIMAL(18,4)", decimals(18, 4)),
    "wide": Kept("numeric(38,10)", "DECIMAL(38,10)", decimals(38, 10)),
    "words": Kept("text", "VARCHAR", TEXT | TRICKY),
    "day": Kept("date", "DATE", st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))),
    "clock": Kept("time", "TIME", st.times()),
    "seen": Kept("timestamp", "TIMESTAMP", INSTANTS),
}
POSTGRES = {
    **EVERYWHERE,
    "flag": Kept("boolean", "BOOLEAN", st.booleans()),
    "ratio": Kept("real", "FLOAT", st.floats(width=32)),
    "mass": Kept("double precision", "DOUBLE", st.floats()),
    "raw": Kept("bytea", "BLOB", st.binary(max_size=40)),
    "uid": Kept("uuid", "UUID", st.uuids().map(str)),
    "doc": Kept("json", "JSON", DOCUMENTS),
    "at": Kept("timestamptz", "TIMESTAMP WITH TIME ZONE", INSTANTS.map(lambda at: at.replace(tzinfo=dt.UTC))),
    "span": Kept("interval", "INTERVAL", SPANS, lambda span: f"{span[0]} mon {span[1]} d {span[2] // 1000} us"),
    "ints": Kept("integer[]", "INTEGER[]", st.lists(st.none() | integers(32), max_size=4)),
    "texts": Kept("text[]", "VARCHAR[]", st.lists(st.none() | TEXT, max_size=4)),
    "mood": Kept("mood", "VARCHAR", st.sampled_from(["sad", "o'k"])),
    "net": Kept("inet", "VARCHAR", st.ip_addresses(v=4).map(str)),
}  # fmt: skip
#: What MySQL knows of floats: neither NaN nor infinities.
FINITE = {
    "ratio": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "mass": st.floats(allow_nan=False, allow_infinity=False),
}
#: Columns that a destination keeps in another form, which docs/types.md shows.
OTHERWISE = dict.fromkeys(("s3", "iceberg", "delta", "mysql", "clickhouse"), frozenset({"span"}))


def rows_of(columns: Mapping[str, Kept]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries({name: st.none() | column.values for name, column in columns.items()})
    return st.lists(row, min_size=1, max_size=8)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers(tmp_path_factory.mktemp("servers"))
    started.postgres.run("CREATE TYPE mood AS ENUM ('sad', 'o''k')")
    yield started
    started.close()


def moved(lake: Lake, source: str, config: Mapping[str, Any], label: str) -> tuple[pa.Table, dict[str, str]]:
    """Sync the stream into the lake; returns what is there then, and the types by which it went."""
    found = source_class(source)
    [stream] = found(found.Spec.model_validate(config), lake.context).discover(pattern=label)
    plan = StreamPlan(stream.namespace, stream.name, stream.columns, lake.table)
    [receipt] = run_sync(
        SyncSpec(source, config, lake.name, lake.config, [plan], keep_days=0), lake.context, lambda told: None
    )
    assert receipt.status is StreamStatus.LANDED, receipt.error
    with lake.destination.open() as session:
        return session.preview(lake.table, limit=1000), {column.name: column.type for column in stream.columns}


def check(
    columns: Mapping[str, Kept],
    rows: Sequence[Mapping[str, Any]],
    came: pa.Table,
    types: Mapping[str, str],
    otherwise: frozenset[str] = frozenset(),
) -> None:
    """All values are there, in the rows that they came from."""
    places = came.column("id").to_pylist()
    assert sorted(places) == list(range(len(rows)))
    for name, column in columns.items():
        # JSON knows one kind of integer; the discovery takes a type that holds those that are there.
        assert types[name] == column.kind or (types[name], column.kind) == ("HUGEINT", "BIGINT")
        if name not in otherwise:
            went = array(column.kind, *(row[name] for row in rows))
            found = dict(zip(places, plain(column.kind, came.column(name)), strict=True))
            assert [found[place] for place in sorted(places)] == plain(column.kind, went), name


# --- PostgreSQL to every destination ----------------------------------------------------------------------------------


def into_postgres(servers: Servers, columns: Mapping[str, Kept], rows: Sequence[Mapping[str, Any]]) -> None:
    connection = servers.postgres.connect()
    with closing(connection), connection.cursor() as cursor:
        declared = ", ".join(f"{name} {column.declared}" for name, column in columns.items())
        cursor.execute(f"DROP TABLE IF EXISTS trip; CREATE TABLE trip (id integer, {declared})")
        marks = ", ".join(f"CAST(%s AS {column.declared})" for column in columns.values())
        stored = [
            (number, *(None if row[name] is None else column.stored(row[name]) for name, column in columns.items()))
            for number, row in enumerate(rows)
        ]
        psycopg2.extras.execute_values(cursor, "INSERT INTO trip VALUES %s", stored, f"(%s, {marks})")


@pytest.mark.parametrize("case", by_connector().values(), ids=lambda case: case.connector)
def test_rows_of_postgresql_come_back_from_each_destination(
    case: DestinationCase, servers: Servers, tmp_path: Path
) -> None:
    lake = case.made(tmp_path, servers)
    columns = {
        name: replace(column, values=FINITE[name]) if case.connector == "mysql" and name in FINITE else column
        for name, column in POSTGRES.items()
    }

    @FEW
    @given(rows_of(columns))
    def trip(rows: list[dict[str, Any]]) -> None:
        into_postgres(servers, columns, rows)
        came, types = moved(lake, "postgres", servers.postgres.config(), "public.trip")
        check(columns, rows, came, types, OTHERWISE.get(case.connector, frozenset()))

    trip()


# --- other sources to DuckDB ------------------------------------------------------------------------------------------


@pytest.fixture
def lake(servers: Servers, tmp_path: Path) -> Lake:
    return by_connector()["duckdb"].made(tmp_path, servers)


MARIADB = {
    **{name: column for name, column in EVERYWHERE.items() if name != "clock"},
    "price": Kept("decimal(18,4)", "DECIMAL(18,4)", decimals(18, 4)),
    "wide": Kept("decimal(38,10)", "DECIMAL(38,10)", decimals(38, 10)),
    "words": Kept("longtext", "VARCHAR", TEXT | TRICKY),
    "seen": Kept("datetime(6)", "TIMESTAMP", INSTANTS),
    "mass": Kept("double", "DOUBLE", FINITE["mass"]),
    "raw": Kept("longblob", "BLOB", st.binary(max_size=40)),
    "plus": Kept("bigint unsigned", "UBIGINT", st.integers(0, 2**64 - 1)),
}


def test_rows_of_mariadb_come_back_from_duckdb(servers: Servers, lake: Lake) -> None:
    config = {"host": "127.0.0.1", "port": servers.maria.port, "username": "root", "password": "", "database": "trips"}

    @FEW
    @given(rows_of(MARIADB))
    def trip(rows: list[dict[str, Any]]) -> None:
        with closing(servers.maria.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS trips CHARACTER SET utf8mb4")
            declared = ", ".join(f"{name} {column.declared}" for name, column in MARIADB.items())
            cursor.execute(f"CREATE OR REPLACE TABLE trips.trip (id int, {declared})")
            marks = ", ".join(["%s"] * (len(MARIADB) + 1))
            for number, row in enumerate(rows):
                cursor.execute(f"INSERT INTO trips.trip VALUES ({marks})", (number, *(row[name] for name in MARIADB)))
        came, types = moved(lake, "mysql", config, "trips.trip")
        check(MARIADB, rows, came, types)

    trip()


SQLITE = {
    "num": Kept("INTEGER NOT NULL", "BIGINT", integers(64)),
    "mass": Kept("REAL", "DOUBLE", st.floats(allow_nan=False)),
    "words": Kept("TEXT", "VARCHAR", TEXT | TRICKY),
    "raw": Kept("BLOB", "BLOB", st.binary(max_size=40)),
}


def test_rows_of_sqlite_come_back_from_duckdb(lake: Lake) -> None:
    path = lake.context.data_root / "trip.db"
    columns = {**SQLITE, "num": replace(SQLITE["num"], values=integers(64))}

    @FEW
    @given(
        st.lists(
            st.fixed_dictionaries({name: column.values for name, column in columns.items()}), min_size=1, max_size=12
        )
    )
    def trip(rows: list[dict[str, Any]]) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE IF EXISTS trip")
            declared = ", ".join(f"{name} {column.declared}" for name, column in columns.items())
            connection.execute(f"CREATE TABLE trip (id INTEGER, {declared})")
            values = [(number, *(row[name] for name in columns)) for number, row in enumerate(rows)]
            connection.executemany("INSERT INTO trip VALUES (?, ?, ?, ?, ?)", values)
        came, types = moved(lake, "sqlite", {"path": "trip.db"}, "*trip")
        check(columns, rows, came, types)

    trip()


FILES = {
    "num": Kept("", "BIGINT", integers(53)),
    "words": Kept("", "VARCHAR", (TEXT | TRICKY).map(lambda text: f"_{text}")),
    "flag": Kept("", "BOOLEAN", st.booleans()),
}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows({**row, "flag": "true" if row["flag"] else "false"} for row in rows)


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow.parquet as pq

    columns = [Column("id", "BIGINT"), *(Column(name, column.kind) for name, column in FILES.items())]
    pq.write_table(pa.Table.from_pylist(list(rows), schema=arrow_schema(columns)), path)


@pytest.mark.parametrize(("ending", "write"), [("csv", write_csv), ("jsonl", write_lines), ("parquet", write_parquet)])
def test_rows_of_files_come_back_from_duckdb(lake: Lake, ending: str, write: Callable[..., None]) -> None:
    path = lake.context.data_root / f"trip.{ending}"
    config = {"path": path.name, "columns": {"words": "VARCHAR"} if ending == "csv" else {}}

    @FEW
    @given(
        st.lists(
            st.fixed_dictionaries({name: column.values for name, column in FILES.items()}), min_size=1, max_size=12
        )
    )
    def trip(rows: list[dict[str, Any]]) -> None:
        write(path, [{"id": number, **row} for number, row in enumerate(rows)])
        came, types = moved(lake, "files", config, "*trip")
        check(FILES, rows, came, types)

    trip()
