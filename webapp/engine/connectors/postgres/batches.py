"""Batches of the driver made to fit a schema: texts become decimals, what Arrow cannot hold becomes null."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

# 4714 BC, where PostgreSQL begins, in microseconds and days; its infinities come out below that.
_FIRST_MICROSECOND = -210866803200000000
_FIRST_DAY = -2440588
_LAST_DAY = 2145031948  # 5874897-12-31
_NOT_NUMBERS = ("nan", "inf", "-inf", "NaN", "Infinity", "-Infinity")


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly this schema. Raises pyarrow.ArrowInvalid that names a column whose value does not fit."""
    return pa.RecordBatch.from_arrays(
        [_fit_named(column, field) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
    )


def _fit_named(array: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return _fit(array, field.type)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"{field.name}: {error}") from error


def _fit(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_list(kind) and pa.types.is_list(array.type):
        return _fit_list(array, kind)
    if pa.types.is_decimal(kind) and pa.types.is_string(array.type):
        return _decimals(array, kind)
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(array.type):
        return _finite(array, pa.int64(), _FIRST_MICROSECOND, None).cast(kind)
    if pa.types.is_date32(kind) and pa.types.is_date32(array.type):
        return _finite(array, pa.int32(), _FIRST_DAY, _LAST_DAY)
    return array if array.type == kind else array.cast(kind)


def _fit_list(array: pa.ListArray, kind: pa.ListType) -> pa.Array:
    values = _fit(array.values, kind.value_type)
    if not array.null_count:
        return pa.ListArray.from_arrays(array.offsets, values, type=kind)
    # Offsets of a slice cannot carry a mask: null lists are told by the offsets themselves.
    offsets = pc.if_else(
        pa.concat_arrays([array.is_valid(), pa.array([True])]), array.offsets, pa.scalar(None, pa.int32())
    )
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def _decimals(array: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        odd = pc.is_in(array, value_set=pa.array(_NOT_NUMBERS))
        return pc.if_else(odd, pa.scalar(None, pa.string()), array).cast(kind)


def _finite(array: pa.Array, plain: pa.DataType, first: int, last: int | None) -> pa.Array:
    ends = pc.min_max(array.view(plain)).as_py()
    if ends["min"] is None or (ends["min"] >= first and (last is None or ends["max"] <= last)):
        return array
    numbers = array.view(plain)
    inside = pc.greater_equal(numbers, pa.scalar(first, plain))
    if last is not None:
        inside = pc.and_(inside, pc.less_equal(numbers, pa.scalar(last, plain)))
    return pc.if_else(inside, array, pa.scalar(None, array.type))
