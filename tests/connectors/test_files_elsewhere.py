"""Files in an S3 bucket, on an SFTP server and behind web addresses: real servers, and what goes wrong with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.connectors.reading import context_in, failed, rows_of, stream_of, whole
from tests.engine.api_server import Asked, Reply, api_server
from tests.support.s3 import S3Server, s3_server
from tests.support.sftp import PASSWORD, SftpServer, sftp_server
from tests.support.stacks import free_port
from webapp.engine.connectors.files.source import FilesSource
from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.errors import EngineError, Kind


def files(folder: Path, allow_private: bool = True, **config: Any) -> FilesSource:
    return FilesSource(FilesSourceSpec(**config), context_in(folder, allow_private_addresses=allow_private))


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        client = server.client()
        client.create_bucket(Bucket="lake")
        client.put_object(Bucket="lake", Key="in/2024/a.csv", Body=b"id,t\n1,x\n")
        client.put_object(Bucket="lake", Key="in/2025/b.csv", Body=b"id,t\n2,y\n")
        client.put_object(Bucket="lake", Key="in/readme.md", Body=b"not data")
        yield server


def in_s3(folder: Path, server: S3Server, **config: Any) -> FilesSource:
    keys = {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key}
    return files(folder, **{"storage": "s3", "bucket": "lake", "endpoint": server.url, **keys, **config})


def test_files_of_a_bucket_are_read(tmp_path: Path, s3: S3Server) -> None:
    source = in_s3(tmp_path, s3, streams=[{"name": "in", "path": "in/**/*.csv"}])
    assert [(step.name, step.ok) for step in source.check()] == [
        ("resolve", True), ("log in", True), ("rights", True), ("read one row", True)]  # fmt: skip
    assert rows_of(source, whole(stream_of(source, "in"), "id", "t")) == [{"id": 1, "t": "x"}, {"id": 2, "t": "y"}]


def test_a_folder_of_a_bucket_gives_a_stream_for_each_folder_in_it(tmp_path: Path, s3: S3Server) -> None:
    assert [stream.name for stream in in_s3(tmp_path, s3, path="in").discover()] == ["2024", "2025"]
    assert [stream.name for stream in in_s3(tmp_path, s3, path="s3://lake/in/2024/*.csv").discover()] == ["a"]


def test_a_parquet_file_of_a_bucket_is_read(tmp_path: Path, s3: S3Server) -> None:
    duckdb.sql("SELECT range AS n FROM range(100000)").write_parquet(str(tmp_path / "n.parquet"))
    s3.client().put_object(Bucket="lake", Key="n.parquet", Body=(tmp_path / "n.parquet").read_bytes())
    source = in_s3(tmp_path, s3, path="n.parquet")
    assert sum(row["n"] for row in rows_of(source, whole(stream_of(source, "n"), "n"))) == sum(range(100_000))


def test_wrong_keys_are_told_apart_from_a_missing_bucket(tmp_path: Path, s3: S3Server) -> None:
    wrong = failed(list(in_s3(tmp_path, s3, path="in", secret_access_key="not the right one").check()))
    assert (wrong.name, "refuses the keys" in wrong.message) == ("log in", True)
    assert "not the right one" not in wrong.message + wrong.fix
    absent = failed(list(in_s3(tmp_path, s3, path="in", bucket="nowhere").check()))
    assert "no file matches 'nowhere'" in absent.message
    nothing = failed(list(in_s3(tmp_path, s3, path="in/*.parquet").check()))
    assert (nothing.name, "no file matches 'in/*.parquet'" in nothing.message) == ("rights", True)


def test_a_server_that_is_not_there_is_named_and_may_come_back(tmp_path: Path, s3: S3Server) -> None:
    step = failed(list(in_s3(tmp_path, s3, path="in", endpoint=f"http://127.0.0.1:{free_port()}").check()))
    assert (step.name, "cannot be reached" in step.message) == ("log in", True)
    with pytest.raises(EngineError) as gone:
        list(in_s3(tmp_path, s3, path="in", endpoint=f"http://127.0.0.1:{free_port()}").discover())
    assert gone.value.kind is Kind.TRANSIENT


def test_private_addresses_are_refused_unless_the_instance_allows_them(tmp_path: Path, s3: S3Server) -> None:
    config = {"storage": "s3", "bucket": "lake", "endpoint": s3.url, "path": "in"}
    with pytest.raises(EngineError, match="loopback or private address"):
        list(files(tmp_path, allow_private=False, **config).discover())
    assert failed(list(files(tmp_path, allow_private=False, **config).check())).name == "resolve"


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpServer]:
    folder = tmp_path / "remote" / "out"
    (folder / "people").mkdir(parents=True)
    (folder / "orders.csv").write_text("id\n1\n2\n")
    (folder / "people" / "a.json").write_text('[{"name": "Ada"}]')
    with sftp_server(tmp_path / "remote") as server:
        yield server


def by_sftp(folder: Path, server: SftpServer, **config: Any) -> FilesSource:
    return files(folder, **{"storage": "sftp", "host": "127.0.0.1", "port": server.port, "username": "ada",
                            "password": PASSWORD, "path": "/out", **config})  # fmt: skip


def test_files_of_an_sftp_server_are_read(tmp_path: Path, sftp: SftpServer) -> None:
    source = by_sftp(tmp_path, sftp, host_key_fingerprint=sftp.fingerprint)
    assert all(step.ok for step in source.check())
    assert [stream.name for stream in source.discover()] == ["orders", "people"]
    assert rows_of(source, whole(stream_of(source, "orders"), "id")) == [{"id": 1}, {"id": 2}]
    assert rows_of(source, whole(stream_of(source, "people"), "name")) == [{"name": "Ada"}]


def test_a_private_key_opens_the_sftp_server(tmp_path: Path, sftp: SftpServer) -> None:
    source = by_sftp(tmp_path, sftp, password=None, private_key=sftp.private_key, path="/out/*.csv")
    assert [stream.name for stream in source.discover()] == ["orders"]


def test_an_sftp_server_with_another_host_key_is_refused_before_the_password(tmp_path: Path, sftp: SftpServer) -> None:
    step = failed(list(by_sftp(tmp_path, sftp, host_key_fingerprint="SHA256:abc").check()))
    assert (step.name, sftp.fingerprint in step.message) == ("log in", True)


def test_what_is_wrong_with_an_sftp_server_is_said(tmp_path: Path, sftp: SftpServer) -> None:
    wrong = failed(list(by_sftp(tmp_path, sftp, password="wrong one").check()))
    assert (wrong.name, "refuses the log-in of ada" in wrong.message) == ("log in", True)
    closed = failed(list(by_sftp(tmp_path, sftp, port=free_port()).check()))
    assert (closed.name, "cannot be reached" in closed.message) == ("connect", True)
    absent = failed(list(by_sftp(tmp_path, sftp, path="/nowhere").check()))
    assert (absent.name, "/nowhere" in absent.message) == ("rights", True)


def test_a_web_address_is_read_with_its_token(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.headers.get("Authorization") != "Bearer open sesame":
            return Reply({"error": "no"}, 401)
        return Reply(b"id\n1\n", headers={"Content-Type": "text/csv"})

    with api_server(answer) as server:
        config = {"storage": "http", "path": f"{server.url}/files/orders.csv?key=1"}
        source = files(tmp_path, **config, bearer_token="open sesame")
        assert all(step.ok for step in source.check())
        assert rows_of(source, whole(stream_of(source, "orders"), "id")) == [{"id": 1}]
        refused = failed(list(files(tmp_path, **config).check()))
        assert (refused.name, "answered 401" in refused.message) == ("read one row", True)


def test_a_web_address_that_redirects_to_another_host_loses_the_token(tmp_path: Path) -> None:
    with (
        api_server(lambda asked: Reply(b"id\n1\n")) as other,
        api_server(lambda asked: Reply(status=302, headers={"Location": f"{other.url}/x.csv"})) as first,
    ):
        source = files(tmp_path, storage="http", path=f"{first.url}/x.csv", bearer_token="open sesame")
        assert rows_of(source, whole(stream_of(source, "x"), "id")) == [{"id": 1}]
        assert all("Authorization" not in asked.headers for asked in other.asked)
