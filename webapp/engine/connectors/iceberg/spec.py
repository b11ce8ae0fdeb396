"""Which Iceberg catalog and which warehouse, in contract 002's words."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator

from webapp.engine.connectors.base import ConnectorSpec
from webapp.engine.connectors.parquet.spec import wrapped

#: The kinds of catalog that alone have a field: a form need not show it for the others.
_OF_JDBC: dict[str, Any] = {"x-storage": ["jdbc"]}
_OF_REST: dict[str, Any] = {"x-storage": ["rest"]}
_OF_GLUE: dict[str, Any] = {"x-storage": ["glue"]}
_OF_HIVE: dict[str, Any] = {"x-storage": ["hive"]}


class IcebergCatalog(BaseModel):
    """A catalog, and where the tables' files lie."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)
    catalog_type: Literal["jdbc", "rest", "glue", "hive"] = Field(
        "jdbc",
        title="Catalog",
        description="jdbc: tables in PostgreSQL or SQLite; rest: an Iceberg REST catalog; glue: AWS; hive.",
    )
    catalog_name: str = Field(
        "olake_iceberg", title="Catalog name", min_length=1, max_length=255, description="Name within the catalog."
    )
    iceberg_db: str = Field(
        "", title="Database", max_length=255, description="Namespace to read from, or for tables whose job names none."
    )
    iceberg_s3_path: str = Field(
        "",
        title="Warehouse",
        max_length=4096,
        description="s3://bucket/path, or a folder relative to the data folder.",
    )
    jdbc_url: str = Field(
        "",
        title="JDBC URL",
        max_length=4096,
        description="jdbc:postgresql://host:5432/db, or jdbc:sqlite:file.",
        json_schema_extra=_OF_JDBC,
    )
    jdbc_username: str = Field(
        "", title="JDBC user", max_length=255, description="User of the catalog's database.", json_schema_extra=_OF_JDBC
    )
    jdbc_password: SecretStr = Field(
        SecretStr(""), title="JDBC password", description="Never shown again.", json_schema_extra=_OF_JDBC
    )
    rest_catalog_url: str = Field(
        "",
        title="REST catalog",
        max_length=4096,
        description="https://host:8181, for example.",
        json_schema_extra=_OF_REST,
    )
    token: SecretStr = Field(
        SecretStr(""), title="Token", description="Bearer token for the REST catalog.", json_schema_extra=_OF_REST
    )
    credential: SecretStr = Field(
        SecretStr(""),
        title="Credential",
        description="client_id:client_secret for OAuth 2.",
        json_schema_extra=_OF_REST,
    )
    oauth2_uri: str = Field(
        "",
        title="OAuth 2 address",
        max_length=4096,
        description="Where the credential logs in; empty: the catalog.",
        json_schema_extra=_OF_REST,
    )
    scope: str = Field(
        "",
        title="Scope",
        max_length=255,
        description="OAuth 2 scope, if the catalog wants one.",
        json_schema_extra=_OF_REST,
    )
    glue_endpoint: str = Field(
        "",
        title="Glue endpoint",
        max_length=1024,
        description="Only for a service that speaks like AWS Glue.",
        json_schema_extra=_OF_GLUE,
    )
    hive_uri: str = Field(
        "",
        title="Hive metastore",
        max_length=1024,
        description="thrift://host:9083, for example.",
        json_schema_extra=_OF_HIVE,
    )
    s3_endpoint: str = Field(
        "", title="S3 endpoint", max_length=1024, description="Only for S3-compatible stores: https://host:9000."
    )
    aws_access_key: str = Field("", title="AWS access key", max_length=256, description="Empty: those of the machine.")
    aws_secret_key: SecretStr = Field(SecretStr(""), title="AWS secret key", description="Never shown again.")
    aws_region: str = Field("", title="AWS region", max_length=64, description="For example eu-central-1.")

    @property
    def address(self) -> str:
        """Where the catalog and the store are."""
        catalog = self.jdbc_url or self.rest_catalog_url or self.hive_uri or self.glue_endpoint
        return f"{catalog} {self.s3_endpoint}"

    def check_complete(self, needed: Mapping[str, Sequence[str]]) -> None:
        """Raise ValueError when a field that the kind of catalog needs is empty."""
        missing = [name for name in needed.get(self.catalog_type, ()) if not getattr(self, name).strip()]
        if missing:
            raise ValueError(f"a {self.catalog_type} catalog needs {' and '.join(missing)}")


class IcebergWriter(IcebergCatalog):
    """A catalog, and how tables are written."""

    compression: Literal["snappy", "zstd"] = Field("zstd", title="Compression", description="Of the data files.")
    no_identifier_fields: bool = Field(
        False,
        title="No identifier fields",
        description="Accepted for other clients; tables are made without identifier fields.",
        validation_alias=AliasChoices("no_identifier_fields", "no_identifiers_fields"),
    )

    @model_validator(mode="after")
    def _complete(self) -> "IcebergWriter":
        self.check_complete(
            {
                "jdbc": ("jdbc_url", "iceberg_s3_path"),
                "rest": ("rest_catalog_url",),
                "glue": ("iceberg_s3_path",),
                "hive": ("hive_uri", "iceberg_s3_path"),
            }
        )
        return self


class IcebergSpec(ConnectorSpec):
    """Iceberg tables, one for each stream."""

    model_config = ConfigDict(title="Apache Iceberg", extra="ignore", frozen=True)
    type: Literal["ICEBERG"] = Field("ICEBERG", title="Format", description="Tables are Iceberg, version 2.")
    writer: IcebergWriter = Field(title="Where", description="The catalog and the warehouse.")

    @model_validator(mode="before")
    @classmethod
    def _wrapped(cls, value: Any) -> Any:
        """Take the flat form, too: the writer's fields without `writer` around them."""
        return wrapped(value, "ICEBERG")

    def endpoint(self) -> str:
        """The catalog's and the store's address."""
        return self.writer.address


class IcebergSourceSpec(ConnectorSpec, IcebergCatalog):
    """The tables of a catalog."""

    model_config = ConfigDict(title="Apache Iceberg", extra="ignore", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: Any) -> Any:
        """Take the destination's form, too: the fields within `writer`."""
        inner = value.get("writer") if isinstance(value, Mapping) else None
        return inner if isinstance(inner, Mapping) else value

    @model_validator(mode="after")
    def _complete(self) -> "IcebergSourceSpec":
        self.check_complete({"jdbc": ("jdbc_url",), "rest": ("rest_catalog_url",), "hive": ("hive_uri",)})
        return self

    def endpoint(self) -> str:
        """The catalog's and the store's address."""
        return self.address
