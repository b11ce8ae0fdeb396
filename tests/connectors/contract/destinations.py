"""What each destination needs to be put to the contract: a place of its own for each test."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.connectors.contract.servers import Servers, fresh
from tests.connectors.contract.sources import PLANTED, ElsewhereCase, closed
from tests.connectors.lakes import Lake
from tests.support.azure import ACCOUNT, KEY
from tests.support.stacks import free_port
from webapp.engine.connectors.base import Target

#: MySQL takes no emoji in a name.
TABLE = Target("mission", 'crew "é"')


@dataclass(frozen=True)
class DestinationCase:
    """A destination; `place` is its configuration in a data folder, `spoil` makes its check fail."""

    connector: str
    label: str
    place: Callable[[Path, Servers], dict[str, Any]]
    spoil: Callable[[dict[str, Any]], dict[str, Any]]
    remote: bool = False
    refused: frozenset[str] = field(default_factory=frozenset)  # types that it cannot hold

    def __str__(self) -> str:
        return self.label

    def made(self, root: Path, servers: Servers) -> Lake:
        """The destination in an instance below `root`."""
        lake = Lake(root, self.connector, {}, table=TABLE)
        lake.config = self.place(lake.context.data_root, servers)
        return lake


def in_duckdb(data: Path, servers: Servers) -> dict[str, Any]:
    return {"path": "lake.duckdb"}


def in_folder(data: Path, servers: Servers) -> dict[str, Any]:
    return {"type": "PARQUET", "writer": {"local_path": "lake"}}


def s3_keys(servers: Servers, kind: str) -> dict[str, str]:
    server = servers.s3
    return {f"{kind}_access_key": server.access_key_id, f"{kind}_secret_key": server.secret_access_key,
            f"{kind}_region": "us-east-1"}  # fmt: skip


def in_bucket(data: Path, servers: Servers) -> dict[str, Any]:
    place = {"s3_bucket": "lake", "s3_path": fresh("out"), "s3_endpoint": servers.s3.url}
    return {"type": "PARQUET", "writer": place | s3_keys(servers, "s3")}


def in_google(data: Path, servers: Servers) -> dict[str, Any]:
    place = {"gcs_bucket": "lake", "gcs_path": fresh("out"), "gcs_endpoint": servers.gcs.url}
    return {"type": "PARQUET", "writer": place}


def in_azure(data: Path, servers: Servers) -> dict[str, Any]:
    place = {"azure_container": "lake", "azure_path": fresh("out"), "azure_endpoint": servers.azure.url}
    return {"type": "PARQUET", "writer": place | {"azure_account_name": ACCOUNT, "azure_account_key": KEY}}


def in_delta(data: Path, servers: Servers) -> dict[str, Any]:
    return {"type": "DELTA", "writer": {"local_path": "lake"}}


def in_delta_bucket(data: Path, servers: Servers) -> dict[str, Any]:
    return {**in_bucket(data, servers), "type": "DELTA"}


def in_iceberg(data: Path, servers: Servers) -> dict[str, Any]:
    place = {"catalog_type": "jdbc", "jdbc_url": "jdbc:sqlite:catalog.db", "iceberg_s3_path": "ice"}
    return {"type": "ICEBERG", "writer": place}


def in_iceberg_bucket(data: Path, servers: Servers) -> dict[str, Any]:
    place = {"catalog_type": "jdbc", "jdbc_username": "postgres", "catalog_name": fresh("c")}
    place |= {"jdbc_url": f"jdbc:postgresql://127.0.0.1:{servers.postgres.port}/postgres"}
    place |= {"iceberg_s3_path": f"s3://lake/{fresh('ice')}", "s3_endpoint": servers.s3.url}
    return {"type": "ICEBERG", "writer": place | s3_keys(servers, "aws")}


def in_mysql(data: Path, servers: Servers) -> dict[str, Any]:
    with closing(servers.maria.connect()) as connection, connection.cursor() as cursor:
        for name in ("mission", "mission2", "_hohmann", "_hohmann_parachute"):
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
    return {"host": "127.0.0.1", "port": servers.maria.port, "username": "root", "password": "", "database": "mission"}


def in_postgres(data: Path, servers: Servers) -> dict[str, Any]:
    servers.postgres.run("DROP SCHEMA IF EXISTS mission, mission2, _hohmann, _hohmann_parachute CASCADE")
    return servers.postgres.config()


def in_clickhouse(data: Path, servers: Servers) -> dict[str, Any]:
    for name in ("mission", "mission2", "_hohmann"):
        servers.clickhouse.ask(f"DROP DATABASE IF EXISTS {name}")
    return {**servers.clickhouse.config(), "database": "mission"}


def inside(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Change the writer's fields."""
    return lambda config: {**config, "writer": {**config["writer"], **changes}}


def beside(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Change the fields themselves."""
    return lambda config: {**config, **changes}


OUTSIDE = "/proc/nowhere"

DESTINATIONS = [
    DestinationCase("duckdb", "duckdb", in_duckdb, beside(path=f"{OUTSIDE}/lake.duckdb")),
    DestinationCase("s3", "parquet", in_folder, inside(local_path=OUTSIDE)),
    DestinationCase("s3", "parquet in a bucket", in_bucket, inside(s3_secret_key=PLANTED), remote=True),
    DestinationCase("s3", "parquet in Google's cloud", in_google,
                    inside(gcs_bucket="nowhere", gcs_access_token=PLANTED), remote=True),
    DestinationCase("s3", "parquet in Azure", in_azure,
                    inside(azure_account_key=b64encode(PLANTED.encode()).decode()), remote=True),
    DestinationCase("delta", "delta", in_delta, inside(local_path=OUTSIDE)),
    DestinationCase("delta", "delta in a bucket", in_delta_bucket, inside(s3_secret_key=PLANTED), remote=True),
    DestinationCase("iceberg", "iceberg", in_iceberg, inside(iceberg_s3_path=OUTSIDE)),
    DestinationCase("iceberg", "iceberg in a bucket", in_iceberg_bucket,
                    inside(jdbc_url=f"jdbc:postgresql://127.0.0.1:{free_port()}/x", jdbc_password=PLANTED),
                    remote=True),
    DestinationCase("mysql", "mysql", in_mysql, beside(port=free_port(), password=PLANTED), remote=True),
    DestinationCase("clickhouse", "clickhouse", in_clickhouse, beside(port=free_port(), password=PLANTED), remote=True),
    DestinationCase("postgres", "postgres", in_postgres, beside(port=free_port(), password=PLANTED), remote=True),
]  # fmt: skip

ELSEWHERE_DESTINATIONS = [
    ElsewhereCase("snowflake", {"account": "org-acc", "host": "127.0.0.1", "database": "shop", "username": "ann",
                                **closed()}),
]  # fmt: skip


def by_connector() -> Mapping[str, DestinationCase]:
    """One case for each destination: the first."""
    return {case.connector: case for case in reversed(DESTINATIONS)}
