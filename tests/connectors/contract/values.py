"""Values of every type in forms that can be compared, whichever type a destination keeps them in."""

import json
import uuid
from contextlib import suppress
from datetime import UTC
from decimal import Decimal
from typing import Any

import pyarrow as pa

from webapp.engine.connectors.types import arrow_type


def array(kind: str, *values: Any) -> pa.Array:
    """The values as Arrow carries a type of ours."""
    return pa.array(list(values), arrow_type(kind))


def plain(kind: str, values: pa.ChunkedArray | pa.Array) -> list[str]:
    """The values as texts that are equal when the values are."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        return [repr(value) for value in values.cast(pa.int64()).to_pylist()]
    if kind.endswith("INT") or kind.startswith("DECIMAL"):
        return [
            repr(None if value is None else format(value, "f") if isinstance(value, Decimal) else str(value))
            for value in values.to_pylist()
        ]
    return [_text(kind, value) for value in values.to_pylist()]


def _text(kind: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes) and kind == "UUID":
        value = uuid.UUID(bytes=value)
    if kind == "UUID":
        return str(value)
    if kind == "BOOLEAN":
        return str(bool(value))
    if kind == "TIME":  # as text it may have fewer digits
        return str(value).rstrip("0").rstrip(".") if "." in str(value) else str(value)
    if isinstance(value, float):
        value += 0.0  # a negative zero equals zero
    if kind == "JSON" or kind.startswith("STRUCT"):
        with suppress(ValueError, TypeError):
            value = json.loads(value)
        return json.dumps(value, sort_keys=True, default=str)
    if kind.endswith("]"):
        with suppress(ValueError, TypeError):
            value = json.loads(value)
        return f"[{', '.join(_text(kind[:-2], one) for one in value)}]"
    if kind == "TIMESTAMP WITH TIME ZONE" and hasattr(value, "timestamp"):
        return repr((value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat())
    return repr(value)
