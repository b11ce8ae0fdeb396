"""How a Snowflake account is reached."""

from typing import Self

from pydantic import AliasChoices, ConfigDict, Field, SecretStr, model_validator

from webapp.engine.connectors.base import ConnectorSpec

OWN = "_HOHMANN"
"""The schema that a destination keeps beside those of its users."""


class SnowflakeSpec(ConnectorSpec):
    """An account, the database that takes the tables, and how to log in."""

    model_config = ConfigDict(title="Snowflake", extra="ignore", frozen=True, populate_by_name=True)
    account: str = Field(
        title="Account",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=200,
        description="The account's identifier: organization-account, as in the address of Snowsight.",
    )
    host: str = Field(
        "",
        title="Host",
        max_length=255,
        description="Only where the account has an address of its own (private link); empty: that of the account.",
    )
    port: int = Field(443, title="Port", ge=1, le=65535, description="HTTPS port of the host.")
    username: str = Field(
        title="User", min_length=1, max_length=255, description="A service user.",
        validation_alias=AliasChoices("username", "user"),
    )  # fmt: skip
    password: SecretStr = Field(
        SecretStr(""), title="Password", description="A password or a programmatic access token; never shown again."
    )
    private_key: SecretStr = Field(
        SecretStr(""),
        title="Private key",
        description="PEM text of an unencrypted key whose public half the user has; instead of a password.",
    )
    role: str = Field("", title="Role", max_length=255, description="Empty: the user's default.")
    warehouse: str = Field("", title="Warehouse", max_length=255, description="Empty: the user's default.")
    database: str = Field(title="Database", min_length=1, max_length=255, description="One that exists.")
    schema_name: str = Field(
        "PUBLIC",
        title="Schema",
        min_length=1,
        max_length=255,
        description="Where tables go whose stream names no schema of its own; made when it is not there.",
        validation_alias=AliasChoices("schema_name", "schema"),
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if bool(self.password.get_secret_value()) == bool(self.private_key.get_secret_value()):
            raise ValueError("give a password or a private_key, one of the two")
        return self

    @property
    def address(self) -> str:
        """The host's name; underscores of an account are hyphens there."""
        return self.host or f"{self.account.replace('_', '-').lower()}.snowflakecomputing.com"

    def endpoint(self) -> str:
        """User, host and port: stored secrets go nowhere else."""
        return f"{self.username}@{self.address}:{self.port}"
