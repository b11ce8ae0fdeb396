"""Which connectors there are: our own by this table, those of other packages by their entry points.

A package adds one by an entry point of the group `hohmann.sources` or `hohmann.destinations` that names a class.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from webapp.engine.connectors.base import ConnectorSpec, Destination, Source

VERSION = "v1.0.0"
"""The version of all connectors that come with this server; contract 002 wants the same at both ends of a job."""

_OURS = "webapp.engine.connectors."
_SOURCES = MappingProxyType(
    {
        "postgres": "postgres.source:PostgresSource",
        "mysql": "mysql.source:MySQLSource",
        "mongodb": "mongodb.source:MongoDBSource",
        "oracle": "oracle.source:OracleSource",
        "sqlserver": "sqlserver.source:SQLServerSource",
        "sqlite": "sqlite.source:SQLiteSource",
        "duckdb": "duckdb.source:DuckDBSource",
        "files": "files.source:FilesSource",
        "iceberg": "iceberg.source:IcebergSource",
        "rest": "rest.source:RestSource",
    }
)
_DESTINATIONS = MappingProxyType(
    {
        "s3": "parquet.destination:ParquetDestination",
        "iceberg": "iceberg.destination:IcebergDestination",
        "delta": "delta.destination:DeltaDestination",
        "duckdb": "duckdb.destination:DuckDBDestination",
        "postgres": "postgres.destination:PostgresDestination",
        "mysql": "mysql.destination:MySQLDestination",
        "clickhouse": "clickhouse.destination:ClickHouseDestination",
        "snowflake": "snowflake.destination:SnowflakeDestination",
    }
)
SOURCE_ALIASES = MappingProxyType(
    {
        "postgresql": "postgres",
        "mariadb": "mysql",
        **dict.fromkeys(("mssql", "sql server"), "sqlserver"),
        **dict.fromkeys(
            ("csv", "excel", "json", "parquet", "avro", "s3", "amazon s3", "gcs", "azure_blob", "sftp"), "files"
        ),
        **dict.fromkeys(("api", "rest_api", "http api"), "rest"),
    }
)
DESTINATION_ALIASES = MappingProxyType(
    {
        **dict.fromkeys(("amazon s3", "parquet", "gcs", "azure_blob"), "s3"),
        "apache iceberg": "iceberg",
        "delta lake": "delta",
        "postgresql": "postgres",
        "mariadb": "mysql",
    }
)


class UnknownConnector(Exception):
    """No connector has this name; `known` are the names that there are."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no connector {name!r}; there are: {', '.join(known)}")
        self.known = known


def source_names() -> list[str]:
    """The names of all sources, without aliases."""
    return [*_SOURCES, *sorted(_foreign("hohmann.sources"))]


def destination_names() -> list[str]:
    """The names of all destinations, without aliases."""
    return [*_DESTINATIONS, *sorted(_foreign("hohmann.destinations"))]


def source_class(name: str) -> type[Source[Any]]:
    """The class of a source by its name or alias, any case. Raises UnknownConnector."""
    plain = name.strip().lower()
    found: type[Source[Any]] = _load(SOURCE_ALIASES.get(plain, plain), _SOURCES, "hohmann.sources", source_names())
    return found


def destination_class(name: str) -> type[Destination[Any]]:
    """The class of a destination by its name or alias, any case. Raises UnknownConnector."""
    plain = name.strip().lower()
    found: type[Destination[Any]] = _load(
        DESTINATION_ALIASES.get(plain, plain), _DESTINATIONS, "hohmann.destinations", destination_names()
    )
    return found


def connector_class(role: str, name: str) -> type[Source[Any]] | type[Destination[Any]]:
    """The class for a role, "source" or "destination". Raises UnknownConnector."""
    return source_class(name) if role == "source" else destination_class(name)


def spec_class(role: str, name: str) -> type[ConnectorSpec]:
    """The configuration model of a connector. Raises UnknownConnector."""
    return connector_class(role, name).Spec


def _load(name: str, ours: Mapping[str, str], group: str, known: list[str]) -> Any:
    if place := ours.get(name):
        module, _, attribute = place.partition(":")
        return getattr(importlib.import_module(_OURS + module), attribute)
    foreign = _foreign(group).get(name)
    if foreign is None:
        raise UnknownConnector(name, known)
    return foreign.load()


@cache
def _foreign(group: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=group)}
