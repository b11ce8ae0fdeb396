"""What is needed to read files, wherever they lie."""

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from webapp.engine.column_types import parse_column_type
from webapp.engine.connectors.base import ConnectorSpec

_SCHEMES = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "http": "http",
            "https": "http", "sftp": "sftp", "file": "local"}  # fmt: skip
# What other engines call the same things.
_SYNONYMS = {"bucket_name": "bucket", "container": "bucket", "container_name": "bucket", "path_prefix": "path",
             "file_path": "path", "url": "path", "file_format": "format", "endpoint": "endpoint_url",
             "aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key",
             "access_key": "access_key_id", "secret_key": "secret_access_key", "account": "account_name"}  # fmt: skip

Storage = Literal["local", "s3", "gcs", "azure", "http", "sftp"]
Format = Literal["auto", "csv", "json", "jsonl", "parquet", "excel", "avro", "arrow"]


def _only(*storages: Storage) -> dict[str, Any]:
    """A field that only these kinds of storage have: a form need not show it for the others."""
    return {"x-storage": list(storages)}


def _text(title: str, description: str, *storages: Storage, longest: int, default: str = "") -> Any:
    return Field(default, title=title, max_length=longest, description=description, json_schema_extra=_only(*storages))


def _secret(title: str, description: str, *storages: Storage) -> Any:
    return Field(None, title=title, description=description, json_schema_extra=_only(*storages))


class NamedPath(BaseModel):
    """One stream: its name, and the files that belong to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(title="Name", min_length=1, max_length=200, description="Name of the stream.")
    path: str = Field(
        title="Path",
        min_length=1,
        max_length=4096,
        description="A file, a folder, or a pattern with * and ** for the files of this stream.",
    )


class FilesSourceSpec(ConnectorSpec):
    """Files: CSV, JSON, Parquet, Excel, Avro or Arrow, on this machine or elsewhere."""

    storage: Storage = Field("local", title="Where", description="Where the files lie.")
    format: Format = Field("auto", title="Format", description="auto goes by each file's ending.")
    path: str = Field(
        "",
        title="Path",
        max_length=4096,
        description="A file, a folder, or a pattern with * and **; for http the address. Each file name becomes a "
        "stream, or each folder where files lie in folders.",
    )
    streams: list[NamedPath] = Field(
        default_factory=list, title="Streams", max_length=1000, description="Named streams, instead of the path."
    )
    delimiter: str | None = Field(
        None, title="Delimiter", min_length=1, max_length=1, description="CSV: between fields; empty: by the first row."
    )
    header: bool = Field(True, title="Header row", description="CSV, Excel: whether the first line names the columns.")
    encoding: str = Field("utf-8", title="Encoding", max_length=40, description="CSV: character set of the files.")
    null_values: list[str] | None = Field(
        None, title="Null values", max_length=50, description="CSV: texts that mean no value; by default empty fields."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, title="Column types", description="CSV, JSON: declared types by column name."
    )
    sheet: str = Field("", title="Sheet", max_length=200, description="Excel: the sheet; empty: the first one.")
    bucket: str = _text("Bucket", "Bucket of S3 and GCS, container of Azure.", "s3", "gcs", "azure", longest=255)
    region: str = _text("Region", "S3: region of the bucket.", "s3", longest=100, default="us-east-1")
    endpoint_url: str = _text("Endpoint", "Address of another server that speaks S3, GCS or Azure.",
                              "s3", "gcs", "azure", longest=1000)  # fmt: skip
    access_key_id: str = _text("Access key", "S3, or an HMAC key of GCS.", "s3", "gcs", longest=500)
    secret_access_key: SecretStr | None = _secret("Secret key", "Belongs to the access key.", "s3", "gcs")
    session_token: SecretStr | None = _secret("Session token", "S3: of temporary keys.", "s3")
    access_token: SecretStr | None = _secret("Access token", "GCS: an OAuth2 token, for an hour.", "gcs")
    account_name: str = _text("Account", "Azure: the storage account.", "azure", longest=200)
    account_key: SecretStr | None = _secret("Account key", "Azure: key of the account.", "azure")
    sas_token: SecretStr | None = _secret("SAS token", "Azure: instead of the account key.", "azure")
    host: str = _text("Host", "SFTP: the server.", "sftp", longest=255)
    port: int = Field(
        22, title="Port", ge=1, le=65535, description="SFTP: the server's port.", json_schema_extra=_only("sftp")
    )
    username: str = _text("User name", "SFTP, or basic authentication of http.", "sftp", "http", longest=500)
    password: SecretStr | None = _secret("Password", "SFTP, or basic authentication of http.", "sftp", "http")
    private_key: SecretStr | None = _secret("Private key", "SFTP: OpenSSH or PEM text.", "sftp")
    passphrase: SecretStr | None = _secret("Passphrase", "SFTP: opens the private key.", "sftp")
    host_key_fingerprint: str = _text(
        "Host key fingerprint",
        "SFTP: SHA256:... as ssh-keygen -l shows it; a server with another key is refused.",
        "sftp",
        longest=200,
    )
    bearer_token: SecretStr | None = _secret("Bearer token", "http: sent as Authorization.", "http")

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        known = {**value}
        for theirs, ours in _SYNONYMS.items():
            if theirs in known:
                known.setdefault(ours, known.pop(theirs))
        if isinstance(known.get("format"), str):
            known["format"] = {"xlsx": "excel", "xls": "excel", "ndjson": "jsonl", "tsv": "csv"}.get(
                known["format"].lower(), known["format"].lower()
            )
        return _placed(known)

    @field_validator("columns")
    @classmethod
    def _known_types(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: parse_column_type(declared) for name, declared in value.items()}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.path and not self.streams and self.storage in ("local", "http"):
            raise ValueError("path: name a file, a folder or a pattern; or list streams")
        if self.storage in ("s3", "gcs", "azure") and not self.bucket:
            raise ValueError("bucket: name the bucket or container")
        if self.storage == "azure" and not self.account_name:
            raise ValueError("account_name: name the storage account")
        if self.storage == "sftp" and not (self.host and self.username):
            raise ValueError("host and username: both are needed for SFTP")
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("access_key_id and secret_access_key: give both, or none for a public bucket")
        if len({stream.name.lower() for stream in self.streams}) < len(self.streams):
            raise ValueError("streams: two streams have the same name")
        return self

    def endpoint(self) -> str:
        """Where secrets would be sent."""
        if self.storage == "http":
            return " ".join(sorted({urlsplit(path).netloc for path in self.paths()}))
        place = {"sftp": f"{self.host}:{self.port}", "azure": f"{self.account_name} {self.endpoint_url}"}
        return place.get(self.storage, self.endpoint_url)

    def paths(self) -> list[str]:
        """All paths that are named."""
        return [stream.path for stream in self.streams] or [self.path]


def _placed(config: dict[str, Any]) -> dict[str, Any]:
    """An address such as s3://bucket/folder taken apart."""
    path = config.get("path")
    scheme, _, rest = path.partition("://") if isinstance(path, str) else ("", "", "")
    storage = _SCHEMES.get(scheme.lower()) if rest else None
    if storage is None:
        if "storage" not in config and config.get("bucket"):
            config["storage"] = "azure" if config.get("account_name") else "s3"
        return config
    config["storage"] = storage
    if storage in ("s3", "gcs", "azure"):
        config["bucket"], _, config["path"] = rest.partition("/")
    elif storage == "sftp":
        parts = urlsplit(path)
        config.update(host=parts.hostname, path=parts.path, **({"port": parts.port} if parts.port else {}))
    elif storage == "local":
        config["path"] = rest
    return config
