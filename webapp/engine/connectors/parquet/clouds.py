"""Which cloud a bucket is in: S3, Google Cloud Storage or Azure, each as a file system."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from webapp.engine.connectors.parquet.bucket import BucketStore, checked_endpoint, file_system
from webapp.engine.connectors.parquet.faults import explained
from webapp.engine.connectors.parquet.spec import FolderOrS3, ParquetWriter
from webapp.engine.context import Context

if TYPE_CHECKING:
    from pyarrow import fs

_GOOGLE = "https://storage.googleapis.com"
_PATIENCE = timedelta(seconds=5)
"""For what may pass; a step of a test has ten seconds."""


def bucket_steps(config: FolderOrS3, context: Context) -> list[tuple[str, Callable[[], str]]]:
    """The steps of a test: the endpoint's address, the keys, a small object."""

    def store() -> BucketStore:
        return BucketStore(opened(config, context), config, context)

    def resolve() -> str:
        return "Amazon S3" if (url := _address(config)) == "" else checked_endpoint(url, context)[1]

    return [("resolve", resolve), ("log in", lambda: store().look()), ("write", lambda: store().probe())]


def opened(config: FolderOrS3, context: Context) -> fs.FileSystem:
    """The store as a file system; nothing is asked of it yet. Raises EngineError."""
    if not isinstance(config, ParquetWriter) or config.cloud == "s3":
        return file_system(config, context)
    return (_google if config.cloud == "gcs" else _azure)(config, context)


def _address(config: FolderOrS3) -> str:
    """Where the store is; empty for Amazon's own."""
    if not isinstance(config, ParquetWriter) or config.cloud == "s3":
        return config.s3_endpoint
    if config.cloud == "gcs":
        return config.gcs_endpoint or _GOOGLE
    return config.azure_endpoint or f"https://{config.azure_account_name}.blob.core.windows.net"


def _google(config: ParquetWriter, context: Context) -> fs.FileSystem:
    from pyarrow import fs

    scheme, place = checked_endpoint(_address(config), context)
    token = config.gcs_access_token.get_secret_value()
    # The machine's own credentials are for Google alone: a token that another server hears would be good there.
    access = (
        {"access_token": token, "credential_token_expiration": datetime.now(UTC) + timedelta(hours=1)}
        if token
        else {"anonymous": bool(config.gcs_endpoint)}
    )
    server = {"scheme": scheme, "endpoint_override": place} if config.gcs_endpoint else {}
    with explained(f"the bucket {config.bucket}"):
        return fs.GcsFileSystem(retry_time_limit=_PATIENCE, **access, **server)


def _azure(config: ParquetWriter, context: Context) -> fs.FileSystem:
    from pyarrow import fs

    scheme, place = checked_endpoint(_address(config), context)
    server = {"blob_storage_authority": place, "blob_storage_scheme": scheme,
              "dfs_storage_authority": place, "dfs_storage_scheme": scheme}  # fmt: skip
    sas = config.azure_sas_token.get_secret_value().strip().removeprefix("?")
    with explained(f"the container {config.bucket}"):
        return fs.AzureFileSystem(
            config.azure_account_name,
            account_key=config.azure_account_key.get_secret_value() or None,
            sas_token=f"?{sas}" if sas else None,  # put behind addresses as it is
            **(server if config.azure_endpoint else {}),
        )
