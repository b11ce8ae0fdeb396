"""How a MongoDB deployment is reached, in contract 002's words."""

from typing import Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator

from webapp.engine.connectors.base import ConnectorSpec

DEFAULT_PORT = 27017


class MongoDBSpec(ConnectorSpec):
    """Its hosts, one database, and how to log in."""

    model_config = ConfigDict(title="MongoDB", extra="ignore", frozen=True)
    hosts: tuple[str, ...] = Field(
        title="Hosts", min_length=1, max_length=50, description="host or host:port of one or more members, as a list."
    )
    database: str = Field(title="Database", min_length=1, max_length=63, description="The database to read.")
    username: str = Field("", title="User", max_length=256, description="A user with the role read; empty: none.")
    password: SecretStr = Field(SecretStr(""), title="Password", description="Never shown again.")
    authdb: str = Field("admin", title="Login database", max_length=63, description="Where the user is defined.")
    replica_set: str = Field("", title="Replica set", max_length=200, description="Its name; empty: one server alone.")
    tls: bool = Field(False, title="TLS", description="Encrypt, and check the certificate.")
    read_preference: Literal["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"] = Field(
        "secondaryPreferred", title="Read from", description="Which members answer."
    )

    @field_validator("hosts", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("hosts")
    @classmethod
    def _plain_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            host, port = split_host(text)
            if not host or any(sign in host for sign in "/@? ") or not 1 <= port <= 65535:
                raise ValueError(f"{text!r} is no host or host:port")
        return value

    def endpoint(self) -> str:
        """The hosts."""
        return ",".join(self.hosts)


def split_host(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `host`; the port is 0 when it is no number."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), DEFAULT_PORT
    return host.strip("[]"), int(port) if port.isascii() and port.isdigit() else 0
