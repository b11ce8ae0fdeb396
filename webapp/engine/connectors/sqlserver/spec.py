"""How a Microsoft SQL Server is reached."""

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from webapp.engine.connectors.base import ConnectorSpec


class SQLServerSsl(BaseModel):
    """Whether the connection is encrypted, and what proves the server's identity."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    mode: Literal["disable", "verify-ca", "verify-full"] = Field(
        "disable",
        title="TLS mode",
        description="disable: plain text; verify-ca: the certificate must be signed by the authority below; "
        "verify-full: it must also bear the host's name (Azure SQL needs it).",
    )
    server_ca: str = Field(
        "",
        title="Authority's certificate",
        description="PEM text of the authority that signed the server's certificate; empty: those that this machine "
        "trusts.",
    )


class SQLServerSpec(ConnectorSpec):
    """A server, one database of it, and how to log in."""

    model_config = ConfigDict(title="SQL Server", extra="ignore", frozen=True, populate_by_name=True)
    host: str = Field(
        title="Host",
        min_length=1,
        max_length=255,
        description="Name or address of the server.",
        validation_alias=AliasChoices("host", "server"),
    )
    port: int = Field(1433, title="Port", ge=1, le=65535, description="TCP port of the server.")
    database: str = Field(title="Database", min_length=1, max_length=128, description="The database's name.")
    username: str = Field(title="User", min_length=1, max_length=128, description="A login with SELECT on the tables.")
    password: SecretStr = Field(SecretStr(""), title="Password", description="Never shown again.")
    ssl: SQLServerSsl = Field(default_factory=SQLServerSsl, title="TLS", description="Encryption on the way.")

    def endpoint(self) -> str:
        """Host, port and login: a stored password goes nowhere else."""
        return f"{self.username}@{self.host}:{self.port}"
