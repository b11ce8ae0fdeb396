"""Writes docs/types.md from what real connectors do: `python -m tests.connectors.contract.types_page`."""

import datetime as dt
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.connectors.contract.destinations import by_connector
from tests.connectors.contract.servers import Servers
from tests.connectors.contract.sources import Place, in_mysql
from tests.connectors.contract.values import array, plain
from tests.connectors.lakes import Lake
from tests.connectors.reading import context_in
from webapp.engine.connectors.base import Chunk, Column, Load, Read, Write
from webapp.engine.connectors.registry import source_class
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import EngineError

PAGE = Path(__file__).parents[3] / "docs" / "types.md"
NAMES = {"s3": "Parquet", "iceberg": "Iceberg", "delta": "Delta", "duckdb": "DuckDB", "postgres": "PostgreSQL",
         "mysql": "MySQL", "clickhouse": "ClickHouse"}  # fmt: skip

TYPES = [
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "DECIMAL(18,4)", "DECIMAL(38,10)", "FLOAT", "DOUBLE", "VARCHAR", "BLOB", "UUID", "JSON", "DATE", "TIME",
    "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "INTERVAL", "INTEGER[]", "VARCHAR[]", "UUID[]",
    "INTEGER[][]", "STRUCT(a INTEGER, b VARCHAR)",
]  # fmt: skip


@dataclass(frozen=True)
class Value:
    """One value of a type, and what people call it."""

    kind: str
    called: str
    value: Any


VALUES = [
    Value("VARCHAR", "null", None),
    Value("VARCHAR", "empty text", ""),
    Value("VARCHAR", "a megabyte of text", "x" * 2**20),
    Value("VARCHAR", "emoji and accents", "é😀👩‍🚀"),
    Value("VARCHAR", "quotes, commas, line ends, backslashes", "a'b\"c,\r\n\t\\N;d"),
    Value("VARCHAR", "text with a zero byte", "a\0b"),
    Value("BIGINT", "smallest and largest 64 bit", [-(2**63), 2**63 - 1]),
    Value("UBIGINT", "2⁶⁴ - 1", 2**64 - 1),
    Value("HUGEINT", "38 digits", Decimal(10**37 + 1)),
    Value("DECIMAL(38,10)", "28 and 10 digits", Decimal("-1234567890123456789012345678.0123456789")),
    Value("FLOAT", "infinity", float("inf")),
    Value("DOUBLE", "infinity", float("-inf")),
    Value("DOUBLE", "NaN", float("nan")),
    Value("DOUBLE", "0.1 + 0.2", 0.1 + 0.2),
    Value("DATE", "years 1 and 9999", [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    Value("TIME", "23:59:59.999999", dt.time(23, 59, 59, 999999)),
    Value("TIMESTAMP", "years 1 and 9999", [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    Value("TIMESTAMP_NS", "nanoseconds", 1_700_000_000_123_456_789),
    Value("TIMESTAMP WITH TIME ZONE", "before 1970", dt.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=dt.UTC)),
    Value("INTERVAL", "months, days and microseconds", (14, -3, 5_000_001_000)),
    Value("BLOB", "no bytes, and all of them", [b"", bytes(range(256))]),
    Value("UUID", "a uuid", "6f1c1f0e-0000-4000-8000-00000000000f"),
    Value("JSON", "an object", '{"a": ["🚀", null, 1.5], "b": {}}'),
    Value("VARCHAR[]", "lists: empty, with nulls and quotes", [[], ["", None, 'q"x', "🛰"]]),
    Value("STRUCT(a INTEGER, b VARCHAR)", "a struct", {"a": 1, "b": None}),
]

POSTGRES = {
    "boolean": "true", "smallint": "1", "integer": "1", "bigint": "1", "oid": "1", "numeric(12,3)": "1.5",
    "numeric": "1.5", "numeric(60,2)": "1", "money": "1", "real": "1", "double precision": "1", "text": "'x'",
    "varchar(9)": "'x'", "char(3)": "'x'", "bytea": "'x'", "uuid": "gen_random_uuid()", "json": "'1'", "jsonb": "'1'",
    "date": "now()", "time": "now()", "timetz": "now()", "timestamp": "now()", "timestamptz": "now()",
    "interval": "'1 day'", "integer[]": "'{1}'", "text[]": "'{x}'", "inet": "'10.0.0.1'", "cidr": "'10.0.0.0/8'",
    "macaddr": "'08:00:2b:01:02:03'", "int4range": "'[1,2)'", "bit(3)": "'101'", "point": "'(1,2)'", "xml": "'<a/>'",
    "tsvector": "'x'", "mood": "'sad'",
}  # fmt: skip
MYSQL = [
    "BIT(1)", "BIT(12)", "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "TINYINT UNSIGNED", "SMALLINT UNSIGNED",
    "INT UNSIGNED", "BIGINT UNSIGNED", "DECIMAL(12,3)", "DECIMAL(60,2)", "FLOAT", "DOUBLE", "DATE", "DATETIME(6)",
    "TIMESTAMP(6)", "TIME(6)", "YEAR", "CHAR(3)", "VARCHAR(9)", "LONGTEXT", "VARBINARY(9)", "LONGBLOB",
    "ENUM('a','b')", "SET('a','b')", "JSON", "POINT",
]  # fmt: skip
POSTGRES_VALUES = [
    ("numeric(12,3)", "NaN"), ("numeric", "NaN"), ("real", "-Infinity"), ("double precision", "NaN"),
    ("date", "infinity"), ("timestamp", "-infinity"), ("timestamptz", "infinity"), ("timestamp", "294276-12-31"),
    ("date", "0044-03-15 BC"), ("integer[]", "{}"), ("integer[]", "{1,NULL}"), ("interval", "-1 mon 2 days 03:00:00.5"),
    ("inet", "2001:db8::1/64"), ("timetz", "10:00:00+05:30"),
]  # fmt: skip


def page(servers: Servers, folder: Path) -> str:
    """The page, as the connectors have it now."""
    lakes = {NAMES[name]: made(case, servers, folder / name) for name, case in by_connector().items() if name in NAMES}
    return "\n".join(
        [
            _INTRODUCTION,
            _table(("on the way", "from PostgreSQL", "from MySQL and MariaDB"), _sources(servers, folder)),
            _DESTINATIONS,
            _table(("on the way", *lakes), _kept_types(lakes)),
            _VALUES,
            _table(("type", "value", *lakes), _kept_values(lakes)),
            _SPECIAL,
            _table(("PostgreSQL", "value", "arrives as"), _special_values(servers, folder)),
            _END,
        ]
    )


def made(case: Any, servers: Servers, folder: Path) -> Lake:
    """A destination in a folder of its own."""
    folder.mkdir(parents=True)
    lake: Lake = case.made(folder, servers)
    return lake


# --- what sources give ------------------------------------------------------------------------------------------------


def _sources(servers: Servers, folder: Path) -> Iterator[Sequence[str]]:
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(POSTGRES))
    servers.postgres.run(
        "DROP TABLE IF EXISTS every_type", "DROP TYPE IF EXISTS mood", "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        f"CREATE TABLE every_type ({columns})",
    )  # fmt: skip
    place = Place(folder, servers)
    postgres = _types_of("postgres", servers.postgres.config(), "public.every_type", folder)
    config = in_mysql(place)
    with closing(servers.maria.connect("harbour")) as connection, connection.cursor() as cursor:
        columns = ", ".join(f"c{number} {kind} NULL" for number, kind in enumerate(MYSQL))
        cursor.execute(f"CREATE OR REPLACE TABLE every_type ({columns})")
    mysql = _types_of("mysql", config, "harbour.every_type", folder)
    named = {"mood": "enum"}
    ours = dict(zip((named.get(kind, kind) for kind in POSTGRES), postgres, strict=True))
    theirs = dict(zip(MYSQL, mysql, strict=True))
    for kind in sorted({*ours.values(), *theirs.values()}, key=_order):
        yield (f"`{kind}`", *(_words([name for name, to in found.items() if to == kind]) for found in (ours, theirs)))


def _types_of(connector: str, config: Mapping[str, Any], label: str, folder: Path) -> list[str]:
    (folder / connector).mkdir(exist_ok=True)
    found = source_class(connector)
    [stream] = found(found.Spec.model_validate(config), context_in(folder / connector)).discover(pattern=label)
    return [column.type for column in stream.columns]


def _order(kind: str) -> tuple[int, str]:
    plain_kind = kind.partition("(")[0]
    known = [name.partition("(")[0] for name in TYPES]
    return (known.index(plain_kind) if plain_kind in known else len(known), kind)


def _special_values(servers: Servers, folder: Path) -> Iterator[Sequence[str]]:
    columns = ", ".join(f"c{place} {kind}" for place, (kind, _) in enumerate(POSTGRES_VALUES))
    literals = ", ".join(f"'{value}'" for _, value in POSTGRES_VALUES)
    servers.postgres.run(
        "DROP TABLE IF EXISTS special", f"CREATE TABLE special ({columns})", f"INSERT INTO special VALUES ({literals})"
    )
    found = source_class("postgres")
    source = found(found.Spec.model_validate(servers.postgres.config()), context_in(folder / "postgres"))
    [stream] = source.discover(pattern="public.special")
    read = Read(stream, stream.columns)
    with source.open(parallel=1) as session:
        [chunk] = session.chunks(read, parallel=1)
        rows = session.read(read, chunk).read_all()
    for place, (kind, value) in enumerate(POSTGRES_VALUES):
        yield f"`{kind}`", f"`{value}`", _shown(stream.columns[place].type, rows.column(place))


# --- what destinations keep -------------------------------------------------------------------------------------------


def _kept_types(lakes: Mapping[str, Lake]) -> Iterator[Sequence[str]]:
    columns = tuple(Column(f"c{place}", kind) for place, kind in enumerate(TYPES))
    kept = {name: _columns_after(lake, columns) for name, lake in lakes.items()}
    for place, kind in enumerate(TYPES):
        yield (f"`{kind}`", *(_kept(kind, kept[name][place]) for name in lakes))


def _columns_after(lake: Lake, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    _land(lake, columns, pa.Table.from_pylist([{}], schema=arrow_schema(columns)))
    with lake.destination.open() as session:
        return session.columns(lake.table) or ()


def _kept(kind: str, column: Column) -> str:
    """The destination's own word for the column where it tells one."""
    return f"`{column.native}`" if column.native else "same" if column.type == kind else f"`{column.type}`"


def _land(lake: Lake, columns: tuple[Column, ...], rows: pa.Table) -> None:
    with lake.destination.open() as session:
        writer = session.begin(Load(lake.table, Write.REPLACE, columns, keep_days=0))
        try:
            writer.write(rows.to_reader(), Chunk("all"))
            writer.commit({})
        except BaseException:
            writer.abort()
            raise


def _kept_values(lakes: Mapping[str, Lake]) -> Iterator[Sequence[str]]:
    kept = {name: _outcomes(lake, VALUES) for name, lake in lakes.items()}
    for place, value in enumerate(VALUES):
        yield (f"`{value.kind}`", value.called, *(kept[name][place] for name in lakes))


def _outcomes(lake: Lake, values: Sequence[Value]) -> list[str]:
    """What becomes of each: all in one table, halved until those are alone that are refused."""
    columns = tuple(Column(f"c{place}", value.kind) for place, value in enumerate(values))
    most = max(len(_listed(value)) for value in values)
    arrays = [array(value.kind, *(_listed(value) * most)[:most]) for value in values]
    try:
        _land(lake, columns, pa.Table.from_arrays(arrays, schema=arrow_schema(columns)))
    except EngineError:
        half = len(values) // 2
        return _outcomes(lake, values[:half]) + _outcomes(lake, values[half:]) if half else ["refused"]
    with lake.destination.open() as session:
        came = session.preview(lake.table, limit=most)
    return [
        "kept" if sorted(plain(value.kind, went)) == sorted(plain(value.kind, came.column(f"c{place}")))
        else _shown(value.kind, came.column(f"c{place}"))
        for place, (value, went) in enumerate(zip(values, arrays, strict=True))
    ]  # fmt: skip


def _listed(value: Value) -> list[Any]:
    several = isinstance(value.value, list)
    return value.value if several else [value.value]


def _shown(kind: str, values: pa.ChunkedArray) -> str:
    first = values.slice(0, 1)
    if pa.types.is_timestamp(first.type) and first.type.unit == "ns":
        first = first.cast(pa.timestamp("us"), safe=False)
    try:
        [value] = first.to_pylist()
    except (OverflowError, ValueError):  # what Python's own types do not reach
        value = str(first.cast(pa.string())[0])
    if value is None:
        return "null"
    if isinstance(value, pa.MonthDayNano):
        return f"{value.months} months, {value.days} days, {value.nanoseconds / 1e9:g} s"
    return f"`{value[:60]!r}`" if isinstance(value, str) else f"{value}"


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _words(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


_INTRODUCTION = """# What types become

Between source and destination every value has a type of one vocabulary, DuckDB's words. A source chooses the type
that holds all values of its own; what has no exact type travels as text, as the source writes it. Nothing is rounded
silently: what a type cannot hold stops its stream, which says so, or becomes what these tables tell.

These tables are written from what the connectors do with real servers and files, by
`python -m tests.connectors.contract.types_page`, and a test compares the two.

## From the source
"""
_DESTINATIONS = """
Parquet, Arrow and Avro files bring their own types, CSV files the declared or inferred ones, JSON, Excel sheets and
APIs those of their values ([files](connectors/files.md), [HTTP APIs](connectors/rest.md)).
[SQLite](connectors/sqlite.md) goes by its values, too. [DuckDB](connectors/duckdb.md) has these types itself.

## At the destination

The column that a table has afterwards; "same" is the type of the first column.
"""
_VALUES = """
## Values at the edges

What is read back after a load of a value: "kept" is the same value, also where the type has another name.
"""
_SPECIAL = """
## Values that PostgreSQL knows and others do not
"""
_END = """
An infinite date or timestamp never moves a cursor. A negative zero may come back as zero.
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, closing(Servers(Path(scratch))) as started:
        PAGE.write_text(page(started, Path(scratch)))
