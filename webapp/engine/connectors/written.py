"""Values as text, for destinations that have no type for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa


def as_text(array: pa.Array) -> pa.Array:
    """The values as texts: lists and structures as JSON, intervals as ISO 8601, others as Arrow writes them."""
    if pa.types.is_nested(array.type):
        return _each(array, lambda value: json.dumps(value, default=_plain, ensure_ascii=False))
    if pa.types.is_interval(array.type):
        return _each(array, lambda value: f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:.6f}S")
    return array.cast(pa.string())


def _each(array: pa.Array, write: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else write(value) for value in array.to_pylist()], pa.string())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
