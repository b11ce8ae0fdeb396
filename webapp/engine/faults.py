"""DuckDB's complaints about a load as a whole, as facts: full disks, full memory, broken constraints, what remains."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.sources import Source


@dataclass(frozen=True)
class _Fault:
    words: tuple[str, ...]
    message: str
    origin: Origin
    kind: Kind
    permanent: bool
    fix: str


_KNOWN = (
    _Fault(
        ("No space left", "File too large", "Disk quota", "disk is full", "max_temp_directory_size", "disk space"),
        "the disk is full",
        Origin.DESTINATION,
        Kind.SYSTEM,
        False,
        "Free some space where the database file and the temporary folder are.",
    ),
    _Fault(
        ("Out of Memory", "could not allocate", "failed to allocate"),
        "the load needs more memory than it may use",
        Origin.PLATFORM,
        Kind.SYSTEM,
        True,
        "Raise the memory limit, or load in smaller parts.",
    ),
    _Fault(
        ("Read-only file system", "Permission denied", "read-only"),
        "the destination cannot be written",
        Origin.DESTINATION,
        Kind.SYSTEM,
        True,
        "Give the worker's user the right to write there.",
    ),
    _Fault(
        ("Input/output error",), "the disk reports an error", Origin.PLATFORM, Kind.SYSTEM, False, "Check the disk."
    ),
)


@contextmanager
def explained(source: Source, shown: str) -> Iterator[None]:
    """Turn any error of DuckDB in the block into an EngineError; interrupts pass through as they are."""
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise _known_fault(error, shown) or source.explain(error) or _other(error, shown) from error


def _known_fault(error: duckdb.Error, shown: str) -> EngineError | None:
    text = str(error)
    if isinstance(error, duckdb.ConversionException | duckdb.InvalidInputException) and "CSV Error" in text:
        return None
    for fault in _KNOWN:
        if any(word in text for word in fault.words):
            return EngineError(
                f"{fault.message}: {_first_line(text)}",
                origin=fault.origin,
                kind=fault.kind,
                permanent=fault.permanent,
                fix=fault.fix,
                database=shown,
            )
    return None


def _other(error: duckdb.Error, shown: str) -> EngineError:
    line = _first_line(str(error))
    if isinstance(error, duckdb.ConstraintException):
        return EngineError(
            f"a rule of the table in {shown} refuses the rows: {line}",
            origin=Origin.DESTINATION,
            database=shown,
            fix="Correct the rows, or use mode upsert.",
        )
    if isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException):
        return EngineError(f"a value does not fit its column: {line}", origin=Origin.TRANSFORM, database=shown)
    if isinstance(error, duckdb.IOException | duckdb.FatalException | duckdb.InternalException):
        return EngineError(
            f"DuckDB failed on {shown}: {line}",
            origin=Origin.DESTINATION,
            kind=Kind.SYSTEM,
            permanent=False,
            database=shown,
        )
    return EngineError(f"DuckDB refuses the load into {shown}: {line}", origin=Origin.TRANSFORM, database=shown)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else "no reason given"
