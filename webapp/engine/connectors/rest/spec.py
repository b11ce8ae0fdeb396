"""What is needed to read an HTTP API that answers JSON: where it is, how to log in, and which lists it has."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from webapp.engine.connectors.base import ConnectorSpec
from webapp.engine.specs import ApiExtractor, NoPagination, Pagination

_ADDRESS_MARKS = set("?#")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoAuth(_Part):
    """Anyone may read."""

    type: Literal["none"] = Field("none", title="Log-in", description="No log-in.")


class BearerAuth(_Part):
    """A token in the Authorization header."""

    type: Literal["bearer"] = Field(title="Log-in", description="A bearer token.")
    bearer_token: SecretStr = Field(
        title="Bearer token",
        validation_alias=AliasChoices("bearer_token", "token"),
        description="Sent as Authorization: Bearer.",
    )


class BasicAuth(_Part):
    """User name and password."""

    type: Literal["basic"] = Field(title="Log-in", description="User name and password.")
    username: str = Field(title="User name", max_length=500, description="Sent as Authorization: Basic.")
    password: SecretStr = Field(title="Password", description="Belongs to the user name.")


class ApiKeyAuth(_Part):
    """A key in a header or in the query."""

    type: Literal["api_key"] = Field(title="Log-in", description="A key in a header or query parameter.")
    name: str = Field(
        "X-API-Key", title="Name", min_length=1, max_length=200, description="Name of the header or parameter."
    )
    api_key: SecretStr = Field(title="Key", description="The key itself.")
    place: Literal["header", "query"] = Field(
        "header", title="Place", validation_alias=AliasChoices("place", "in"), description="Where the key is sent."
    )


class ClientCredentialsAuth(_Part):
    """A token that the API's own authority gives for an id and a secret (OAuth 2, client credentials)."""

    type: Literal["oauth2"] = Field(title="Log-in", description="OAuth 2 client credentials.")
    token_url: str = Field(title="Token address", max_length=4096, description="Where tokens are given.")
    client_id: str = Field(title="Client id", max_length=1000, description="The client's name there.")
    client_secret: SecretStr = Field(title="Client secret", description="The client's secret there.")
    scope: str = Field("", title="Scope", max_length=1000, description="What the token shall be good for.")

    @field_validator("token_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return _address(value)


Auth = Annotated[NoAuth | BearerAuth | BasicAuth | ApiKeyAuth | ClientCredentialsAuth, Field(discriminator="type")]
Params = dict[str, str | int | float | bool | list[str]]


class RestStream(_Part):
    """One list of the API."""

    name: str = Field(title="Name", min_length=1, max_length=200, description="Name of the stream.")
    path: str = Field(
        "", title="Path", max_length=4096, description="Behind the base address, for example /v1/orders; may be empty."
    )
    params: Params = Field(default_factory=dict, title="Query parameters", description="Added for this stream.")
    records: str | None = Field(
        None, title="Records", max_length=500, description="Dotted path to the records in the answer: data.items."
    )
    primary_key: list[str] = Field(
        default_factory=list, title="Primary key", max_length=50, description="Fields that tell records apart."
    )
    cursor_field: str | None = Field(
        None, title="Cursor field", max_length=200, description="Field that grows with each change: updated_at."
    )
    incremental_param: str | None = Field(
        None,
        title="Since parameter",
        max_length=200,
        description="Query parameter by which the API gives only records from a cursor value on.",
    )
    pagination: Pagination | None = Field(
        None, title="Pagination", description="Where this stream's pages are found otherwise."
    )

    @field_validator("primary_key", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if "://" in value or value.startswith("//") or not _ADDRESS_MARKS.isdisjoint(value):
            raise ValueError("a path lies behind the base address: no scheme, host, ? or #")
        return value

    @model_validator(mode="after")
    def _with_cursor(self) -> "RestStream":
        if self.incremental_param and not self.cursor_field:
            raise ValueError("incremental_param: name the cursor_field whose values it takes")
        return self


class RestSourceSpec(ConnectorSpec):
    """An HTTP API that answers JSON."""

    base_url: str = Field(
        title="Base address",
        min_length=1,
        max_length=4096,
        validation_alias=AliasChoices("base_url", "url"),
        description="http:// or https:// address that all streams begin with.",
    )
    streams: list[RestStream] = Field(
        title="Streams", min_length=1, max_length=200, description="The lists that the API has."
    )
    auth: Auth = Field(default_factory=NoAuth, title="Log-in", description="How requests are allowed.")
    pagination: Pagination = Field(
        default_factory=NoPagination, title="Pagination", description="How the next page is found, for all streams."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, title="Headers", max_length=100, description="Sent with each request to this host only."
    )
    timeout: float = Field(30.0, title="Timeout", gt=0, le=3600, description="Seconds without a byte.")
    retries: int = Field(3, title="Retries", ge=0, le=20, description="How often a page is asked for again.")

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return _address(value)

    @field_validator("headers")
    @classmethod
    def _plain_headers(cls, value: dict[str, str]) -> dict[str, str]:
        return ApiExtractor(type="api", url="http://host", headers=value).headers

    @model_validator(mode="after")
    def _distinct(self) -> "RestSourceSpec":
        if len({stream.name.lower() for stream in self.streams}) < len(self.streams):
            raise ValueError("streams: two streams have the same name")
        return self

    def endpoint(self) -> str:
        """The hosts that secrets are sent to."""
        tokens = urlsplit(self.auth.token_url).netloc if isinstance(self.auth, ClientCredentialsAuth) else ""
        return f"{urlsplit(self.base_url).netloc} {tokens}".strip()


def _address(value: str) -> str:
    return ApiExtractor(type="api", url=value).url
