"""S3, Google Cloud Storage and Azure as places with files, through PyArrow's file systems.

Keys come from the configuration alone: the keys that this machine may have for itself are never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.connectors.files.storage import FileEntry, Storage, chosen, fixed_folder, missing, no_right
from webapp.engine.connectors.trials import Step
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

if TYPE_CHECKING:
    from pyarrow import fs

_CONNECT, _REQUEST = 8, 30
_GCS = "storage.googleapis.com"
_DENIED = ("ACCESS_DENIED", "AccessDenied", "InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID", "SignatureDoesNotMatch",
           "SIGNATURE_DOES_NOT_MATCH", "INVALID_SIGNATURE", "403", "401", "AuthenticationFailed", "PERMISSION_DENIED",
           "UNAUTHENTICATED", "EXPIRED_TOKEN", "ExpiredToken")  # fmt: skip
_UNREACHED = ("NETWORK_CONNECTION", "curlCode", "timeout", "Timeout", "Could not connect", "SLOW_DOWN",
              "SERVICE_UNAVAILABLE", "Connection refused", "Fail to get a new connection")  # fmt: skip


class ObjectStorage(Storage):
    """A bucket or container."""

    def __init__(self, config: FilesSourceSpec, context: Context) -> None:
        super().__init__(config, context)
        self._system: fs.FileSystem | None = None

    def steps(self) -> list[Step]:
        """Find the server, log in, list something."""
        return [("resolve", self._resolved), ("log in", self._listed)]

    def files(self, path: str) -> list[FileEntry]:
        """What the bucket holds under the path."""
        from pyarrow import fs

        self._resolved()
        base = f"{self.config.bucket}/{fixed_folder(path).strip('/')}".rstrip("/")
        with _explained(base):
            (info,) = self._connected().get_file_info([base])
            if info.type == fs.FileType.File:
                infos = [info]
            else:
                selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
                infos = self._connected().get_file_info(selector)
        prefix = len(self.config.bucket) + 1
        found = [FileEntry(info.path[prefix:], info.size, info.mtime)
                 for info in infos if info.type == fs.FileType.File]  # fmt: skip
        return chosen(path.strip("/"), found)

    @contextmanager
    def brought(self, entry: FileEntry, folder: Path) -> Iterator[Path]:
        """A copy in the folder, taken away at the end."""
        target = folder / f"{uuid4().hex}-{entry.name}"
        try:
            with (
                _explained(entry.path),
                self._connected().open_input_stream(f"{self.config.bucket}/{entry.path}", compression=None) as incoming,
            ):
                self.copied(incoming, target)
            yield target
        finally:
            target.unlink(missing_ok=True)

    def _resolved(self) -> str:
        host, port = _host_of(self.config)
        return checked_address(host, port, allow_private=self.context.allow_private_addresses)

    def _listed(self) -> str:
        from pyarrow import fs

        with _explained(self.config.bucket):
            (info,) = self._connected().get_file_info([self.config.bucket])
            if info.type == fs.FileType.NotFound:
                raise missing(self.config.bucket)
            # Only listing shows whether the keys are right: some servers say that a bucket is there to anyone.
            folder = f"{self.config.bucket}/{fixed_folder(self.config.paths()[0]).strip('/')}".rstrip("/")
            selector = fs.FileSelector(folder, allow_not_found=True)
            return f"{len(self._connected().get_file_info(selector))} entries in {folder}"

    def _connected(self) -> fs.FileSystem:
        if self._system is None:
            self._system = _file_system(self.config)
        return self._system


def _file_system(config: FilesSourceSpec) -> fs.FileSystem:
    if config.storage == "azure":
        return _azure(config)
    if config.storage == "gcs" and not config.access_key_id:
        return _gcs(config)
    return _s3(config)


def _s3(config: FilesSourceSpec) -> fs.FileSystem:
    from pyarrow import fs

    scheme, place = _endpoint(config)
    if config.storage == "gcs" and not place:
        place = _GCS
    secret = config.secret_access_key
    token = config.session_token
    keys = {} if secret is None else {"access_key": config.access_key_id, "secret_key": secret.get_secret_value()}
    if keys and token is not None:
        keys["session_token"] = token.get_secret_value()
    return fs.S3FileSystem(
        anonymous=not keys, region=config.region, scheme=scheme, endpoint_override=place or None,
        connect_timeout=_CONNECT, request_timeout=_REQUEST,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2), **keys,
    )  # fmt: skip


def _gcs(config: FilesSourceSpec) -> fs.FileSystem:
    from pyarrow import fs

    scheme, place = _endpoint(config)
    token = config.access_token
    access = (
        {"anonymous": True}
        if token is None
        else {"access_token": token.get_secret_value(),
              "credential_token_expiration": datetime.now(UTC) + timedelta(hours=1)}
    )  # fmt: skip
    return fs.GcsFileSystem(
        scheme=scheme, endpoint_override=place or None, retry_time_limit=timedelta(seconds=_CONNECT), **access
    )


def _sas(token: str) -> str:
    """The token as pyarrow puts it behind addresses."""
    return "?" + token.strip().removeprefix("?")


def _azure(config: FilesSourceSpec) -> fs.FileSystem:
    from pyarrow import fs

    if config.account_key is None and config.sas_token is None:
        raise EngineError("Azure needs an account key or a SAS token", origin=Origin.SOURCE,
                          fix="Fill in account_key or sas_token.")  # fmt: skip
    scheme, place = _endpoint(config)
    server = {"blob_storage_authority": place, "blob_storage_scheme": scheme, "dfs_storage_authority": place,
              "dfs_storage_scheme": scheme} if place else {}  # fmt: skip
    return fs.AzureFileSystem(
        config.account_name,
        account_key=config.account_key.get_secret_value() if config.account_key else None,
        sas_token=_sas(config.sas_token.get_secret_value()) if config.sas_token and not config.account_key else None,
        **server,
    )


def _endpoint(config: FilesSourceSpec) -> tuple[str, str]:
    if not config.endpoint_url:
        return "https", ""
    parts = urlsplit(config.endpoint_url if "://" in config.endpoint_url else f"https://{config.endpoint_url}")
    return parts.scheme, parts.netloc


def _host_of(config: FilesSourceSpec) -> tuple[str, int]:
    scheme, place = _endpoint(config)
    parts = urlsplit(f"{scheme}://{place}")
    try:
        port = parts.port or (443 if scheme == "https" else 80)
    except ValueError as error:
        raise EngineError(f"endpoint {config.endpoint_url!r} has no usable port", origin=Origin.SOURCE,
                          fix="Correct the endpoint.") from error  # fmt: skip
    known = {"s3": f"s3.{config.region}.amazonaws.com", "gcs": _GCS,
             "azure": f"{config.account_name}.blob.core.windows.net"}  # fmt: skip
    return parts.hostname or known[config.storage], port


@contextmanager
def _explained(path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, pa.ArrowException) as error:
        raise _fault(str(error), path) from error


def _fault(text: str, path: str) -> EngineError:
    if any(word in text for word in _UNREACHED):
        return EngineError(f"the server with {path!r} cannot be reached", origin=Origin.SOURCE, kind=Kind.TRANSIENT,
                           path=path, fix="Check the endpoint, and that its server runs.")  # fmt: skip
    if any(word in text for word in _DENIED):
        return no_right(path, "the server refuses the keys")
    if "does not exist" in text or "NO_SUCH" in text or "404" in text:
        return missing(path)
    if "No space left" in text:
        return EngineError("the disk is full", origin=Origin.PLATFORM, kind=Kind.SYSTEM, permanent=False,
                           fix="Free some space where the temporary folder is.")  # fmt: skip
    return EngineError(f"{path!r} cannot be read: {text[:300]}", origin=Origin.SOURCE, kind=Kind.TRANSIENT, path=path,
                       fix="Check the endpoint, the region and the bucket.")  # fmt: skip
