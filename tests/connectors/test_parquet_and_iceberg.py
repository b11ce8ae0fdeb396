"""What all lake destinations promise, told once and proven on each: folders, a bucket, SQL catalogs."""

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.connectors import lakes
from tests.connectors.lakes import EVERY, FULL, PLAIN, TABLE, Lake, crew
from tests.support.postgres import TcpPostgres
from tests.support.s3 import S3Server, s3_server
from webapp.engine.connectors.base import Chunk, Column, Load, Partition, Write, first_failure
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import EngineError, Origin

KINDS = ["folder", "bucket", "delta", "delta-bucket", "iceberg-sqlite", "iceberg-postgres", "iceberg-bucket"]


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    """An S3 server with a bucket "lake"; a process of its own, for some calls into libraries hold this one still."""
    with s3_server() as server:
        server.client().create_bucket(Bucket="lake")
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL for catalogs."""
    server = TcpPostgres()
    yield server.port
    server.remove()


def jdbc(port: int) -> dict[str, str]:
    """The writer's fields for a PostgreSQL catalog of its own name."""
    return {
        "jdbc_url": f"jdbc:postgresql://127.0.0.1:{port}/postgres",
        "jdbc_username": "postgres",
        "catalog_name": f"c{uuid.uuid4().hex[:8]}",
    }


def configuration(kind: str, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    prefix = uuid.uuid4().hex
    if kind == "folder":
        return "s3", {"type": "PARQUET", "writer": {"local_path": "lake", "normalization": True}}
    if kind == "delta":
        return "delta", {"type": "DELTA", "writer": {"local_path": "lake"}}
    if kind in ("bucket", "delta-bucket"):
        bucket = {"s3_bucket": "lake", "s3_path": prefix} | lakes.s3_fields(request.getfixturevalue("store"))
        name, form = ("s3", "PARQUET") if kind == "bucket" else ("delta", "DELTA")
        return name, {"type": form, "writer": bucket}
    writer: dict[str, Any] = {"catalog_type": "jdbc", "iceberg_s3_path": "ice", "jdbc_url": "jdbc:sqlite:catalog.db"}
    if kind == "iceberg-postgres":
        writer |= jdbc(request.getfixturevalue("postgres"))
    if kind == "iceberg-bucket":
        writer |= lakes.aws_fields(request.getfixturevalue("store")) | {"iceberg_s3_path": f"s3://lake/{prefix}"}
    return "iceberg", {"type": "ICEBERG", "writer": writer}


@pytest.fixture(params=KINDS)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    name, config = configuration(request.param, request)
    return Lake(tmp_path, name, config)


def test_a_check_passes_step_by_step_and_leaves_nothing(lake: Lake) -> None:
    steps = list(lake.destination.check())
    assert first_failure(steps) is None, steps
    assert steps[-1].name == "write"


def test_a_table_that_is_not_there_has_neither_columns_nor_state(lake: Lake) -> None:
    with lake.destination.open() as session:
        assert session.columns(TABLE) is None
        assert session.state(TABLE) is None
        assert session.generations(TABLE) == []


def test_replace_append_and_upsert_leave_rows_and_state_together(lake: Lake) -> None:
    landed = lake.load(Write.REPLACE, crew(1, 2, 3), state={"cursor": 3})
    assert (landed.written, landed.found, landed.total) == (3, 3, 3)
    landed = lake.load(Write.APPEND, crew(4, 5), state={"cursor": 5})
    assert (landed.written, landed.found, landed.total) == (2, 2, 5)
    landed = lake.load(Write.UPSERT, crew(5, 6, 6, name="new"), state={"cursor": 6})
    assert (landed.written, landed.found, landed.total) == (2, 2, 6)
    assert lake.names() == {1: "a1", 2: "a2", 3: "a3", 4: "a4", 5: "new5", 6: "new6"}
    assert lake.state() == {"cursor": 6}
    assert lake.load(Write.REPLACE, crew(9), state={"cursor": 9}).total == 1
    assert lake.names() == {9: "a9"}


def test_a_load_that_ends_before_its_commit_changes_nothing(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        writer.write(pa.Table.from_pylist(crew(7, 8), schema=arrow_schema(PLAIN)).to_reader(), Chunk("a"))
        assert session.preview(TABLE, limit=9).num_rows == 1
        writer.abort()
    assert lake.names() == {1: "a1"}
    assert lake.state() == {"cursor": 1}


def test_the_parachute_brings_rows_columns_and_state_back(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    other = (Column("id", "BIGINT"), Column("weight", "DOUBLE"))
    landed = lake.load(Write.REPLACE, [{"id": 8, "weight": 1.5}], columns=other, state={"cursor": 8})
    assert lake.rows() == [{"id": 8, "weight": 1.5}]
    with lake.destination.open() as session:
        assert landed.generation in [kept.name for kept in session.generations(TABLE)]
        assert session.restore(TABLE, landed.generation, {"cursor": 2}).total == 2
        assert session.state(TABLE) == {"cursor": 2}
        assert [column.name for column in session.columns(TABLE) or ()] == ["id", "name"]
    assert lake.names() == {1: "a1", 2: "a2"}
    assert lake.load(Write.APPEND, crew(3), state={"cursor": 3}).total == 3
    assert lake.state() == {"cursor": 3}


def test_a_generation_that_nobody_kept_is_refused(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    with lake.destination.open() as session, pytest.raises(EngineError, match="no earlier content"):
        session.restore(TABLE, "1234", None)


def test_every_type_comes_back_as_it_went(lake: Lake) -> None:
    nothing = {column.name: None for column in EVERY} | {"id": 2}
    lake.load(Write.REPLACE, [FULL, nothing], columns=EVERY)
    first, second = lake.rows()
    if lake.name == "delta":  # has no time of day
        first["hour"] = dt.time.fromisoformat(first["hour"])
    assert {**first, "uid": str(first["uid"]), "at": first["at"].timestamp()} == {**FULL, "at": FULL["at"].timestamp()}  # type: ignore[attr-defined]
    assert second == nothing


def test_new_columns_and_wider_types_are_applied_to_the_table_that_is_there(lake: Lake) -> None:
    narrow = (Column("id", "INTEGER"), Column("name", "VARCHAR"))
    lake.load(Write.REPLACE, crew(1), columns=narrow)
    wide = (Column("id", "BIGINT"), Column("extra", "BOOLEAN"))
    lake.load(Write.APPEND, [{"id": 5_000_000_000, "extra": True}], columns=wide)
    lake.load(Write.UPSERT, [{"id": 1, "extra": False}], columns=wide)
    assert lake.rows() == [
        {"id": 1, "name": None, "extra": False},
        {"id": 5_000_000_000, "name": None, "extra": True},
    ]


def test_a_type_that_does_not_fit_stops_the_load_and_leaves_the_table(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    with pytest.raises(EngineError, match="id"):
        lake.load(Write.APPEND, [{"id": b"x", "name": "b"}], columns=(Column("id", "BLOB"), Column("name", "VARCHAR")))
    assert lake.names() == {1: "a1"}


@pytest.mark.parametrize(("key", "message"), [((), "no key"), (("nowhere",), "nowhere"), (("name",), "no value")])
def test_an_upsert_without_a_usable_key_says_so(lake: Lake, key: tuple[str, ...], message: str) -> None:
    lake.load(Write.REPLACE, crew(1))
    with pytest.raises(EngineError, match=message):
        lake.load(Write.UPSERT, [{"id": 1, "name": None}], key=key)
    assert lake.names() == {1: "a1"}


def test_partitions_by_column_and_by_month_keep_every_row(lake: Lake) -> None:
    parts = (Partition("tags2"), Partition("day", "identity" if lake.name == "delta" else "month"))
    columns = (Column("id", "BIGINT"), Column("tags2", "VARCHAR"), Column("day", "DATE"))
    rows = [{"id": n, "tags2": tag, "day": FULL["day"]} for n, tag in enumerate(["01", "x/y", "🚀", None, "01"])]
    rows[0]["day"] = None
    lake.load(Write.REPLACE, rows, columns=columns, partitions=parts)
    lake.load(Write.UPSERT, [{"id": 0, "tags2": "z", "day": None}], columns=columns, partitions=parts)
    assert lake.rows() == [{"id": 0, "tags2": "z", "day": None}, *rows[1:]]


def test_an_empty_load_is_a_table_with_columns_and_a_state(lake: Lake) -> None:
    assert lake.load(Write.REPLACE, [], state={"cursor": None}).total == 0
    assert lake.rows() == []
    assert lake.state() == {"cursor": None}
    lake.load(Write.APPEND, [], state={"cursor": 1})
    assert lake.state() == {"cursor": 1}


def test_what_fails_at_the_source_keeps_its_own_words(lake: Lake) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist(crew(1), schema=arrow_schema(PLAIN))
        raise EngineError("the server hung up", origin=Origin.SOURCE)

    with lake.destination.open() as session:
        writer = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        with pytest.raises(EngineError, match="the server hung up"):
            writer.write(pa.RecordBatchReader.from_batches(arrow_schema(PLAIN), broken()), Chunk("a"))
        writer.abort()
        assert session.columns(TABLE) is None
