"""Iceberg's types and DuckDB's: which becomes which, and the field ids that data files bear."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from webapp.engine.connectors.base import Column, Partition
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.names import quoted

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.transforms import Transform
    from pyiceberg.types import IcebergType, NestedField

ICEBERG_TYPES: Mapping[str, str] = {
    "TINYINT": "INTEGER", "SMALLINT": "INTEGER", "UTINYINT": "INTEGER", "USMALLINT": "INTEGER",
    "UINTEGER": "BIGINT", "UBIGINT": "DECIMAL(20,0)", "HUGEINT": "DECIMAL(38,0)",
    "TIMESTAMP_NS": "TIMESTAMP", "JSON": "VARCHAR", "INTERVAL": "VARCHAR",
}  # fmt: skip
"""What Iceberg's second version has no type for travels in the next one that holds its values."""

_NAMES = {
    "boolean": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE",
    "string": "VARCHAR", "uuid": "UUID", "binary": "BLOB", "date": "DATE", "time": "TIME",
    "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMP WITH TIME ZONE", "timestamp_ns": "TIMESTAMP_NS",
}  # fmt: skip
_BACK = {theirs: ours for ours, theirs in _NAMES.items()}


def iceberg_schema(columns: Iterable[Column]) -> Schema:
    """A schema with these columns, all optional; a catalog gives ids of its own."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    ids = itertools.count(1)
    return Schema(*(NestedField(next(ids), c.name, iceberg_type(c.type, ids), required=False) for c in columns))


def iceberg_type(text: str, ids: Iterator[int]) -> IcebergType:
    """The Iceberg type for a DuckDB type that `ICEBERG_TYPES` has been applied to."""
    from pyiceberg.types import DecimalType, ListType, NestedField, PrimitiveType, StructType

    from webapp.engine.connectors.types import struct_fields

    if text.endswith("[]"):
        return ListType(next(ids), iceberg_type(text[:-2], ids), element_required=False)
    if text.startswith("STRUCT("):
        fields = [NestedField(next(ids), name, iceberg_type(kind, ids), False) for name, kind in struct_fields(text)]
        return StructType(*fields)
    if text.startswith("DECIMAL("):
        width, scale = text[len("DECIMAL(") : -1].split(",")
        return DecimalType(int(width), int(scale))
    if text not in _BACK:
        raise destination_fault(f"Iceberg has no type for {text}", "Leave the column out.")
    return PrimitiveType.model_validate(_BACK[text])


def table_columns(schema: Schema) -> tuple[Column, ...]:
    """The columns of a table in our words."""
    return tuple(Column(field.name, duckdb_text(field.field_type), not field.required) for field in schema.fields)


def duckdb_text(kind: IcebergType) -> str:
    """The DuckDB type for an Iceberg type."""
    from pyiceberg.types import DecimalType, FixedType, ListType, MapType, StructType

    if isinstance(kind, ListType):
        return duckdb_text(kind.element_type) + "[]"
    if isinstance(kind, StructType):
        return f"STRUCT({', '.join(f'{quoted(f.name)} {duckdb_text(f.field_type)}' for f in kind.fields)})"
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if isinstance(kind, MapType):
        return f"MAP({duckdb_text(kind.key_type)}, {duckdb_text(kind.value_type)})"
    return "BLOB" if isinstance(kind, FixedType) else _NAMES.get(str(kind), "VARCHAR")


def field_ids(schema: Schema) -> str:
    """The ids of all fields, as DuckDB's COPY takes them."""
    return f"{{{', '.join(_id(field.name, field.field_id, field.field_type) for field in schema.fields)}}}"


def _id(name: str, number: int, kind: IcebergType) -> str:
    from pyiceberg.types import ListType, StructType

    inner: list[str] = []
    if isinstance(kind, ListType):
        inner = [_id("element", kind.element_id, kind.element_type)]
    elif isinstance(kind, StructType):
        inner = [_id(field.name, field.field_id, field.field_type) for field in kind.fields]
    if not inner:
        return f"{quoted(name)}: {number}"
    return f"{quoted(name)}: {{__duckdb_field_id: {number}, {', '.join(inner)}}}"


def transform_of(partition: Partition) -> Transform[object, object]:
    """Iceberg's transform for a partition. Raises EngineError for one that cannot be written here."""
    from pyiceberg.transforms import parse_transform

    if partition.transform in ("identity", "year", "month", "day", "hour"):
        return parse_transform(partition.transform)
    if partition.transform in ("bucket", "truncate") and partition.width:
        return parse_transform(f"{partition.transform}[{int(partition.width)}]")
    raise destination_fault(
        f"tables cannot be partitioned by {partition.transform}({partition.column}) here",
        "Use identity, year, month, day, hour, bucket with a width, or truncate with a width.",
    )


def source_field(schema: Schema, partition: Partition) -> NestedField:
    """The column that a partition is made of. Raises EngineError when it is not there."""
    try:
        return schema.find_field(partition.column)
    except ValueError:
        raise destination_fault(
            f"the partition column {partition.column!r} is not among the table's columns",
            "Name one of the stream's columns in the partition.",
        ) from None


def checked_transform(schema: Schema, partition: Partition) -> Transform[object, object]:
    """Iceberg's transform for a partition of a column that is there and can be transformed so. Raises EngineError."""
    transform, field = transform_of(partition), source_field(schema, partition)
    if not transform.can_transform(field.field_type):
        kind = duckdb_text(field.field_type)
        raise destination_fault(
            f"the partition {partition.transform}({partition.column}) cannot be made of {kind}",
            "Partition by another column, or by the column itself.",
        )
    return transform
