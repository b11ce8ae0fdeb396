"""A small world for lake destinations: a context, a stream with every type, loads in one line."""

import datetime as dt
import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support.s3 import S3Server
from webapp.engine.connectors.base import Chunk, Column, Destination, Landed, Load, Target, Write
from webapp.engine.connectors.registry import destination_class
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.context import Context, Silence

TABLE = Target("mission", "crew 🚀")
PLAIN = (Column("id", "BIGINT", False), Column("name", "VARCHAR"))
EVERY = (
    Column("id", "BIGINT", False),
    Column("small", "SMALLINT"),
    Column("big", "HUGEINT"),
    Column("price", "DECIMAL(10,2)"),
    Column("seen", "TIMESTAMP"),
    Column("at", "TIMESTAMP WITH TIME ZONE"),
    Column("day", "DATE"),
    Column("hour", "TIME"),
    Column("uid", "UUID"),
    Column("doc", "JSON"),
    Column("raw", "BLOB"),
    Column("tags", "VARCHAR[]"),
    Column("spot", "STRUCT(x INTEGER, y VARCHAR)"),
    Column("yes", "BOOLEAN"),
)
FULL = {
    "id": 1, "small": -3, "big": 10**30, "price": decimal.Decimal("12345678.90"),
    "seen": dt.datetime(2024, 2, 29, 23, 59, 59, 999999),
    "at": dt.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=dt.UTC), "day": dt.date(1, 1, 1),
    "hour": dt.time(23, 59, 59, 999999), "uid": "6f1c1f0e-0000-4000-8000-000000000001", "doc": '{"a": ["🚀", null]}',
    "raw": b"\x00\xff'\n", "tags": ["", None, 'quo"ted', "🛰"], "spot": {"x": 1, "y": "z"}, "yes": True,
}  # fmt: skip


@dataclass
class Lake:
    """One destination in a temporary instance."""

    root: Path
    name: str
    config: Mapping[str, Any]
    allow: bool = True
    table: Target = TABLE
    context: Context = field(init=False)

    def __post_init__(self) -> None:
        data = self.root / "data"
        data.mkdir(exist_ok=True)
        self.context = Context(
            data_root=data,
            allowed_roots=(),
            warehouse=self.root / "warehouse.duckdb",
            temp=self.root / "temp",
            reporter=Silence(),
            allow_private_addresses=self.allow,
            lock_timeout=0.2,
        )

    @property
    def destination(self) -> Destination[Any]:
        made = destination_class(self.name)
        return made(made.Spec.model_validate(self.config), self.context)

    def load(self, write: Write, rows: Iterable[Mapping[str, Any]], **given: Any) -> Landed:
        """Load rows, one chunk for each half, with the state {"rows": [ids]} unless one is given."""
        columns = given.pop("columns", PLAIN)
        state = given.pop("state", {"at": "now"})
        key = ("id",) if write is Write.UPSERT else ()
        rows = list(rows)
        with self.destination.open() as session:
            writer = session.begin(Load(self.table, write, columns, **{"key": key, **given}))
            try:
                for number, part in enumerate((rows[::2], rows[1::2])):
                    batches = pa.Table.from_pylist(part, schema=arrow_schema(columns)).to_reader()
                    assert writer.write(batches, Chunk(str(number))) == len(part)
                return writer.commit(state)
            except BaseException:
                writer.abort()
                raise

    def rows(self) -> list[dict[str, Any]]:
        """The table's rows by id."""
        with self.destination.open() as session:
            return sorted(session.preview(self.table, limit=100_000).to_pylist(), key=lambda row: row["id"])

    def names(self) -> dict[int, str]:
        return {row["id"]: row["name"] for row in self.rows()}

    def state(self) -> dict[str, Any] | None:
        with self.destination.open() as session:
            return session.state(self.table)


def crew(*ids: int, name: str = "a") -> list[dict[str, Any]]:
    """Rows with these ids."""
    return [{"id": number, "name": f"{name}{number}"} for number in ids]


def s3_fields(server: S3Server) -> dict[str, str]:
    """How the writers of Parquet and Delta reach a server."""
    keys = {"s3_access_key": server.access_key_id, "s3_secret_key": server.secret_access_key}
    return {"s3_endpoint": server.url, "s3_region": "us-east-1", **keys}


def aws_fields(server: S3Server) -> dict[str, str]:
    """How the writers of Iceberg reach a server."""
    keys = {"aws_access_key": server.access_key_id, "aws_secret_key": server.secret_access_key}
    return {"s3_endpoint": server.url, "aws_region": "us-east-1", **keys}
