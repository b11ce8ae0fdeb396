"""Where Parquet files go, in contract 002's words."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from webapp.engine.connectors.base import ConnectorSpec

# What clients of contract 003 call the same things; `type` and `writer` have no other names.
_SYNONYMS = {"containerName": "azure_container", "accountName": "azure_account_name",
             "accountKey": "azure_account_key", "bucketName": "gcs_bucket"}  # fmt: skip


_SECTIONS = {"s3": "Amazon S3, or a store that speaks S3", "gcs": "Google Cloud Storage", "azure": "Azure Blob Storage"}


def _sectioned(schema: dict[str, Any]) -> None:
    """Say of each field of a cloud whose it is: a form folds away those that are not used."""
    for name, described in schema["properties"].items():
        if section := _SECTIONS.get(name.partition("_")[0]):
            described["x-section"] = section


class FolderOrS3(BaseModel):
    """A folder of this instance, or a bucket of S3."""

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra=_sectioned)
    local_path: str = Field(
        "",
        title="Folder",
        max_length=4096,
        description="A folder relative to the data folder. Used when no bucket is named.",
    )
    s3_bucket: str = Field("", title="Bucket", max_length=255, description="S3 bucket, without s3://; it must exist.")
    s3_path: str = Field("", title="Path in the bucket", max_length=1024, description="Files go below this prefix.")
    s3_region: str = Field("", title="Region", max_length=64, description="For example eu-central-1.")
    s3_endpoint: str = Field(
        "",
        title="Endpoint",
        max_length=1024,
        description="Only for S3-compatible stores: their address, for example https://minio.example.org:9000.",
    )
    s3_access_key: str = Field(
        "", title="Access key", max_length=256, description="Empty: the credentials of the machine."
    )
    s3_secret_key: SecretStr = Field(SecretStr(""), title="Secret key", description="Never shown again.")
    compression: Literal["snappy", "zstd"] = Field(
        "snappy", title="Compression", description="snappy writes faster, zstd makes smaller files."
    )

    @property
    def bucket(self) -> str:
        """The bucket's plain name; empty: files go to the folder."""
        return self.s3_bucket.strip().removeprefix("s3://").strip("/")

    @property
    def prefix(self) -> str:
        """Where in the bucket files go."""
        return self.s3_path.strip("/")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.local_path.strip() and not self.bucket:
            raise ValueError(f"name {self._choices} or a folder (local_path)")
        return self

    _choices: ClassVar[str] = "a bucket (s3_bucket)"


class ParquetWriter(FolderOrS3):
    """A folder of this instance, or a bucket or container of a cloud."""

    _choices: ClassVar[str] = "a bucket (s3_bucket, gcs_bucket), a container (azure_container)"
    gcs_bucket: str = Field(
        "", title="Bucket of Google Cloud Storage", max_length=255, description="Without gs://; it must exist."
    )
    gcs_path: str = Field("", title="Path in Google's bucket", max_length=1024, description="Files go below it.")
    gcs_endpoint: str = Field(
        "", title="Endpoint of Google Cloud Storage", max_length=1024, description="Only for another server."
    )
    gcs_access_token: SecretStr = Field(
        SecretStr(""),
        title="Access token",
        description="Google: an OAuth2 token, good for an hour. Empty: the credentials of the machine; none are "
        "sent to another endpoint.",
    )
    azure_container: str = Field("", title="Container of Azure", max_length=63, description="It must exist.")
    azure_path: str = Field("", title="Path in the container", max_length=1024, description="Files go below it.")
    azure_endpoint: str = Field("", title="Endpoint of Azure", max_length=1024, description="Only for another server.")
    azure_account_name: str = Field(
        "", title="Account", pattern="^([a-z0-9]{3,24})?$", description="Azure: the storage account."
    )
    azure_account_key: SecretStr = Field(SecretStr(""), title="Account key", description="Azure: key of the account.")
    azure_sas_token: SecretStr = Field(SecretStr(""), title="SAS token", description="Azure: instead of the key.")

    @property
    def bucket(self) -> str:
        """The plain name of the bucket or container."""
        google = self.gcs_bucket.strip().removeprefix("gs://").strip("/")
        return super().bucket or google or self.azure_container.strip().strip("/")

    @property
    def prefix(self) -> str:
        """Where in it files go."""
        return {"s3": self.s3_path, "gcs": self.gcs_path, "azure": self.azure_path}[self.cloud].strip("/")

    @property
    def cloud(self) -> Literal["s3", "gcs", "azure"]:
        """Whose bucket it is."""
        if self.gcs_bucket.strip():
            return "gcs"
        return "azure" if self.azure_container.strip() else "s3"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        named = [name for name in ("s3_bucket", "gcs_bucket", "azure_container") if getattr(self, name).strip()]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)}: name one of them")
        if self.azure_container.strip():
            if not self.azure_account_name:
                raise ValueError("azure_account_name: name the storage account")
            if bool(self.azure_account_key.get_secret_value()) == bool(self.azure_sas_token.get_secret_value()):
                raise ValueError("azure_account_key or azure_sas_token: give one of them")
        return self


class ParquetSpec(ConnectorSpec):
    """Parquet files, one folder for each table."""

    model_config = ConfigDict(title="Parquet (a bucket or a folder)", extra="ignore", frozen=True)
    type: Literal["PARQUET"] = Field("PARQUET", title="Format", description="Files are Parquet.")
    writer: ParquetWriter = Field(title="Where", description="A bucket, or a folder of this instance.")

    @model_validator(mode="before")
    @classmethod
    def _wrapped(cls, value: Any) -> Any:
        """Take the flat form, too: the writer's fields without `writer` around them."""
        return _in_our_words(wrapped(value, "PARQUET"))

    def endpoint(self) -> str:
        """The store and the bucket, or the folder."""
        writer = self.writer
        place = {
            "s3": f"{writer.s3_endpoint}/{writer.s3_bucket}",
            "gcs": f"{writer.gcs_endpoint}/gs://{writer.gcs_bucket}",
            "azure": f"{writer.azure_endpoint}/{writer.azure_account_name}/{writer.azure_container}",
        }
        return place[writer.cloud] if writer.bucket else writer.local_path


def wrapped(value: Any, kind: str) -> Any:
    """The configuration with its writer's fields inside `writer`, and the type in upper case."""
    if not isinstance(value, Mapping):
        return value
    inner = value.get("writer")
    if inner is None:
        inner = {name: item for name, item in value.items() if name != "type"}
    named = value.get("type") or kind
    return {"type": named.upper() if isinstance(named, str) else named, "writer": inner}


def _in_our_words(value: Any) -> Any:
    """The configuration with contract 003's names for the writer's fields taken for ours."""
    if not isinstance(value, Mapping) or not isinstance(value["writer"], Mapping):
        return value
    if value["writer"].get("serviceAccountKey"):
        raise ValueError("serviceAccountKey: not taken here; give gcs_access_token, or give the machine credentials")
    return {**value, "writer": {_SYNONYMS.get(name, name): item for name, item in value["writer"].items()}}
