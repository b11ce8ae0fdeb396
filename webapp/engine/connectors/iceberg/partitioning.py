"""How rows are divided among data files, and the partition values that manifests give for each file.

By bucket, and by truncate of what SQL does not cut as Iceberg does, rows are grouped by the library's own transform. A
file's values are the transforms of its first row, since a file holds one partition.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Column, Partition
from webapp.engine.connectors.iceberg.schemas import checked_transform, source_field
from webapp.engine.connectors.parquet.quill import Quill, Shared, scan
from webapp.engine.connectors.parquet.shape import hive_parts
from webapp.engine.names import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.typedef import Record

_CUT_BY_SQL = ("INTEGER", "BIGINT", "VARCHAR")


def folder_parts(
    schema: Schema, partitions: Sequence[Partition], columns: Sequence[Column]
) -> list[tuple[str, str | Shared]]:
    """For each partition a name for its folders, and what rows of one file share. Raises EngineError."""
    types = {column.name: column.type for column in columns}
    return [
        _by_library(schema, one) if _needs_library(one, types) else hive_parts([one], columns)[0] for one in partitions
    ]


def values_of(quill: Quill, file: Path, spec: PartitionSpec, schema: Schema) -> Record:
    """The partition values of a data file, as a manifest holds them."""
    from pyiceberg.typedef import Record

    names = [schema.find_field(field.source_id).name for field in spec.fields]
    if not names:
        return Record()
    chosen = ", ".join(quoted(name) for name in dict.fromkeys(names))
    with quill.cursor() as cursor:
        # The names are quoted.
        rows = cursor.sql(f"SELECT {chosen} FROM {scan([file])} LIMIT 1").to_arrow_table().to_pylist()  # noqa: S608
    return Record(*(_value(spec, number, rows[0][name] if rows else None, schema) for number, name in enumerate(names)))


def data_file(file: Path, path: str, metadata: TableMetadata, values: Record) -> DataFile:
    """A local data file as a manifest names it, at its path in the table, with the statistics of its footer."""
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

    schema = metadata.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        pq.read_metadata(file),
        stats_columns=compute_statistics_plan(schema, metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=values,
        file_size_in_bytes=file.stat().st_size,
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _needs_library(partition: Partition, types: Mapping[str, str]) -> bool:
    if partition.transform == "truncate":
        return types.get(partition.column) not in _CUT_BY_SQL
    return partition.transform == "bucket"


def _by_library(schema: Schema, partition: Partition) -> tuple[str, Shared]:
    apply = checked_transform(schema, partition).transform(source_field(schema, partition).field_type)
    return f"{partition.column}_{partition.transform}", Shared(partition.column, lambda values: _texts(values, apply))


def _texts(values: pa.Array, apply: Callable[[Any], Any]) -> pa.Array:
    """What rows share as texts, computed once for each value that is different."""
    import pyarrow as pa

    plain = values.storage if isinstance(values, pa.ExtensionArray) else values
    encoded = plain.dictionary_encode()
    shared = [str(apply(value)) for value in encoded.dictionary.to_pylist()]
    return pa.array(shared, pa.string()).take(encoded.indices)


def _value(spec: PartitionSpec, number: int, value: Any, schema: Schema) -> Any:
    from pyiceberg.partitioning import partition_record_value
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import UUIDType

    field = spec.fields[number]
    kind = schema.find_field(field.source_id).field_type
    if isinstance(kind, UUIDType) and isinstance(value, str):
        value = uuid.UUID(value)
    if isinstance(field.transform, IdentityTransform):
        return partition_record_value(field, value, schema)
    return None if str(field.transform) == "void" else field.transform.transform(kind)(value)
