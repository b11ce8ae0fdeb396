"""What disks, stores and DuckDB say when something goes wrong, as facts; no secrets in them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from webapp.engine.errors import EngineError, Kind, Origin


@dataclass(frozen=True)
class _Fault:
    words: tuple[str, ...]
    message: str
    kind: Kind
    fix: str
    origin: Origin = Origin.DESTINATION
    permanent: bool | None = None


# What stands behind an address may be a signature.
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s'\"]*=[^\s'\"]*")
_NO_BUCKET = "the bucket does not exist"
_MAKE_IT = "Create the bucket, or correct its name."
_KNOWN = (
    _Fault(
        ("No space left", "Disk quota", "File too large", "max_temp_directory_size"),
        "the disk is full",
        Kind.SYSTEM,
        "Free some space where the files and the temporary folder are.",
        permanent=False,
    ),
    _Fault(
        ("NO_SUCH_BUCKET", "NoSuchBucket", "bucket does not exist", "ContainerNotFound"),
        _NO_BUCKET,
        Kind.CONFIGURATION,
        _MAKE_IT,
    ),
    _Fault(
        ("InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID", "SignatureDoesNotMatch", "SIGNATURE_DOES_NOT_MATCH",
         "UNAUTHENTICATED", "AuthenticationFailed", "failed to authenticate", "NoAuthenticationInformation",
         "Base64 encoded"),
        "the store refuses the keys",
        Kind.CONFIGURATION,
        "Check the keys or the token; a token may have ended.",
    ),
    _Fault(
        ("ACCESS_DENIED", "AccessDenied", "HTTP response code: 403", "HTTP status code 403", "Forbidden",
         "PERMISSION_DENIED", "AuthorizationFailure", "AuthorizationPermissionMismatch"),
        "the store denies access",
        Kind.CONFIGURATION,
        "Check the keys, and that they may list, read, write and delete below the path.",
    ),
    # Behind the stores' words: Google's refusals say this, too.
    _Fault(
        ("Permission denied", "Read-only file system"),
        "the folder cannot be written",
        Kind.SYSTEM,
        "Give the worker's user the right to write there.",
    ),
    _Fault(
        ("Could not connect", "couldn't connect", "Couldn't connect", "Connection refused", "curlCode", "timed out",
         "Connection reset", "NETWORK_CONNECTION", "SlowDown", "ServerBusy", "UNAVAILABLE",
         "response code: 503", "response code: 500"),
        "the store does not answer",
        Kind.TRANSIENT,
        "Check the endpoint, and that the store runs.",
    ),
    _Fault(
        ("Out of Memory", "could not allocate", "failed to allocate"),
        "the load needs more memory than it may use",
        Kind.SYSTEM,
        "Raise the memory limit, or load in smaller parts.",
        Origin.PLATFORM,
    ),
    _Fault(
        ("Conversion Error", "Could not convert", "Could not cast"),
        "a value does not fit its column's type",
        Kind.CONFIGURATION,
        "Discover the stream again, or correct the value at the source.",
        Origin.SOURCE,
    ),
    # Google's says of an upload only that something is not there: it is the bucket.
    _Fault(("function=CreateResumableUpload", "function=InsertObject"), _NO_BUCKET, Kind.CONFIGURATION, _MAKE_IT),
)  # fmt: skip


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn what DuckDB, Arrow and the operating system raise in the block into EngineErrors."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise fault(error, shown) from error


def fault(error: BaseException, shown: str) -> EngineError:
    """The failure in our words; `shown` is the place's name in messages."""
    text = str(error)
    first = _QUERY.sub("", text.strip().partition("\n")[0])[:300]
    for known in _KNOWN:
        if any(word in text for word in known.words):
            return EngineError(
                f"{shown}: {known.message} ({first})",
                origin=known.origin,
                kind=known.kind,
                permanent=known.permanent,
                fix=known.fix,
            )
    return EngineError(f"{shown}: {first}", origin=Origin.DESTINATION, kind=Kind.SYSTEM, permanent=False)


def destination_fault(message: str, fix: str, kind: Kind = Kind.CONFIGURATION) -> EngineError:
    """An error of the destination with its fix."""
    return EngineError(message, origin=Origin.DESTINATION, kind=kind, fix=fix)


def no_generation(shown: str, generation: str) -> EngineError:
    """The error for an earlier content that is not there."""
    return destination_fault(
        f"{shown} has no earlier content {generation!r}", "Choose one of those that are still kept."
    )


def no_bucket(shown: str) -> EngineError:
    """The error for a bucket or container that is not there."""
    return destination_fault(f"{shown}: {_NO_BUCKET}", _MAKE_IT)
