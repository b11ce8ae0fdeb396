"""How a ClickHouse server is reached."""

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from webapp.engine.connectors.base import ConnectorSpec

OWN = "_hohmann"
"""The database that a destination keeps beside those of its users."""


class ClickHouseSsl(BaseModel):
    """Whether the connection is encrypted, and what proves the server's identity."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    mode: Literal["disable", "require", "verify-full"] = Field(
        "disable",
        title="TLS mode",
        description="disable: plain HTTP; require: encrypted, whoever answers; verify-full: the certificate must be "
        "signed by a known authority and bear the host's name (ClickHouse Cloud, port 8443).",
    )
    server_ca: str = Field(
        "",
        title="Authority's certificate",
        description="PEM text of the authority that signed the server's certificate; empty: those that this machine "
        "trusts.",
    )


class ClickHouseSpec(ConnectorSpec):
    """A server, the database that takes the tables, and how to log in."""

    model_config = ConfigDict(title="ClickHouse", extra="ignore", frozen=True, populate_by_name=True)
    host: str = Field(
        title="Host",
        min_length=1,
        max_length=255,
        description="Name or address of the server.",
        validation_alias=AliasChoices("host", "server"),
    )
    port: int = Field(8123, title="Port", ge=1, le=65535, description="Port of the HTTP interface; 8443 with TLS.")
    database: str = Field(
        "default",
        title="Database",
        min_length=1,
        max_length=128,
        description="Where tables go whose stream names no database of its own; made when it is not there.",
    )
    username: str = Field(
        "default",
        title="User",
        min_length=1,
        max_length=128,
        description="A user with ALL on this database and on the database _hohmann.",
    )
    password: SecretStr = Field(SecretStr(""), title="Password", description="Never shown again.")
    ssl: ClickHouseSsl = Field(default_factory=ClickHouseSsl, title="TLS", description="Encryption on the way.")
    max_threads: int = Field(
        4, title="Connections", ge=1, le=64, description="At most so many connections write at once."
    )

    def endpoint(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"
