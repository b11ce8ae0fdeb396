"""How a MySQL or MariaDB server is reached, in contract 002's words."""

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator

from webapp.engine.connectors.base import ConnectorSpec
from webapp.engine.connectors.capture import UpdateMethod

OWN = "_hohmann"
"""The database that a destination keeps beside those of its users."""


class MySQLSsl(BaseModel):
    """Whether the connection is encrypted."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    mode: Literal["disable", "require"] = Field(
        "disable", title="TLS mode", description="require refuses a connection that is not encrypted."
    )


class MySQLSpec(ConnectorSpec):
    """A server, a database or all that the user may see, and how to log in."""

    model_config = ConfigDict(title="MySQL or MariaDB", extra="ignore", frozen=True, populate_by_name=True)
    host: str = Field(
        title="Host",
        min_length=1,
        max_length=255,
        description="Name or address of the server.",
        validation_alias=AliasChoices("host", "hosts"),
    )
    port: int = Field(3306, title="Port", ge=1, le=65535, description="TCP port of the server.")
    database: str = Field(
        "", title="Database", max_length=64, description="Only this database; empty: all that the user may read."
    )
    username: str = Field(title="User", min_length=1, max_length=128, description="A user with SELECT on the tables.")
    password: SecretStr = Field(SecretStr(""), title="Password", description="Never shown again.")
    ssl: MySQLSsl = Field(default_factory=MySQLSsl, title="TLS", description="Encryption on the way.")
    max_threads: int = Field(
        4, title="Connections", ge=1, le=64, description="At most so many connections read at once."
    )
    update_method: UpdateMethod = Field(
        default_factory=UpdateMethod, title="Update method", description="How changes are found."
    )

    @field_validator("update_method", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return {} if value is None or value == "" else value

    def endpoint(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


class MySQLDestinationSpec(MySQLSpec):
    """A server, the database that takes the tables, and how to log in."""

    database: str = Field(
        title="Database",
        min_length=1,
        max_length=64,
        description="Where tables go whose stream names no database of its own; made when it is not there.",
    )
    username: str = Field(
        title="User",
        min_length=1,
        max_length=128,
        description="A user with ALL on this database and on the database _hohmann.",
    )
