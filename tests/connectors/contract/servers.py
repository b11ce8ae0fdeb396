"""The servers that the contract's connectors speak with: each is started when a case first asks for it."""

import uuid
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from tests.engine.api_server import Answerer, ApiServer, api_server
from tests.support.azure import AzureServer, azure_server
from tests.support.clickhouse import ClickHouseServer, clickhouse_server
from tests.support.gcs import GcsServer, gcs_server
from tests.support.mariadb import MariaServer, start_or_skip
from tests.support.postgres import TcpPostgres
from tests.support.s3 import S3Server, s3_server
from tests.support.sftp import SftpServer, sftp_server


class Servers:
    """Real servers on loopback, all ended by `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()

    def close(self) -> None:
        """End those that were started."""
        self._open.close()

    @cached_property
    def postgres(self) -> TcpPostgres:
        """A PostgreSQL."""
        server = TcpPostgres()
        self._open.callback(server.remove)
        return server

    @cached_property
    def maria(self) -> MariaServer:
        """A MariaDB."""
        server = start_or_skip()
        self._open.callback(server.stop)
        return server

    @cached_property
    def clickhouse(self) -> ClickHouseServer:
        """A ClickHouse."""
        return self._open.enter_context(clickhouse_server())

    @cached_property
    def s3(self) -> S3Server:
        """An S3 server with the bucket `lake`."""
        server = self._open.enter_context(s3_server())
        server.client().create_bucket(Bucket="lake")
        return server

    @cached_property
    def azure(self) -> AzureServer:
        """An Azure with the container `lake`."""
        server = self._open.enter_context(azure_server())
        server.system().create_dir("lake")
        return server

    @cached_property
    def gcs(self) -> GcsServer:
        """A Google Cloud Storage with the bucket `lake`."""
        return self._open.enter_context(gcs_server())

    @cached_property
    def sftp(self) -> SftpServer:
        """An SFTP server over `sftp_folder`."""
        return self._open.enter_context(sftp_server(self.sftp_folder))

    @cached_property
    def sftp_folder(self) -> Path:
        """What the SFTP server serves."""
        folder = self.folder / "sftp"
        folder.mkdir()
        return folder

    def api(self, answer: Answerer) -> ApiServer:
        """A web server whose answers are this function's."""
        return self._open.enter_context(api_server(answer))


def fresh(prefix: str) -> str:
    """A name that nothing has yet."""
    return f"{prefix}_{uuid.uuid4().hex[:10]}"
