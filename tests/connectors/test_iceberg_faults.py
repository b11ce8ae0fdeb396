"""Iceberg: what another program reads, kills, catalogs that cannot be used."""

import datetime as dt
import decimal
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyiceberg.expressions import EqualTo

from tests.connectors.lakes import PLAIN, TABLE, Lake, crew
from webapp.engine.connectors.base import Column, Partition, Target, Write, first_failure
from webapp.engine.connectors.iceberg.spec import IcebergSpec
from webapp.engine.errors import EngineError, Kind

LOCAL = {"catalog_type": "jdbc", "jdbc_url": "jdbc:sqlite:catalog.db", "iceberg_s3_path": "ice"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path, "iceberg", {"type": "ICEBERG", "writer": LOCAL})


def theirs(lake: Lake) -> Any:
    """The table, as any program sees it that opens the catalog with the library."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("olake_iceberg", uri=f"sqlite:///{lake.root}/data/catalog.db")
    try:
        return catalog.load_table((TABLE.database, TABLE.table))
    finally:
        catalog.close()


def test_one_load_is_one_snapshot_with_the_state_in_its_summary(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    lake.load(Write.UPSERT, crew(2, 3), state={"cursor": 3})
    table = theirs(lake)
    assert len(table.snapshots()) == 2
    assert table.current_snapshot().summary["hohmann.state"] == '{"cursor": 3}'
    assert table.current_snapshot().summary["total-records"] == "3"
    assert sorted(table.scan(row_filter="id > 1").to_arrow()["id"].to_pylist()) == [2, 3]


def test_partition_values_prune_files_for_other_readers(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2, 3), partitions=(Partition("name"),))
    assert len(list(theirs(lake).scan(row_filter="name = 'a2'").plan_files())) == 1
    lake.load(Write.APPEND, crew(4), partitions=(Partition("id", "truncate", 10),))
    assert [str(field.transform) for field in theirs(lake).spec().fields] == ["truncate[10]"]
    assert lake.names() == {1: "a1", 2: "a2", 3: "a3", 4: "a4"}


SHIPS = [
    {"id": n, "price": decimal.Decimal(n).scaleb(-2), "raw": bytes([n]) * 3, "day": dt.date(1969, 12, 20 + n % 12),
     "uid": f"6f1c1f0e-0000-4000-8000-{n:012d}", "text": f"ü🚀{n}"} for n in range(40)
]  # fmt: skip
SHIP_COLUMNS = (
    Column("id", "BIGINT"), Column("price", "DECIMAL(10,2)"), Column("raw", "BLOB"), Column("day", "DATE"),
    Column("uid", "UUID"), Column("text", "VARCHAR"),
)  # fmt: skip


@pytest.mark.parametrize(
    "partition",
    [
        Partition("id", "bucket", 4), Partition("price", "bucket", 3), Partition("raw", "bucket", 3),
        Partition("day", "bucket", 3), Partition("uid", "bucket", 3), Partition("text", "bucket", 3),
        Partition("price", "truncate", 10), Partition("raw", "truncate", 1), Partition("text", "truncate", 2),
    ],
    ids=lambda one: f"{one.transform} of {one.column}",
)  # fmt: skip
def test_buckets_and_cuts_are_those_that_other_readers_compute(lake: Lake, partition: Partition) -> None:
    given = {"columns": SHIP_COLUMNS, "partitions": (partition,)}
    lake.load(Write.REPLACE, [*SHIPS, dict.fromkeys(SHIPS[0])], **given)
    landed = lake.load(Write.UPSERT, SHIPS[3:5], **given)
    assert (landed.found, landed.total) == (2, 41)
    table = theirs(lake)
    everywhere = len(list(table.scan().plan_files()))
    for ship in SHIPS[::7]:
        wanted = ship[partition.column]
        scan = table.scan(
            row_filter=EqualTo(partition.column, wanted.isoformat() if partition.column == "day" else wanted)
        )
        assert ship["id"] in scan.to_arrow()["id"].to_pylist()
        assert (partition.column == "text" and partition.transform == "truncate") or len(
            list(scan.plan_files())
        ) < everywhere


def test_a_bucket_of_what_has_no_hash_is_refused_with_a_reason(lake: Lake) -> None:
    with pytest.raises(EngineError, match="DOUBLE"):
        lake.load(
            Write.REPLACE, [{"id": 1.5}], columns=(Column("id", "DOUBLE"),), partitions=(Partition("id", "bucket", 4),)
        )


def test_a_replace_may_change_every_type(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    lake.load(Write.REPLACE, [{"id": "one", "name": 7}], columns=(Column("id", "VARCHAR"), Column("name", "INTEGER")))
    assert lake.rows() == [{"id": "one", "name": 7}]
    with lake.destination.open() as session:
        assert [column.type for column in session.columns(TABLE) or ()] == ["VARCHAR", "INTEGER"]


def data_files(lake: Lake) -> int:
    return len(list((lake.context.data_root / "ice").rglob("data/**/*.parquet")))


def test_what_gave_way_before_the_days_is_expired_with_its_files(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2))
    lake.load(Write.APPEND, crew(3))
    lake.load(Write.REPLACE, crew(4))
    assert (len(theirs(lake).snapshots()), data_files(lake)) == (3, 4)
    lake.load(Write.APPEND, crew(5), keep_days=0)
    table = theirs(lake)
    assert len(table.snapshots()) == 1
    assert data_files(lake) == 2
    metadata = {path.name for path in (lake.context.data_root / "ice").rglob("*.avro")}
    named = {one.manifest_path.rpartition("/")[2] for one in table.current_snapshot().manifests(table.io)}
    assert metadata == named | {table.current_snapshot().manifest_list.rpartition("/")[2]}
    assert (lake.names(), lake.state()) == ({4: "a4", 5: "a5"}, {"at": "now"})


def test_a_content_that_gave_way_just_now_is_kept_however_old_it_is(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    landed = lake.load(Write.REPLACE, crew(2), keep_days=1)
    with lake.destination.open() as session:
        assert session.restore(TABLE, landed.generation, None).total == 1


def test_a_snapshot_that_someone_named_is_kept(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    table = theirs(lake)
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "audit").commit()
    lake.load(Write.REPLACE, crew(2))
    lake.load(Write.REPLACE, crew(3), keep_days=0)
    tagged = theirs(lake).snapshot_by_name("audit")
    assert theirs(lake).scan(snapshot_id=tagged.snapshot_id).to_arrow()["id"].to_pylist() == [1]
    assert data_files(lake) == 2


@pytest.mark.parametrize("before", [True, False])
def test_a_kill_around_the_commit_leaves_old_or_new(lake: Lake, before: bool) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    code = (
        "import os, signal; from pathlib import Path; from tests.connectors.lakes import *;"
        "from webapp.engine.connectors.iceberg.writer import IcebergLoad as L; o = L._publish;"
        f"k = lambda *a: ({before} or o(*a), os.kill(os.getpid(), signal.SIGKILL)); L._publish = k;"
        f"Lake(Path({str(lake.root)!r}), 'iceberg', {LOCAL!r}).load(Write.REPLACE, crew(7), state={{'cursor': 7}})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    expected = ({1: "a1", 2: "a2"}, {"cursor": 2}) if before else ({7: "a7"}, {"cursor": 7})
    assert (lake.names(), lake.state()) == expected
    assert lake.load(Write.APPEND, crew(9), state={"cursor": 9}).found == 1
    assert data_files(lake) == 4 - before, "what the killed load left without a snapshot is gone"


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"jdbc_url": "jdbc:postgresql://127.0.0.1:1/db", "jdbc_password": "hidden-word"}, "log in", "does not answer"),
        ({"jdbc_url": "jdbc:mysql://127.0.0.1/db"}, "resolve", "JDBC"),
        ({"jdbc_url": "jdbc:postgresql://[::/x"}, "resolve", "JDBC"),
        ({"jdbc_url": "jdbc:sqlite:../../catalog.db"}, "resolve", "outside"),
        ({"iceberg_s3_path": "../ice"}, "resolve", "outside"),
        ({"catalog_type": "hive", "hive_uri": "thrift://127.0.0.1:1"}, "log in", "does not answer"),
        ({"catalog_type": "hive", "hive_uri": "127.0.0.1:9083"}, "resolve", "no usable address"),
        ({"catalog_type": "glue", "glue_endpoint": "ftp://x"}, "resolve", "not an address"),
        ({"catalog_type": "rest", "rest_catalog_url": "http://127.0.0.1:1"}, "log in", "does not answer"),
        ({"iceberg_s3_path": "gopher://x/y"}, "resolve", "s3://"),
    ],
)
def test_a_catalog_that_cannot_be_used_fails_at_its_step(
    tmp_path: Path, changes: dict[str, str], step: str, words: str
) -> None:
    lake = Lake(tmp_path, "iceberg", LOCAL | changes)
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert (failed.name, words in failed.message, "hidden-word" in failed.message) == (step, True, False), failed


def test_a_catalog_that_is_away_may_come_back(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "iceberg", LOCAL | {"jdbc_url": "jdbc:postgresql://127.0.0.1:1/db"})
    with pytest.raises(EngineError) as raised:
        lake.load(Write.REPLACE, crew(1))
    assert raised.value.kind is Kind.TRANSIENT and not raised.value.permanent


def test_what_a_catalog_needs_is_asked_for() -> None:
    with pytest.raises(ValidationError, match="jdbc_url"):
        IcebergSpec.model_validate({"type": "ICEBERG", "writer": {"catalog_type": "jdbc"}})


def test_a_table_without_a_namespace_takes_the_destinations_own(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "iceberg", LOCAL | {"iceberg_db": "home"})
    from webapp.engine.connectors.base import Load

    with lake.destination.open() as session:
        session.begin(Load(Target("", "t"), Write.REPLACE, PLAIN)).commit({"x": 1})
        assert session.state(Target("home", "t")) == {"x": 1}


def test_giving_up_after_the_commit_takes_no_row_away(lake: Lake) -> None:
    import pyarrow as pa

    from webapp.engine.connectors.base import Chunk, Load
    from webapp.engine.connectors.types import arrow_schema

    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        writer.write(pa.Table.from_pylist(crew(1), schema=arrow_schema(PLAIN)).to_reader(), Chunk("a"))
        writer.commit({})
        writer.abort()
    assert lake.names() == {1: "a1"}
