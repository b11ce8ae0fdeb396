"""What a task may be: extractors and loaders as Pydantic models, hence JSON Schema, hence the form.

Loads without DuckDB and PyArrow.
"""

import codecs
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    field_validator,
    model_validator,
)

from webapp.engine.column_types import parse_column_type
from webapp.engine.names import TableName

_HEADER_NAME = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a path holds no NUL character")
    return value


def _table(value: str) -> str:
    TableName.parse(value)
    return value


PathText = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_without_nul)]
TableText = Annotated[str, Field(min_length=1, max_length=257), AfterValidator(_table)]
OneCharacter = Annotated[str, Field(max_length=1)]


class Spec(BaseModel):
    """A part of a task's configuration; unknown keys are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoPagination(Spec):
    """All records are in one answer."""

    type: Literal["none"] = Field("none", title="Pagination", description="All records are in one answer.")


class LinkPagination(Spec):
    """The answer's Link header names the next page (RFC 8288, rel="next"), or a field of the body does."""

    type: Literal["link"] = Field(title="Pagination", description="The answer names the address of the next page.")
    field: str | None = Field(
        None,
        title="Field",
        max_length=500,
        description="Dotted path in the body to the next page's address; empty: the Link header with rel=next.",
    )


class PagePagination(Spec):
    """Pages are numbered; the first empty page ends the reading."""

    type: Literal["page"] = Field(title="Pagination", description="Pages are numbered.")
    parameter: str = Field(
        "page",
        title="Parameter",
        min_length=1,
        max_length=200,
        description="Query parameter that takes the page number.",
    )
    start: int = Field(1, title="First page", ge=0, description="Number of the first page.")
    size_parameter: str | None = Field(
        None, title="Size parameter", max_length=200, description="Query parameter that takes the page size."
    )
    size: int | None = Field(
        None,
        title="Page size",
        ge=1,
        le=1_000_000,
        description="Records asked for in one page; a shorter page ends the reading.",
    )


class OffsetPagination(Spec):
    """Each page begins at an offset; a page shorter than the limit ends the reading."""

    type: Literal["offset"] = Field(title="Pagination", description="Each page begins at an offset.")
    parameter: str = Field(
        "offset", title="Parameter", min_length=1, max_length=200, description="Query parameter that takes the offset."
    )
    limit_parameter: str = Field(
        "limit",
        title="Limit parameter",
        min_length=1,
        max_length=200,
        description="Query parameter that takes the page size.",
    )
    limit: int = Field(100, title="Page size", ge=1, le=1_000_000, description="Records asked for in one page.")


class CursorPagination(Spec):
    """Each answer carries the cursor of the next page; none or an empty one ends the reading."""

    type: Literal["cursor"] = Field(title="Pagination", description="Each answer carries the cursor of the next page.")
    parameter: str = Field(
        "cursor", title="Parameter", min_length=1, max_length=200, description="Query parameter that takes the cursor."
    )
    field: str = Field(
        "next_cursor",
        title="Field",
        min_length=1,
        max_length=500,
        description="Dotted path in the body to the next cursor.",
    )


Pagination = Annotated[
    NoPagination | LinkPagination | PagePagination | OffsetPagination | CursorPagination, Field(discriminator="type")
]


class ApiExtractor(Spec):
    """Reads records from an HTTP API that answers JSON: an array of objects, or one object as one row."""

    model_config = ConfigDict(title="HTTP API")
    type: Literal["api"] = Field(title="Type", description="Reads JSON from an HTTP API.")
    url: str = Field(title="Address", min_length=1, max_length=4096, description="http:// or https:// address.")
    method: Literal["GET", "POST", "PUT", "PATCH"] = Field("GET", title="Method", description="HTTP method.")
    headers: dict[str, str] = Field(
        default_factory=dict,
        title="Headers",
        max_length=100,
        description="Extra request headers, sent to the address's own host only.",
    )
    bearer_token: SecretStr | None = Field(
        None, title="Bearer token", description="Sent as Authorization: Bearer, never shown again."
    )
    params: dict[str, str | int | float | bool | list[str]] = Field(
        default_factory=dict, title="Query parameters", description="Added to the address of each page."
    )
    body: Any = Field(None, title="Body", description="JSON body sent with each request.")
    records: str | None = Field(
        None,
        title="Records",
        max_length=500,
        description="Dotted path to the records in the answer, for example data.items.",
    )
    pagination: Pagination = Field(
        default_factory=NoPagination, title="Pagination", description="How the next page is found."
    )
    timeout: float = Field(
        30.0, title="Timeout", gt=0, le=3600, description="Seconds without a byte after which a request is given up."
    )
    retries: int = Field(
        3,
        title="Retries",
        ge=0,
        le=20,
        description="How often a page is asked for again after 429, 5xx or a lost connection.",
    )

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise ValueError("an address begins with http:// or https:// and names a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address carries no user name or password; use bearer_token or headers")
        if parts.port == 0 or any(c <= " " or c == "\x7f" for c in value):
            raise ValueError("an address has no spaces or control characters, and a port above 0")
        return value

    @field_validator("headers")
    @classmethod
    def _plain_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name or not set(name) <= _HEADER_NAME:
                raise ValueError(f"{name!r} is not a header name")
            if not text.isprintable():
                raise ValueError(f"the value of header {name} holds a control character")
            if name.lower() in ("host", "content-length", "transfer-encoding", "connection", "accept-encoding"):
                raise ValueError(f"header {name} belongs to the connection and cannot be set")
        return value


class CsvExtractor(Spec):
    """Reads one or many CSV files."""

    model_config = ConfigDict(title="CSV files")
    type: Literal["csv"] = Field(title="Type", description="Reads CSV files.")
    path: PathText = Field(
        title="Path",
        description="A file, a folder of .csv files, or a pattern with * and **; relative to the data folder.",
    )
    delimiter: OneCharacter | None = Field(
        None, title="Delimiter", min_length=1, description="Between fields; empty: , ; tab or | by the first line."
    )
    header: bool = Field(True, title="Header row", description="Whether the first line names the columns.")
    encoding: str = Field(
        "utf-8",
        title="Encoding",
        max_length=40,
        description="Character set of the files: utf-8, latin-1, utf-16, windows-1252 ...",
    )
    compression: Literal["auto", "none", "gzip", "zstd"] = Field(
        "auto", title="Compression", description="auto goes by the file's ending (.gz, .zst)."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Column types",
        description="Declared types by column name; they win over what the files suggest.",
    )
    null_values: list[str] | None = Field(
        None, title="Null values", max_length=50, description="Texts that mean no value; by default the empty field."
    )
    quote: OneCharacter = Field('"', title="Quote", description="Around fields that hold a delimiter; empty: none.")
    escape: OneCharacter | None = Field(
        None, title="Escape", description="Before a quote inside a quoted field; by default the quote."
    )

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _within_a_line(cls, value: str | None) -> str | None:
        if value is not None and value in ("\n", "\r", "\0"):
            raise ValueError("the end of a line or NUL cannot be a delimiter, quote or escape")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> "CsvExtractor":
        if self.delimiter is not None and self.delimiter in (self.quote, self.escape):
            raise ValueError("delimiter: it must differ from quote and escape")
        return self

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codec = codecs.lookup(value)
            text = getattr(codec, "_is_text_encoding", True)
        except (LookupError, ValueError) as error:
            raise ValueError(f"{value!r} is not a known encoding") from error
        if not text:
            raise ValueError(f"{value!r} is not an encoding of text")
        return codec.name

    @field_validator("columns")
    @classmethod
    def _known_types(cls, value: dict[str, str]) -> dict[str, str]:
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("two columns have the same name; upper and lower case do not tell columns apart")
        return {name: parse_column_type(declared) for name, declared in value.items()}


class ParquetExtractor(Spec):
    """Reads one or many Parquet files."""

    model_config = ConfigDict(title="Parquet files")
    type: Literal["parquet"] = Field(title="Type", description="Reads Parquet files.")
    path: PathText = Field(
        title="Path",
        description="A file, a folder (with its subfolders), or a pattern with * and **; relative to the data folder.",
    )


Mode = Literal["replace", "append", "upsert"]


class TableLoader(Spec):
    """What all loaders into a table share."""

    table_name: TableText = Field(title="Table", description="Table, or schema.table; made when it is not there.")
    mode: Mode = Field("replace", title="Mode", description="replace the table, append rows, or upsert rows by key.")
    key: tuple[Annotated[str, Field(min_length=1, max_length=257)], ...] = Field(
        (),
        title="Key",
        max_length=50,
        validate_default=True,
        description="Columns that tell rows apart; needed for upsert, and only for it.",
    )

    @field_validator("key")
    @classmethod
    def _key_fits_mode(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        mode = info.data.get("mode")
        if mode == "upsert" and not value:
            raise ValueError("mode upsert needs the columns of the key")
        if mode in ("replace", "append") and value:
            raise ValueError(f"mode {mode} takes no key")
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("a column stands twice in the key")
        return value


class DuckDBLoader(TableLoader):
    """Loads a table of a DuckDB file."""

    model_config = ConfigDict(title="DuckDB file")
    type: Literal["duckdb"] = Field(title="Type", description="Loads into a DuckDB file.")
    db_path: PathText = Field(
        title="Database file", description="DuckDB file, relative to the data folder, made when it is not there."
    )


class WarehouseLoader(TableLoader):
    """Loads a table of the instance's own DuckDB."""

    model_config = ConfigDict(title="Warehouse")
    type: Literal["warehouse"] = Field(title="Type", description="Loads into this instance's own DuckDB.")


Extractor = Annotated[ApiExtractor | CsvExtractor | ParquetExtractor, Field(discriminator="type")]
Loader = Annotated[DuckDBLoader | WarehouseLoader, Field(discriminator="type")]
_EXTRACTOR: TypeAdapter[Extractor] = TypeAdapter(Extractor)
_LOADER: TypeAdapter[Loader] = TypeAdapter(Loader)
_EXTRACTORS: tuple[type[Spec], ...] = (ApiExtractor, CsvExtractor, ParquetExtractor)
_LOADERS: tuple[type[Spec], ...] = (DuckDBLoader, WarehouseLoader)


def parse_extractor(config: Mapping[str, Any]) -> Extractor:
    """Read an extractor's configuration; raises pydantic.ValidationError that names each wrong field."""
    return _EXTRACTOR.validate_python(dict(config))


def parse_loader(config: Mapping[str, Any]) -> Loader:
    """Read a loader's configuration; raises pydantic.ValidationError that names each wrong field."""
    return _LOADER.validate_python(dict(config))


def extractor_json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each extractor by its type."""
    return {_type_of(model): model.model_json_schema() for model in _EXTRACTORS}


def loader_json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each loader by its type."""
    return {_type_of(model): model.model_json_schema() for model in _LOADERS}


def _type_of(model: type[Spec]) -> str:
    (name,) = model.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
    return str(name)
