"""Files in Azure and in Google Cloud Storage, against stand-ins that speak their protocols."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.connectors.reading import context_in, failed, rows_of, stream_of, whole
from tests.support.azure import ACCOUNT, KEY, AzureServer, azure_server, sas
from tests.support.gcs import GcsServer, gcs_server
from tests.support.stacks import free_port
from webapp.engine.connectors.files.source import FilesSource
from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.errors import EngineError, Kind

Server = AzureServer | GcsServer
ROWS = 70_000


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureServer]:
    with azure_server() as server:
        yield server


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="module", params=["azure", "gcs"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose container `lake` holds files of three formats."""
    parquet = tmp_path_factory.mktemp("cloud") / "n.parquet"
    duckdb.sql(f"SELECT range AS n, 'é😀' || range AS t FROM range({ROWS})").write_parquet(str(parquet))
    held = {
        "in/orders/2024.csv": "id,note\n1,é\n".encode(),
        "in/orders/2025.csv": b'id,note\n2,"two\nlines"\n',
        "in/people.jsonl": b'{"name": "Ada"}\n{"name": "Grace"}\n',
        "big/n.parquet": parquet.read_bytes(),
        "in/readme.md": b"not data",
    }
    server: Server = request.getfixturevalue(request.param)
    system = server.system()
    system.create_dir("lake")
    for path, body in held.items():
        with system.open_output_stream(f"lake/{path}") as out:
            out.write(body)
    return server


def files(folder: Path, server: Server, *, allow_private: bool = True, **config: Any) -> FilesSource:
    keys = {"storage": "gcs"}
    if isinstance(server, AzureServer):
        keys = {"storage": "azure", "account_name": ACCOUNT, "account_key": KEY}
    given = {"bucket": "lake", "endpoint": server.url, **keys, **config}
    return FilesSource(FilesSourceSpec(**given), context_in(folder, allow_private_addresses=allow_private))


def test_a_check_goes_step_by_step_to_a_row(tmp_path: Path, cloud: Server) -> None:
    assert [(step.name, step.ok) for step in files(tmp_path, cloud, path="in").check()] == [
        ("resolve", True), ("log in", True), ("rights", True), ("read one row", True)]  # fmt: skip


def test_csv_files_and_json_lines_are_found_and_read(tmp_path: Path, cloud: Server) -> None:
    source = files(tmp_path, cloud, path="in")
    assert sorted(stream.name for stream in source.discover()) == ["orders", "people"]
    orders = rows_of(source, whole(stream_of(source, "orders"), "id", "note"))
    assert orders == [{"id": 1, "note": "é"}, {"id": 2, "note": "two\nlines"}]
    assert rows_of(source, whole(stream_of(source, "people"), "name")) == [{"name": "Ada"}, {"name": "Grace"}]


def test_a_parquet_file_is_read_whole(tmp_path: Path, cloud: Server) -> None:
    source = files(tmp_path, cloud, path="big/*.parquet")
    rows = rows_of(source, whole(stream_of(source, "n"), "n", "t"))
    assert (len(rows), sum(row["n"] for row in rows)) == (ROWS, sum(range(ROWS)))
    assert rows[7] == {"n": 7, "t": "é😀7"}


def test_files_that_are_older_than_the_state_are_not_read(tmp_path: Path, cloud: Server) -> None:
    source = files(tmp_path, cloud, path="in/*.jsonl")
    stream = stream_of(source, "people")
    with source.open(parallel=1) as session:
        high = session.high_water(whole(stream, cursor="_last_modified_time"))
    seen = whole(stream, cursor="_last_modified_time", since=high, until=high)
    assert len(rows_of(source, seen)) == 2
    later = whole(stream, cursor="_last_modified_time", since="2099-01-01T00:00:00+00:00")
    assert rows_of(source, later) == []


def test_what_is_not_there_is_named(tmp_path: Path, cloud: Server) -> None:
    absent = failed(list(files(tmp_path, cloud, path="in", bucket="nowhere").check()))
    assert "nowhere" in absent.message
    nothing = failed(list(files(tmp_path, cloud, path="in/*.avro").check()))
    assert (nothing.name, "no file matches 'in/*.avro'" in nothing.message) == ("rights", True)


def test_a_server_that_is_not_there_is_named_and_may_come_back(tmp_path: Path, cloud: Server) -> None:
    with pytest.raises(EngineError, match="cannot be reached") as gone:
        list(files(tmp_path, cloud, path="in", endpoint=f"http://127.0.0.1:{free_port()}").discover())
    assert gone.value.kind is Kind.TRANSIENT


def test_private_addresses_are_refused_unless_the_instance_allows_them(tmp_path: Path, cloud: Server) -> None:
    step = failed(list(files(tmp_path, cloud, path="in", allow_private=False).check()))
    assert (step.name, "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in step.fix) == ("resolve", True)


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
def test_a_sas_token_of_azure_is_enough(tmp_path: Path, cloud: Server) -> None:
    source = files(tmp_path, cloud, path="in", account_key=None, sas_token=sas("rl"))
    assert sorted(stream.name for stream in source.discover()) == ["orders", "people"]


def test_azure_refuses_a_wrong_key_and_the_key_is_not_repeated(tmp_path: Path, azure: AzureServer) -> None:
    wrong = base64.b64encode(b"planted-secret" * 3).decode()
    step = failed(list(files(tmp_path, azure, path="in", account_key=wrong).check()))
    assert (step.name, "refuses the keys" in step.message) == ("log in", True)
    assert wrong not in step.message + step.fix
