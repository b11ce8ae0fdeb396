"""How an Oracle Database is reached, in contract 002's words."""

from pydantic import AliasChoices, ConfigDict, Field, SecretStr

from webapp.engine.connectors.base import ConnectorSpec


class OracleSpec(ConnectorSpec):
    """A listener, a service, and how to log in; the thin driver needs no client software."""

    model_config = ConfigDict(title="Oracle", extra="ignore", frozen=True, populate_by_name=True)
    host: str = Field(title="Host", min_length=1, max_length=255, description="Name or address of the listener.")
    port: int = Field(1521, title="Port", ge=1, le=65535, description="TCP port of the listener.")
    service_name: str = Field(
        title="Service",
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_.$#-]+$",
        description="Name of the service, for example FREEPDB1.",
        validation_alias=AliasChoices("service_name", "database", "sid"),
    )
    username: str = Field(title="User", min_length=1, max_length=128, description="A user with SELECT on the tables.")
    password: SecretStr = Field(title="Password", description="Never shown again.")

    def endpoint(self) -> str:
        """Host, port and service."""
        return f"{self.host}:{self.port}/{self.service_name}"
