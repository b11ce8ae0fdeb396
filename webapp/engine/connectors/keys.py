"""The key of an upsert, looked at before rows are matched by it."""

from webapp.engine.connectors.base import Load, Write
from webapp.engine.errors import EngineError, Kind, Origin


def check_key(load: Load) -> None:
    """Refuse an upsert without a key, or with one that the load does not bring. Raises EngineError."""
    if load.write is not Write.UPSERT:
        return
    if not load.key:
        raise _wrong(
            f"{load.target.label}: rows are to be matched by key, and no key is chosen",
            "Choose a key for the stream, or switch to append.",
        )
    missing = sorted(set(load.key) - {column.name for column in load.columns})
    if missing:
        raise _wrong(
            f"{load.target.label}: the key names {', '.join(missing)}, which the stream does not bring",
            "Choose the key's columns in the stream, or choose another key.",
        )


def check_no_nulls(load: Load, rows: int) -> None:
    """Refuse rows without a value in the key, of which there are so many. Raises EngineError."""
    if rows:
        raise _wrong(
            f"{load.target.label}: {rows} rows have no value in the key ({', '.join(load.key)})",
            "Choose a key that every row has, or switch to append.",
        )


def _wrong(message: str, fix: str) -> EngineError:
    return EngineError(message, origin=Origin.DESTINATION, kind=Kind.CONFIGURATION, fix=fix)
