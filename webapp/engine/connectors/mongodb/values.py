"""What BSON values become: a column for each field that was seen, everything else kept as JSON beside them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from webapp.engine.connectors.base import Column
from webapp.engine.errors import EngineError, Origin

REST = "_rest"
"""The column that holds, as JSON, the fields that have no column of their own."""


def columns_of(documents: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns that these documents need, `_id` first, `_rest` last."""
    kinds: dict[str, set[str]] = {"_id": set()}
    for document in documents:
        for name, value in document.items():
            kinds.setdefault(name, set())
            if value is not None:
                kinds[name].add(_kind(value))
    fields = [Column(name, _united(seen), name != "_id") for name, seen in kinds.items() if name != REST]
    return (*fields, Column(REST, "JSON"))


def _kind(value: Any) -> str:
    from bson import Decimal128, ObjectId

    for kinds, word in (
        (bool, "BOOLEAN"),
        (int, "BIGINT"),
        (float, "DOUBLE"),
        ((str, ObjectId, Decimal128), "VARCHAR"),
        (datetime, "TIMESTAMP WITH TIME ZONE"),
        (bytes, "BLOB"),
    ):
        if isinstance(value, kinds):
            return word
    return "JSON"


def _united(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {"BIGINT", "DOUBLE"}:
        return "DOUBLE"
    return "JSON" if "JSON" in kinds else "VARCHAR"


def row_of(document: Mapping[str, Any], columns: Sequence[Column], known: frozenset[str], label: str) -> dict[str, Any]:
    """The document as values of these columns; `known` are the fields that have one. Raises EngineError."""
    row = {}
    for column in columns:
        if column.name == REST:
            rest = {name: value for name, value in document.items() if name not in known}
            row[REST] = _json(rest) if rest else None
        else:
            row[column.name] = _fitted(document.get(column.name), column, label)
    return row


def _fitted(value: Any, column: Column, label: str) -> Any:
    if value is None:
        return None
    kind = _kind(value)
    if column.type == "JSON":
        return _json(value)
    if column.type == "VARCHAR":
        return _json(value) if kind in ("JSON", "BLOB") else _text(value)
    if kind == column.type:
        return value.astimezone(UTC) if isinstance(value, datetime) else value
    if column.type == "DOUBLE" and kind == "BIGINT" and int(float(value)) == value:
        return float(value)
    raise EngineError(
        f"{label}: a document holds {kind} in the field {column.name}, which was discovered as {column.type}",
        origin=Origin.SOURCE,
        fix="Discover the source again, so that the field becomes wide enough, and refresh the stream.",
        column=column.name,
    )


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _json(value: Any) -> str:
    from bson import json_util

    return json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)
