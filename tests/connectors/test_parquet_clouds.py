"""Parquet files to Google Cloud Storage and Azure, against stand-ins that speak their protocols."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs
from pydantic import ValidationError

from tests.connectors.lakes import TABLE, Lake, crew
from tests.engine.api_server import Reply, api_server
from tests.support.azure import ACCOUNT, KEY, AzureServer, azure_server, sas
from tests.support.gcs import GcsServer, gcs_server
from tests.support.stacks import free_port
from webapp.engine.connectors.base import CheckStep, Write, first_failure
from webapp.engine.connectors.delta.spec import DeltaSpec
from webapp.engine.connectors.parquet.faults import fault
from webapp.engine.connectors.parquet.spec import ParquetSpec
from webapp.engine.connectors.registry import destination_class
from webapp.engine.errors import EngineError, Kind

Server = AzureServer | GcsServer
AZURE = {"azure_container": "lake", "azure_account_name": ACCOUNT, "azure_account_key": KEY}


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureServer]:
    with azure_server() as server:
        server.system().create_dir("lake")
        yield server


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with gcs_server() as server:
        yield server


@pytest.fixture(params=["azure", "gcs"])
def cloud(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def lake_in(folder: Path, server: Server, **changes: Any) -> Lake:
    """A prefix of its own in the server's `lake`."""
    own = {"azure_endpoint": server.url, "azure_path": folder.name, **AZURE}
    if isinstance(server, GcsServer):
        own = {"gcs_endpoint": server.url, "gcs_path": folder.name, "gcs_bucket": "lake"}
    return Lake(folder, "s3", {"type": "PARQUET", "writer": own | changes})


def elsewhere(server: Server, name: str) -> dict[str, str]:
    return {"gcs_bucket" if isinstance(server, GcsServer) else "azure_container": name}


def failure(lake: Lake) -> CheckStep:
    failed = first_failure(lake.destination.check())
    assert failed is not None
    return failed


def names_in(server: Server, folder: Path) -> list[str]:
    found = server.system().get_file_info(fs.FileSelector(f"lake/{folder.name}", recursive=True))
    return [info.path for info in found if info.type == fs.FileType.File]


def test_the_parachute_loses_what_is_older_than_its_days_and_no_pattern_finds_it(tmp_path: Path, cloud: Server) -> None:
    lake = lake_in(tmp_path, cloud)
    for number in (1, 2):
        lake.load(Write.REPLACE, crew(number))
    assert len([name for name in names_in(cloud, tmp_path) if name.endswith(".parquet")]) == 1
    assert [name for name in names_in(cloud, tmp_path) if ".hohmann/parachute" in name]
    lake.load(Write.REPLACE, crew(3), keep_days=0)
    with lake.destination.open() as session:
        assert session.generations(TABLE) == []
    assert not [name for name in names_in(cloud, tmp_path) if ".hohmann/parachute" in name]


def test_a_bucket_that_is_not_there_is_named_by_the_check_and_by_the_load(tmp_path: Path, cloud: Server) -> None:
    lake = lake_in(tmp_path, cloud, **elsewhere(cloud, "nowhere"))
    failed = failure(lake)
    assert (failed.name, "nowhere: the bucket does not exist" in failed.message) == ("log in", True)
    with pytest.raises(EngineError, match="the bucket does not exist") as refused:
        lake.load(Write.REPLACE, crew(1))
    assert refused.value.kind is Kind.CONFIGURATION


def test_a_server_that_is_not_there_may_come_back(tmp_path: Path, cloud: Server) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    lake = lake_in(tmp_path, cloud, gcs_endpoint=gone, azure_endpoint=gone)
    with pytest.raises(EngineError, match="does not answer") as refused:
        lake.load(Write.REPLACE, crew(1))
    assert refused.value.kind is Kind.TRANSIENT


@pytest.mark.parametrize("key", [base64.b64encode(b"planted-secret" * 3).decode(), "not a key!"])
def test_azure_refuses_a_wrong_key_which_is_not_repeated(tmp_path: Path, azure: AzureServer, key: str) -> None:
    failed = failure(lake_in(tmp_path, azure, azure_account_key=key))
    assert (failed.name, "refuses the keys" in failed.message) == ("log in", True)
    assert key not in failed.message + failed.fix


def test_google_is_sent_the_token_and_may_refuse_it(tmp_path: Path) -> None:
    with api_server(lambda _: Reply({"error": {"code": 401, "message": "Invalid Credentials"}}, status=401)) as server:
        lake = lake_in(tmp_path, GcsServer(server.url.removeprefix("http://")), gcs_access_token="planted-token")
        failed = failure(lake)
    assert {asked.headers.get("Authorization", asked.headers.get("authorization")) for asked in server.asked} == {
        "Bearer planted-token"}  # fmt: skip
    assert (failed.name, "refuses the keys" in failed.message) == ("log in", True), failed
    assert "planted-token" not in failed.message + failed.fix


def test_a_sas_token_of_azure_is_enough_for_a_load_and_its_parachute(tmp_path: Path, azure: AzureServer) -> None:
    lake = lake_in(tmp_path, azure, azure_account_key="", azure_sas_token=sas("rwdlac"))
    lake.load(Write.REPLACE, crew(1))
    landed = lake.load(Write.REPLACE, crew(2))
    with lake.destination.open() as session:
        session.restore(TABLE, landed.generation, None)
    assert lake.names() == {1: "a1"}


def test_a_sas_token_that_may_not_write_is_denied_and_not_repeated(tmp_path: Path, azure: AzureServer) -> None:
    token = sas("rl")
    failed = failure(lake_in(tmp_path, azure, azure_account_key="", azure_sas_token=token))
    assert (failed.name, "denies access" in failed.message) == ("write", True), failed
    assert token.rpartition("sig=")[2] not in failed.message


def test_what_stands_behind_an_address_is_not_repeated() -> None:
    told = fault(OSError("Failed for 'https://a.blob.core.windows.net/lake?sv=1&sig=planted': 500"), "the bucket lake")
    assert told.message == "the bucket lake: Failed for 'https://a.blob.core.windows.net/lake': 500"


@pytest.mark.parametrize(
    ("writer", "words"),
    [
        ({"azure_container": "lake", "azure_account_key": KEY}, "azure_account_name"),
        ({"azure_container": "lake", "azure_account_name": "acc"}, "azure_account_key or azure_sas_token"),
        ({**AZURE, "azure_sas_token": "sv=1"}, "give one of them"),
        ({**AZURE, "azure_account_name": "evil.example/"}, "azure_account_name"),
        ({**AZURE, "gcs_bucket": "lake"}, "gcs_bucket and azure_container: name one"),
        ({"bucketName": "lake", "serviceAccountKey": "{}"}, "serviceAccountKey: not taken here"),
        ({}, "azure_container"),
    ],
)
def test_a_place_that_is_not_told_clearly_is_refused_by_its_field(writer: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ParquetSpec.model_validate({"type": "PARQUET", "writer": writer})


def test_contract_003s_names_mean_the_same() -> None:
    assert destination_class("azure_blob") is destination_class("GCS") is destination_class("s3")
    theirs = ParquetSpec.model_validate({"accountName": ACCOUNT, "accountKey": KEY, "containerName": "lake"})
    assert theirs == ParquetSpec.model_validate(AZURE)
    assert ParquetSpec.model_validate({"bucketName": "lake"}).writer.gcs_bucket == "lake"


def test_another_account_or_bucket_is_another_place_for_stored_secrets() -> None:
    places = [AZURE, {**AZURE, "azure_account_name": "other"}, {**AZURE, "azure_endpoint": "https://example.org"},
              {"gcs_bucket": "lake"}, {"s3_bucket": "lake"}, {"local_path": "lake"}]  # fmt: skip
    assert len({ParquetSpec.model_validate(place).endpoint() for place in places}) == len(places)


def test_delta_tables_do_not_go_to_clouds_that_they_cannot_reach() -> None:
    with pytest.raises(ValidationError, match="name a bucket"):
        DeltaSpec.model_validate({"type": "DELTA", "writer": AZURE})
