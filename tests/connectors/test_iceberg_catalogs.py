"""Iceberg catalogs behind a network: REST (a server of these tests) and AWS Glue (moto): journeys and refusals."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connectors.lakes import Lake, aws_fields, crew
from tests.support import iceberg_rest
from tests.support.iceberg_rest import RestServer, rest_catalog
from tests.support.s3 import S3Server, s3_server
from webapp.engine.connectors.base import Column, Load, Partition, Target, Write, first_failure
from webapp.engine.connectors.iceberg import catalogs
from webapp.engine.errors import EngineError, Kind

WIDE = (Column("id", "BIGINT"), Column("name", "VARCHAR"), Column("extra", "DOUBLE"))


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with s3_server() as server:
        server.client().create_bucket(Bucket="lake")
        yield server


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[RestServer]:
    with rest_catalog(tmp_path, warehouse=f"file://{tmp_path}/data/house") as server:
        yield server


def on_rest(root: Path, rest: RestServer, **changes: str) -> Lake:
    writer = {"catalog_type": "rest", "rest_catalog_url": rest.url, "token": iceberg_rest.TOKEN}
    return Lake(root, "iceberg", writer | changes)


def on_glue(root: Path, store: S3Server, **changes: str) -> Lake:
    place = {"glue_endpoint": store.url, "iceberg_s3_path": f"s3://lake/{uuid.uuid4().hex}"}
    database = Target(f"mission_{uuid.uuid4().hex[:8]}", "crew")
    return Lake(root, "iceberg", {"catalog_type": "glue", **place, **aws_fields(store), **changes}, table=database)


@pytest.fixture(params=["rest", "glue"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "rest":
        return on_rest(tmp_path, request.getfixturevalue("rest"))
    return on_glue(tmp_path, request.getfixturevalue("store"))


def test_a_journey_from_the_check_to_the_parachute(lake: Lake) -> None:
    assert first_failure(lake.destination.check()) is None
    assert (
        lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2}, partitions=(Partition("id", "bucket", 2),)).total == 2
    )
    assert lake.load(Write.APPEND, crew(3), state={"cursor": 3}).total == 3
    row = {"id": 3, "name": "new", "extra": 0.5}
    landed = lake.load(Write.UPSERT, [row], columns=WIDE, state={"cursor": 4})
    assert (landed.found, landed.total, lake.state()) == (1, 3, {"cursor": 4})
    assert lake.rows()[2] == row
    with lake.destination.open() as session:
        assert session.restore(lake.table, landed.generation, {"cursor": 3}).total == 3
        assert session.state(lake.table) == {"cursor": 3}
    assert lake.names() == {1: "a1", 2: "a2", 3: "a3"}
    assert lake.load(Write.REPLACE, crew(7), keep_days=0).total == 1
    assert lake.names() == {7: "a7"}


def test_a_load_that_is_given_up_leaves_no_table_in_the_catalog(lake: Lake) -> None:
    with lake.destination.open() as session:
        session.begin(Load(lake.table, Write.REPLACE, WIDE)).abort()
        assert session.columns(lake.table) is None


def test_a_rest_catalog_is_logged_in_to_by_client_credentials(tmp_path: Path, rest: RestServer) -> None:
    lake = on_rest(tmp_path, rest, token="", credential=iceberg_rest.CREDENTIAL)
    assert first_failure(lake.destination.check()) is None
    assert lake.load(Write.REPLACE, crew(1)).total == 1


@pytest.mark.parametrize("wrong", [{"token": "hidden-word"}, {"token": "", "credential": "me:hidden-word"}])
def test_a_rest_catalog_that_refuses_the_login_is_told_apart(
    tmp_path: Path, rest: RestServer, wrong: dict[str, str]
) -> None:
    lake = on_rest(tmp_path, rest, **wrong)
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert (failed.name, "refuses the log-in" in failed.message) == ("log in", True), failed
    assert "hidden-word" not in failed.message


def test_glue_that_refuses_the_keys_is_told_apart(tmp_path: Path, store: S3Server) -> None:
    failed = first_failure(on_glue(tmp_path, store, aws_secret_key="hidden-word").destination.check())
    assert failed is not None and failed.name == "log in" and "hidden-word" not in failed.message
    assert "refuses" in failed.message, failed


def test_two_loads_at_once_into_one_table_never_lose_rows(tmp_path: Path, rest: RestServer) -> None:
    lake = on_rest(tmp_path, rest)
    lake.load(Write.REPLACE, crew(1))
    with lake.destination.open() as session:
        late = session.begin(Load(lake.table, Write.REPLACE, (Column("id", "BIGINT"), Column("name", "VARCHAR"))))
        lake.load(Write.APPEND, crew(2))
        with pytest.raises(EngineError, match="meanwhile") as raised:
            late.commit({})
        late.abort()
    assert raised.value.kind is Kind.TRANSIENT
    assert lake.names() == {1: "a1", 2: "a2"}


@pytest.mark.parametrize(("kind", "library"), [("glue", "boto3"), ("hive", "thrift")])
def test_a_missing_library_says_what_to_install(
    tmp_path: Path, kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "find_spec", lambda name: None)
    config = {"catalog_type": kind, "hive_uri": "thrift://127.0.0.1:1", "iceberg_s3_path": "ice"}
    failed = first_failure(Lake(tmp_path, "iceberg", config).destination.check())
    assert failed is not None and f"pip install {library}" in failed.fix
