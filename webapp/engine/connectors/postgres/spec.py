"""What a PostgreSQL connection needs to know; drivers are not loaded here."""

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from webapp.engine.connectors.base import ConnectorSpec
from webapp.engine.connectors.capture import UpdateMethod

_NO_TUNNEL = frozenset({"", "none", "no_tunnel", "no tunnel", "disabled"})


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Ssl(_Part):
    """How the connection is encrypted, and what proves the server's identity."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] = Field(
        "disable",
        title="TLS mode",
        description="disable: plain text; require: encrypted; verify-ca: the certificate must be signed by the "
        "authority below; verify-full: it must also bear the host's name.",
    )
    server_ca: str = Field(
        "",
        title="Authority's certificate",
        description="PEM text of the authority that signed the server's certificate; empty with verify-full: those "
        "that this machine trusts.",
        validation_alias=AliasChoices("server_ca", "ca", "ca_cert"),
    )
    client_cert: str = Field("", title="Client certificate", description="PEM text, when the server asks for one.")
    client_key: SecretStr = Field(SecretStr(""), title="Client key", description="PEM text of that certificate's key.")

    @field_validator("server_ca", "client_cert")
    @classmethod
    def _pem(cls, value: str) -> str:
        if value and "-----BEGIN" not in value:
            raise ValueError("must be the certificate's PEM text, which begins with -----BEGIN")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Ssl":
        if self.mode == "verify-ca" and not self.server_ca:
            raise ValueError("server_ca is needed for verify-ca: paste the authority's certificate as PEM text")
        if bool(self.client_cert) != bool(self.client_key.get_secret_value()):
            raise ValueError("client_cert and client_key belong together: give both or none")
        return self


class SshConfig(_Part):
    """A tunnel to the server; only `none` is possible."""

    type: str = Field("none", title="Tunnel", description="Only none: open a tunnel beside Hohmann and connect to it.")

    @field_validator("type")
    @classmethod
    def _none(cls, value: str) -> str:
        if value.strip().lower() not in _NO_TUNNEL:
            raise ValueError("SSH tunnels are not supported: choose none and connect to a tunnel's own end instead")
        return "none"


class PostgresSpec(ConnectorSpec):
    """A PostgreSQL database to read from."""

    host: str = Field(min_length=1, title="Host", description="Name or address of the server.")
    port: int = Field(5432, ge=1, le=65535, title="Port", description="The server's port, 5432 as a rule.")
    database: str = Field(min_length=1, title="Database", description="The database's name.")
    username: str = Field(min_length=1, title="User", description="The role that logs in.")
    password: SecretStr = Field(SecretStr(""), title="Password", description="The role's password.")
    ssl: Ssl = Field(default_factory=Ssl, title="TLS", description="Encryption of the connection.")
    jdbc_url_params: Any = Field(
        None, title="JDBC parameters", description="Accepted for other engines' sake; nothing here reads them."
    )
    max_threads: int = Field(
        4, ge=1, le=64, title="Connections", description="At most so many connections read or write at once."
    )
    retry_count: int = Field(
        3,
        ge=0,
        le=100,
        title="Retries",
        description="How often a run tries again to connect, within 10 s.",
    )
    schemas: list[str] = Field(
        default_factory=list,
        title="Schemas",
        description="Only tables of these schemas; empty: all that are not system's.",
    )
    update_method: UpdateMethod = Field(
        default_factory=UpdateMethod, title="Update method", description="How changes are found."
    )
    ssh_config: SshConfig = Field(default_factory=SshConfig, title="SSH tunnel", description="Only none is possible.")

    @field_validator("host", "database", "username")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value.strip() or "\0" in value:
            raise ValueError("must not be empty")
        return value.strip()

    @field_validator("ssl", "update_method", "ssh_config", "schemas", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return {} if value is None or value == "" else value

    @field_validator("schemas", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value or []

    def endpoint(self) -> str:
        """Host, port and role: a stored password goes nowhere else."""
        return f"{self.username}@{self.host}:{self.port}/{self.database}"


class PostgresDestinationSpec(PostgresSpec):
    """A PostgreSQL database to write to."""

    schema_name: str = Field(
        "public",
        min_length=1,
        title="Schema",
        description="Where tables go whose stream names no schema of its own.",
        validation_alias=AliasChoices("schema_name", "schema"),
    )
