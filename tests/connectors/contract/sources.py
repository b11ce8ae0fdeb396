"""What each source needs to be put to the contract: the same six ships laid down in it, and a way to spoil it."""

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa

from tests.connectors.contract.servers import Servers, fresh
from tests.connectors.test_files import write_sheet
from tests.engine.api_server import Asked, Reply
from tests.support.sftp import PASSWORD
from tests.support.stacks import free_port

SHIPS: list[dict[str, Any]] = [
    {"id": 1, "name": "plain", "mass": 1.5, "built": datetime(2024, 1, 1, 10)},
    {"id": 2, "name": "émoji 🚀", "mass": -2.25, "built": datetime(2024, 1, 2, 10)},
    {"id": 3, "name": "quo\"ted, and; 'more", "mass": None, "built": datetime(2024, 1, 3, 10)},
    {"id": 4, "name": "two\nlines", "mass": 0.0, "built": datetime(2024, 1, 4, 10)},
    {"id": 5, "name": None, "mass": 1e300, "built": datetime(2024, 1, 4, 10)},
    {"id": 6, "name": "x' OR 1=1 --", "mass": 7.0, "built": datetime(2024, 1, 6, 10, 30, 15)},
]
NAMES = ("id", "name", "mass", "built")
MODIFIED = "_last_modified_time"
TYPES = {"id": "BIGINT", "name": "VARCHAR", "mass": "DOUBLE", "built": "TIMESTAMP"}
PLANTED = "planted-secret"
TABLE = "CREATE TABLE {} (id {} PRIMARY KEY, name {}, mass {}, built {})"


@dataclass
class Place:
    """Where a case lays its ships down: a data folder of its own, and the servers."""

    data: Path
    servers: Servers
    port: int | None = None  # of the server that the source speaks with


@dataclass(frozen=True)
class SourceCase:
    """A source with the ships in it. `types` are those that differ from `TYPES`; `spoil` makes its check fail."""

    connector: str
    label: str
    lay_down: Callable[[Place], dict[str, Any]]
    spoil: Mapping[str, Any]
    key: tuple[str, ...] = ("id",)
    cursor: str | None = "id"
    types: Mapping[str, str] = field(default_factory=dict)
    remote: bool = False

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class ElsewhereCase:
    """A connector whose system cannot run beside the tests: what it says of a closed port."""

    connector: str
    config: Mapping[str, Any]

    def __str__(self) -> str:
        return self.connector


# --- databases --------------------------------------------------------------------------------------------------------


def in_postgres(place: Place) -> dict[str, Any]:
    server = place.servers.postgres
    connection = server.connect()
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS ships")
        cursor.execute(TABLE.format("ships", "bigint", "text", "double precision", "timestamp"))
        cursor.executemany("INSERT INTO ships VALUES (%(id)s, %(name)s, %(mass)s, %(built)s)", SHIPS)
    place.port = server.port
    return server.config()


def in_mysql(place: Place) -> dict[str, Any]:
    server = place.servers.maria
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE DATABASE harbour CHARACTER SET utf8mb4")
        cursor.execute("USE harbour")
        cursor.execute(TABLE.format("ships", "BIGINT", "TEXT", "DOUBLE", "DATETIME(6)"))
        cursor.executemany("INSERT INTO ships VALUES (%(id)s, %(name)s, %(mass)s, %(built)s)", SHIPS)
    place.port = server.port
    return {"host": "127.0.0.1", "port": server.port, "username": "root", "password": "", "database": "harbour"}


def in_sqlite(place: Place) -> dict[str, Any]:
    with closing(sqlite3.connect(place.data / "a.db")) as connection, connection:
        connection.execute(TABLE.format("ships", "INTEGER", "TEXT", "REAL", "DATETIME"))
        rows = [{**ship, "built": str(ship["built"])} for ship in SHIPS]
        connection.executemany("INSERT INTO ships VALUES (:id, :name, :mass, :built)", rows)
    return {"path": "a.db"}


def in_duckdb(place: Place) -> dict[str, Any]:
    with duckdb.connect(str(place.data / "a.duckdb")) as connection:
        connection.execute(TABLE.format("ships", "BIGINT", "VARCHAR", "DOUBLE", "TIMESTAMP"))
        connection.executemany("INSERT INTO ships VALUES (?, ?, ?, ?)", [tuple(ship.values()) for ship in SHIPS])
    return {"path": "a.duckdb"}


def in_iceberg(place: Place) -> dict[str, Any]:
    # Loaded where it is used: the library is slow to come.
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("olake_iceberg", uri=f"sqlite:///{place.data}/lake.db", warehouse=f"file://{place.data}/ice")
    catalog.create_namespace("main")
    key = arrow(SHIPS).schema.set(0, pa.field("id", pa.int64(), nullable=False))
    table = catalog.create_table("main.ships", key)
    with table.update_schema() as update:
        update.set_identifier_fields("id")
    table.append(arrow(SHIPS[:4]).cast(key))
    table.append(arrow(SHIPS[4:]).cast(key))
    catalog.close()
    return {"catalog_type": "jdbc", "jdbc_url": "jdbc:sqlite:lake.db"}


# --- files ------------------------------------------------------------------------------------------------------------


def plain(ship: Mapping[str, Any]) -> dict[str, Any]:
    return {**ship, "built": ship["built"].isoformat()}


def arrow(ships: list[dict[str, Any]]) -> pa.Table:
    kinds = (pa.int64(), pa.string(), pa.float64(), pa.timestamp("us"))
    return pa.Table.from_pylist(ships, schema=pa.schema(list(zip(NAMES, kinds, strict=True))))


def write_csv(path: Path, ships: list[dict[str, Any]]) -> None:
    duckdb.from_arrow(arrow(ships)).write_csv(str(path))


def write_json(path: Path, ships: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps([plain(ship) for ship in ships]))


def write_lines(path: Path, ships: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(plain(ship))}\n" for ship in ships))


def write_parquet(path: Path, ships: list[dict[str, Any]]) -> None:
    duckdb.from_arrow(arrow(ships)).write_parquet(str(path))


def write_arrow(path: Path, ships: list[dict[str, Any]]) -> None:
    table = arrow(ships)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def write_avro(path: Path, ships: list[dict[str, Any]]) -> None:
    kinds: dict[str, Any] = {"id": "long", "name": ["null", "string"], "mass": ["null", "double"],
             "built": {"type": "long", "logicalType": "local-timestamp-micros"}}  # fmt: skip
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "ship", "fields": fields}, ships)


def write_excel(path: Path, ships: list[dict[str, Any]]) -> None:
    cells = [["" if value is None else value for value in plain(ship).values()] for ship in ships]
    write_sheet(path, [list(NAMES), *cells])


def in_files(write: Callable[[Path, list[dict[str, Any]]], None], ending: str) -> Callable[[Place], dict[str, Any]]:
    """Two files of one stream, the second with the last three ships and a later time."""

    def lay_down(place: Place) -> dict[str, Any]:
        (place.data / "ships").mkdir()
        for number, part in enumerate((SHIPS[:3], SHIPS[3:])):
            path = place.data / "ships" / f"{number}.{ending}"
            write(path, part)
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        return {"streams": [{"name": "ships", "path": f"ships/*.{ending}"}]}

    return lay_down


def in_bucket(place: Place) -> dict[str, Any]:
    server, prefix = place.servers.s3, fresh("in")
    write_csv(place.data / "ships.csv", SHIPS)
    server.client().put_object(Bucket="lake", Key=f"{prefix}/ships.csv", Body=(place.data / "ships.csv").read_bytes())
    keys = {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key}
    return {"storage": "s3", "bucket": "lake", "endpoint_url": server.url, "path": f"{prefix}/*.csv", **keys}


def on_sftp(place: Place) -> dict[str, Any]:
    server, folder = place.servers.sftp, place.servers.sftp_folder / fresh("in")
    folder.mkdir()
    write_csv(folder / "ships.csv", SHIPS)
    place.port = server.port
    known = {"host": "127.0.0.1", "port": server.port, "host_key_fingerprint": server.fingerprint}
    return {"storage": "sftp", "username": "ada", "password": PASSWORD, "path": f"/{folder.name}/*.csv", **known}


def behind_address(place: Place) -> dict[str, Any]:
    write_csv(place.data / "ships.csv", SHIPS)
    body = (place.data / "ships.csv").read_bytes()
    server = place.servers.api(lambda asked: Reply(body, headers={"Content-Type": "text/csv"}))
    place.port = server.port
    return {"storage": "http", "path": f"{server.url}/ships.csv"}


def in_api(place: Place) -> dict[str, Any]:
    def pages(asked: Asked) -> Reply:
        start = int(asked.params.get("offset", 0))
        return Reply([plain(ship) for ship in SHIPS[start : start + 4]])

    server = place.servers.api(pages)
    place.port = server.port
    stream = {"name": "ships", "path": "ships", "primary_key": ["id"], "cursor_field": "id"}
    return {"base_url": server.url, "streams": [stream], "pagination": {"type": "offset", "limit": 4}, "retries": 0}


def file_case(label: str, write: Callable[[Path, list[dict[str, Any]]], None], **types: str) -> SourceCase:
    """Files of one format on this machine."""
    spoil = {"streams": [{"name": "ships", "path": "nowhere/*"}]}
    return SourceCase("files", label, in_files(write, label), spoil, key=(), cursor=MODIFIED, types=types)


def closed() -> dict[str, Any]:
    """A port of loopback that nobody listens on, with a password to be found nowhere."""
    return {"port": free_port(), "password": PLANTED}


SOURCES = [
    SourceCase("postgres", "postgres", in_postgres, closed(), remote=True),
    SourceCase("mysql", "mysql", in_mysql, closed(), remote=True),
    SourceCase("sqlite", "sqlite", in_sqlite, {"path": "nowhere.db"}),
    SourceCase("duckdb", "duckdb", in_duckdb, {"path": "nowhere.duckdb"}),
    SourceCase("iceberg", "iceberg", in_iceberg, {"jdbc_url": "jdbc:sqlite:../nowhere.db"}),
    file_case("csv", write_csv),
    file_case("json", write_json),
    file_case("jsonl", write_lines),
    file_case("parquet", write_parquet),
    file_case("arrow", write_arrow),
    file_case("avro", write_avro),
    file_case("xlsx", write_excel, built="VARCHAR"),
    SourceCase("files", "s3", in_bucket, {"secret_access_key": PLANTED}, key=(), cursor=MODIFIED, remote=True),
    SourceCase("files", "sftp", on_sftp, {"password": PLANTED}, key=(), cursor=MODIFIED, remote=True),
    SourceCase("files", "http", behind_address, {"path": f"http://127.0.0.1:{free_port()}/ships.csv"}, key=(),
               cursor=None, remote=True),
    SourceCase("rest", "rest", in_api, {"base_url": f"http://127.0.0.1:{free_port()}"}, remote=True),
]  # fmt: skip

ELSEWHERE_SOURCES = [
    ElsewhereCase("mongodb", {"hosts": [f"127.0.0.1:{free_port()}"], "database": "shop", "username": "ann",
                              "password": PLANTED}),
    ElsewhereCase("oracle", {"host": "127.0.0.1", "service_name": "FREEPDB1", "username": "ann", **closed()}),
    ElsewhereCase("sqlserver", {"host": "127.0.0.1", "database": "shop", "username": "ann", **closed()}),
]  # fmt: skip
