"""Iceberg as a source: pinned snapshots, pruned files, tables that were changed, bounds that nothing leads out of."""

import datetime as dt
import decimal
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import LongType, StringType

from tests.connectors.lakes import EVERY, FULL, Lake, crew
from tests.connectors.reading import context_in, failed, rows_of, stream_of, types_of, whole
from tests.support import iceberg_rest
from tests.support.iceberg_rest import rest_catalog
from webapp.engine.connectors.base import Column, Condition, Filter, Mode, Partition, Target, Write
from webapp.engine.connectors.iceberg.source import IcebergSource
from webapp.engine.connectors.iceberg.spec import IcebergSourceSpec
from webapp.engine.errors import EngineError, Origin
from webapp.engine.sync.plan import Counting, StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

LOCAL = {"catalog_type": "jdbc", "jdbc_url": "jdbc:sqlite:catalog.db", "iceberg_s3_path": "ice"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A destination whose tables are read back."""
    return Lake(tmp_path, "iceberg", LOCAL, table=Target("mission", "crew"))


@pytest.fixture
def source(tmp_path: Path) -> IcebergSource:
    return source_in(tmp_path)


def source_in(root: Path, **changes: Any) -> IcebergSource:
    return IcebergSource(IcebergSourceSpec.model_validate(LOCAL | changes), context_in(root))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    """The catalog as another program opens it."""
    (tmp_path / "data").mkdir(exist_ok=True)
    opened = SqlCatalog("olake_iceberg", uri=f"sqlite:///{tmp_path}/data/catalog.db",
                        warehouse=f"file://{tmp_path}/data/ice")  # fmt: skip
    opened.create_namespace_if_not_exists("theirs")
    yield opened
    opened.close()


def test_every_type_comes_back_as_it_went(lake: Lake, source: IcebergSource) -> None:
    nothing = {column.name: None for column in EVERY} | {"id": 2}
    lake.load(Write.REPLACE, [FULL, nothing], columns=EVERY)
    stream = stream_of(source, "crew")
    kept = {column.name: column.type for column in EVERY}
    assert types_of(stream) == kept | {
        "small": "INTEGER",
        "big": "DECIMAL(38,0)",
        "doc": "VARCHAR",
        "spot": 'STRUCT("x" INTEGER, "y" VARCHAR)',
    }
    first, second = sorted(rows_of(source, whole(stream)), key=lambda row: row["id"])
    assert first == FULL | {"big": decimal.Decimal(10**30)}
    assert second == nothing


def test_maps_travel_as_json_and_identifier_fields_are_the_key(catalog: SqlCatalog, source: IcebergSource) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), False), pa.field("tags", pa.map_(pa.string(), pa.int32()))])
    table = catalog.create_table("theirs.maps", schema)
    with table.update_schema() as update:
        update.set_identifier_fields("id")
    table.append(pa.Table.from_pylist([{"id": 1, "tags": [("a", 1)]}], schema=schema))
    stream = stream_of(source, "maps")
    assert (stream.primary_key, types_of(stream)["tags"], stream.rows) == (("id",), "JSON", 1)
    assert rows_of(source, whole(stream)) == [{"id": 1, "tags": '{"a":1}'}]


def test_a_read_stays_at_its_snapshot_whoever_writes_meanwhile(lake: Lake, source: IcebergSource) -> None:
    lake.load(Write.REPLACE, crew(1, 2))
    read = whole(stream_of(source, "crew"))
    with source.open(parallel=2) as session:
        assert session.count(read) == 2
        lake.load(Write.UPSERT, crew(2, 3, name="new"))
        assert session.count(read) == 2
        rows = [
            row
            for chunk in session.chunks(read, parallel=2)
            for row in session.read(read, chunk).read_all().to_pylist()
        ]
    assert {row["id"]: row["name"] for row in rows} == {1: "a1", 2: "a2"}
    assert len(rows_of(source, read)) == 3


def test_a_window_reads_only_the_files_that_can_hold_its_rows(lake: Lake, source: IcebergSource) -> None:
    columns = (Column("id", "BIGINT"), Column("at", "TIMESTAMP WITH TIME ZONE"), Column("day", "DATE"))
    days = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in range(1, 9)]
    rows = [{"id": number, "at": at, "day": at.date()} for number, at in enumerate(days)]
    for row in rows:
        lake.load(Write.APPEND, [row], columns=columns)
    stream = stream_of(source, "crew")
    for cursor, since, until in [
        ("id", 6, 7),
        ("at", "2024-01-07 00:00:00+00", None),
        ("day", "2024-01-07", "2024-01-09"),
    ]:
        read = whole(stream, cursor=cursor, since=since, until=until)
        with source.open(parallel=1) as session:
            assert sum(len(chunk.bounds["files"]) for chunk in session.chunks(read, parallel=1)) == 2
            assert (session.count(read), session.count_exactly(read)) == (None, 2)
        assert sorted(row["id"] for row in rows_of(source, read)) == [6, 7]


def test_a_cursor_has_its_greatest_value_and_nothing_has_none(lake: Lake, source: IcebergSource) -> None:
    lake.load(Write.REPLACE, crew(1, 2))
    stream = stream_of(source, "crew")
    with source.open(parallel=1) as session:
        assert session.high_water(whole(stream, cursor="id")) == 2
        assert session.high_water(whole(stream, cursor="name")) == "a2"
        nobody = Filter((Condition("id", ">", 7),))
        assert session.high_water(whole(stream, cursor="id", filter=nobody)) is None


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (Filter((Condition("uid", "=", "6f1c1f0e-0000-4000-8000-000000000003"),)), [3]),
        (Filter((Condition("price", "<", 0.025),)), [0, 1, 2]),
        (Filter((Condition("text", "!=", "t1"), Condition("id", "<=", 2))), [0, 2]),
        (Filter((Condition("text", "=", None), Condition("id", "=", 1)), "or"), [1, 4]),
        (Filter((Condition("id", "=", "2"),)), [2]),
    ],
)  # fmt: skip
def test_filters_choose_rows_as_sql_does(lake: Lake, source: IcebergSource, chosen: Filter, ids: list[int]) -> None:
    columns = (
        Column("id", "BIGINT"),
        Column("uid", "UUID"),
        Column("price", "DECIMAL(10,2)"),
        Column("text", "VARCHAR"),
    )
    rows = [
        {
            "id": n,
            "uid": f"6f1c1f0e-0000-4000-8000-{n:012d}",
            "price": decimal.Decimal(n).scaleb(-2),
            "text": f"t{n}",
        }
        for n in range(4)
    ]
    rows.append({"id": 4, "uid": None, "price": None, "text": None})
    lake.load(Write.REPLACE, rows, columns=columns, partitions=(Partition("uid"),))
    assert sorted(row["id"] for row in rows_of(source, whole(stream_of(source, "crew"), "id", filter=chosen))) == ids


def test_files_that_are_older_than_a_column_have_nulls_in_it(catalog: SqlCatalog, source: IcebergSource) -> None:
    table = catalog.create_table("theirs.grown", pa.schema([("id", pa.int32()), ("old", pa.string())]))
    table.append(pa.Table.from_pylist([{"id": 1, "old": "a"}], schema=table.schema().as_arrow()))
    with table.update_schema() as update:
        update.rename_column("old", "new")
        update.add_column("more", StringType())
        update.update_column("id", LongType())
    assert rows_of(source, whole(stream_of(source, "grown"))) == [{"id": 1, "new": "a", "more": None}]


def test_a_table_without_rows_is_read_and_one_that_is_gone_is_told(catalog: SqlCatalog, source: IcebergSource) -> None:
    catalog.create_table("theirs.empty", pa.schema([("id", pa.int64())]))
    read = whole(stream_of(source, "empty"))
    assert rows_of(source, read) == []
    catalog.drop_table("theirs.empty")
    with pytest.raises(EngineError, match=r"theirs\.empty is not there") as raised:
        rows_of(source, read)
    assert raised.value.origin is Origin.SOURCE


def test_one_broken_table_does_not_hide_the_others(catalog: SqlCatalog, source: IcebergSource, tmp_path: Path) -> None:
    for name in ("good", "broken"):
        catalog.create_table(f"theirs.{name}", pa.schema([("id", pa.int64())]))
    shutil.rmtree(tmp_path / "data" / "ice" / "theirs" / "broken")
    assert [stream.name for stream in source.discover()] == ["good"]
    assert [stream.label for stream in source.discover(pattern="theirs.g*")] == ["theirs.good"]
    assert [stream.label for stream in source_in(tmp_path, iceberg_db="theirs").discover()] == ["theirs.good"]


def test_a_file_that_is_gone_fails_as_the_source(catalog: SqlCatalog, source: IcebergSource, tmp_path: Path) -> None:
    table = catalog.create_table("theirs.t", pa.schema([("id", pa.int64())]))
    table.append(pa.table({"id": [1]}))
    read = whole(stream_of(source, "t"))
    shutil.rmtree(tmp_path / "data" / "ice" / "theirs" / "t" / "data")
    with pytest.raises(EngineError) as raised:
        rows_of(source, read)
    assert raised.value.origin is Origin.SOURCE


def test_no_catalog_leads_to_files_outside_the_allowed_folders(source: IcebergSource, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    outside = SqlCatalog(
        "olake_iceberg", uri=f"sqlite:///{tmp_path}/data/catalog.db", warehouse=f"file://{tmp_path}/out"
    )
    outside.create_namespace("theirs")
    outside.create_table("theirs.secret", pa.schema([("id", pa.int64())])).append(pa.table({"id": [1]}))
    outside.close()
    assert list(source.discover()) == []
    assert "outside" in failed(list(source.check())).message


def test_a_rest_catalog_cannot_choose_how_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with rest_catalog(tmp_path, warehouse=f"file://{tmp_path}/out") as server:
        server.catalog.create_namespace("theirs")
        server.catalog.create_table("theirs.secret", pa.schema([("id", pa.int64())])).append(pa.table({"id": [1]}))
        rest = {"catalog_type": "rest", "rest_catalog_url": server.url, "token": iceberg_rest.TOKEN, "jdbc_url": ""}
        source = source_in(tmp_path, **rest)
        assert "outside" in failed(list(source.check())).message
        server.config["py-io-impl"] = "pyiceberg.io.pyarrow.PyArrowFileIO"
        assert failed(list(source.check())).ok is False


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"jdbc_url": "jdbc:postgresql://127.0.0.1:1/db", "jdbc_password": "hidden-word"}, "log in", "does not answer"),
        ({"jdbc_url": "jdbc:sqlite:../../catalog.db"}, "resolve", "outside"),
        ({"iceberg_db": "nowhere"}, "rights", "no such namespace"),
    ],
)
def test_a_source_that_cannot_be_read_fails_at_its_step(
    tmp_path: Path, changes: dict[str, str], step: str, words: str
) -> None:
    last = failed(list(source_in(tmp_path, **changes).check()))
    assert (last.name, words in last.message, "hidden-word" in last.message) == (step, True, False), last
    assert last.fix


def test_a_sync_from_iceberg_to_delta_lands_counted_and_summed_and_goes_on(lake: Lake, source: IcebergSource) -> None:
    def synced() -> StreamReceipt:
        stream = stream_of(source, "crew")
        plan = StreamPlan("mission", "crew", stream.columns, Target("copy", "crew"), Mode.INCREMENTAL, Write.UPSERT,
                          ("id",), "id", sums=("id",), count=Counting.ALWAYS)  # fmt: skip
        spec = SyncSpec("iceberg", LOCAL, "delta", {"local_path": "delta"}, [plan])
        [receipt] = run_sync(spec, source.context, lambda _: None)
        return receipt

    lake.load(Write.REPLACE, crew(*range(1, 50)))
    first = synced()
    assert (first.status, first.rows_read, first.rows_source, first.rows_found) == (StreamStatus.LANDED, 49, 49, 49)
    lake.load(Write.APPEND, crew(60, 61))
    second = synced()
    assert (second.status, second.rows_read, second.rows_total) == (StreamStatus.LANDED, 2, 51)
    assert (synced().rows_read, synced().status) == (0, StreamStatus.LANDED)
