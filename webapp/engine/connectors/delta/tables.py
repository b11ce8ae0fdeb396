"""A Delta table: its columns, its state and its versions, as the log tells them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from webapp.engine.connectors.base import Column, Generation
from webapp.engine.connectors.parquet.faults import destination_fault

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema
    from deltalake.transaction import CommitProperties

STATE = "hohmann.state"
ROWS = "hohmann.rows"
APP = "hohmann"
DELTA_TYPES = {
    "UTINYINT": "SMALLINT", "USMALLINT": "INTEGER", "UINTEGER": "BIGINT", "UBIGINT": "DECIMAL(20,0)",
    "HUGEINT": "DECIMAL(38,0)", "TIMESTAMP_NS": "TIMESTAMP", "UUID": "VARCHAR", "JSON": "VARCHAR", "TIME": "VARCHAR",
    "INTERVAL": "VARCHAR",
}  # fmt: skip
"""What Delta has no type for travels in the next one that holds its values."""

_HOUSEKEEPING = ("VACUUM START", "VACUUM END", "OPTIMIZE")
_FEATURES = {"timestampNtz", "appendOnly", "invariants"}


@dataclass(frozen=True)
class Part:
    """One data file of a version: its path below the table, its rows (None: the log does not say) and its size."""

    path: str
    rows: int | None
    size: int
    values: tuple[tuple[str, str | None], ...] = ()


def parts_of(table: DeltaTable) -> list[Part]:
    """The data files of the table's version."""
    import pyarrow as pa

    return [
        Part(
            unquote(one["path"]),
            one["num_records"],
            one["size_bytes"],
            tuple((name, _text(value)) for name, value in (one.get("partition") or {}).items()),
        )
        for one in pa.table(table.get_add_actions()).to_pylist()
    ]


def _text(value: Any) -> str | None:
    """A partition value as the log writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return None if value is None else str(value)


def total_of(table: DeltaTable | None) -> int:
    """The rows of the table's version; counted by the library where the log does not say."""
    if table is None:
        return 0
    rows = [part.rows for part in parts_of(table)]
    return sum(count or 0 for count in rows) if None not in rows else int(table.count())


def table_columns(table: DeltaTable) -> tuple[Column, ...]:
    """The columns of the table's schema in our words."""
    import pyarrow as pa

    from webapp.engine.connectors.types import duckdb_type

    return tuple(Column(f.name, duckdb_type(f.type), f.nullable) for f in pa.schema(table.schema().to_arrow()))


def delta_schema(columns: Iterable[Column]) -> Schema:
    """A schema with these columns, all nullable, once `DELTA_TYPES` has been applied."""
    from deltalake import Schema

    from webapp.engine.connectors.types import arrow_schema

    return Schema.from_arrow(arrow_schema(columns))


def commit_properties(table: DeltaTable | None, state: str, rows: int) -> CommitProperties:
    """What makes a commit ours: the state, the total, and a number that two loads at once cannot both take."""
    from deltalake.transaction import CommitProperties, Transaction

    number = ((table.transaction_version(APP) if table else None) or 0) + 1
    return CommitProperties({STATE: state, ROWS: str(rows)}, 3, [Transaction(APP, number)])


def state_of(table: DeltaTable, at: int | None = None) -> dict[str, Any] | None:
    """The state in the newest commit (up to the version `at`) that carries one; None where no load of ours has been.

    The table must be the newest version: an older one numbers its history wrongly.

    The log is cut after its retention. A table that outlived the state of its rows says so by a state in doubt, for
    which everything is read again.
    """
    if table.transaction_version(APP) is None:
        return None
    for limit in (1, 20, None):
        for commit in table.history(limit):
            if STATE in commit and (at is None or commit["version"] <= at):
                return dict(json.loads(commit[STATE])) or None
    return {"doubt": True}


def generations_of(table: DeltaTable) -> list[Generation]:
    """The versions whose files no vacuum has taken, newest first; of those with one content, the last."""
    commits: Sequence[dict[str, Any]] = table.history()
    oldest = max((_vacuumed_to(commit) for commit in commits), default=0)
    found, rows = [], None
    for commit, newer in itertools.pairwise(reversed(commits)):
        if commit.get("operation") not in _HOUSEKEEPING:
            rows = int(commit[ROWS]) if ROWS in commit else None
        changed = newer.get("operation") not in _HOUSEKEEPING and commit.get("operation") != "ADD COLUMN"
        if changed and newer["timestamp"] > oldest:
            at = datetime.fromtimestamp(commit["timestamp"] / 1000, UTC).isoformat(timespec="seconds")
            found.append(Generation(str(commit["version"]), at, rows))
    return found[::-1]


def _vacuumed_to(commit: dict[str, Any]) -> int:
    """Files that were replaced before this moment (ms) may be gone."""
    if commit.get("operation") != "VACUUM START":
        return 0
    given = commit.get("operationParameters", {})
    kept = given.get("specifiedRetentionMillis") or given.get("defaultRetentionMillis") or 0
    return int(commit["timestamp"]) - int(kept)


def check_writable(table: DeltaTable, label: str) -> None:
    """Refuse to add files to a table that promises more than these files keep. Raises EngineError."""
    protocol, settings = table.protocol(), table.metadata().configuration
    features = {*(protocol.writer_features or ()), *(protocol.reader_features or ())}
    if protocol.min_writer_version > 2 and not protocol.writer_features:
        features.add(f"writer version {protocol.min_writer_version}")
    rules = [name for name in settings if name.startswith("delta.constraints.")]
    rules += [f"NOT NULL on {field.name}" for field in table.schema().fields if not field.nullable]
    rules += [f"a rule on {f.name}" for f in table.schema().fields if any(k.startswith("delta.") for k in f.metadata)]
    if beyond := [*sorted(features - _FEATURES), *rules]:
        raise destination_fault(
            f"{label} was made by another program with {', '.join(beyond[:3])}, which cannot be kept here",
            "Load with full refresh, which makes a plain table of it, or load into another table.",
        )
    if delta_schema(table_columns(table)).to_json() != table.schema().to_json():
        raise destination_fault(
            f"{label} has columns of types or with descriptions that cannot be written here",
            "Load with full refresh, or into another table.",
        )
