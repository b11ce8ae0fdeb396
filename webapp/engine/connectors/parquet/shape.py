"""Which columns a table has after a load, and how the load's rows are cast to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from webapp.engine.connectors.base import Column, Load, Partition, Write
from webapp.engine.connectors.keys import check_key
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.names import literal, quoted

PARQUET_TYPES: Mapping[str, str] = {"HUGEINT": "DECIMAL(38,0)", "INTERVAL": "VARCHAR"}
"""DuckDB writes HUGEINT as a rounded double, and INTERVAL without microseconds: both travel in another type."""

_TIMES = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%d-%H"}


@dataclass(frozen=True)
class Shape:
    """The table's columns after the load, and for each the load's own column (None: not in the load).

    `rewrite` says that old files do not have these types any more.
    """

    columns: tuple[Column, ...]
    origins: tuple[str | None, ...]
    rewrite: bool = False

    def projection(self) -> str:
        """The SELECT list that makes rows of the table out of rows of the load."""
        pairs = zip(self.columns, self.origins, strict=True)
        return ", ".join(
            f"CAST({'NULL' if name is None else quoted(name)} AS {column.type}) AS {quoted(column.name)}"
            for column, name in pairs
        )


def stored_type(text: str, table: Mapping[str, str]) -> str:
    """The type that a column of this type has in a file, lists and structs looked through."""
    from webapp.engine.connectors.types import struct_fields

    if text.endswith("[]"):
        return stored_type(text[:-2], table) + "[]"
    if text.startswith("STRUCT("):
        inner = ", ".join(f"{quoted(name)} {stored_type(kind, table)}" for name, kind in struct_fields(text))
        return f"STRUCT({inner})"
    return table.get(text, text)


def shaped(load: Load, existing: Sequence[Column] | None, table: Mapping[str, str]) -> Shape:
    """The table's shape after the load. Raises EngineError where a column's values would not fit."""
    stored = [replace(column, type=stored_type(column.type, table), nullable=True) for column in load.columns]
    names = tuple(column.name for column in load.columns)
    check_key(load)
    if existing is None or load.write is Write.REPLACE:
        return Shape(tuple(stored), names)
    return _evolved(load, existing, stored)


def _evolved(load: Load, existing: Sequence[Column], stored: Sequence[Column]) -> Shape:
    from webapp.engine import drift

    plan = drift.plan_drift(
        [drift.Column(c.name, c.type) for c in existing],
        [drift.Column(c.name, c.type) for c in stored],
        load.target.label,
    )
    wide = {column.name: kind for column, kind in plan.widened}
    kept = [replace(column, type=wide.get(column.name, column.type)) for column in existing]
    added = [column for column in stored if column.name in {new.name for new in plan.added}]
    incoming = {column.name.lower(): column.name for column in stored}
    columns = (*kept, *added)
    return Shape(columns, tuple(incoming.get(column.name.lower()) for column in columns), bool(wide))


def table_key(load: Load, shape: Shape) -> tuple[str, ...]:
    """The key by the table's own spelling of its columns."""
    own = {name: column.name for column, name in zip(shape.columns, shape.origins, strict=True)}
    return tuple(own[name] for name in load.key)


def hive_parts(partitions: Iterable[Partition], columns: Iterable[Column]) -> list[tuple[str, str]]:
    """For each partition the name of its folders and the SQL of its value. Raises EngineError for what cannot be."""
    types = {column.name: column.type for column in columns}
    return [_hive_part(partition, types) for partition in partitions]


def _hive_part(partition: Partition, types: Mapping[str, str]) -> tuple[str, str]:
    column, kind = partition.column, types.get(partition.column)
    if kind is None:
        raise destination_fault(
            f"the partition column {column!r} is not among the table's columns",
            "Name one of the stream's columns in the partition.",
        )
    if partition.transform == "identity":
        return column, quoted(column)
    if form := _TIMES.get(partition.transform):
        if not kind.startswith(("TIMESTAMP", "DATE")):
            raise destination_fault(
                f"the partition {partition.transform}({column}) needs a date or time, and the column is {kind}",
                "Partition by the column itself, or by another column.",
            )
        return f"{column}_{partition.transform}", f"strftime({quoted(column)}, {literal(form)})"
    if partition.transform == "bucket" and partition.width:
        return f"{column}_bucket", f"hash({quoted(column)}) % {int(partition.width)}"
    if partition.transform == "truncate" and partition.width:
        return f"{column}_trunc", truncated_sql(column, kind, partition.width)
    raise destination_fault(
        f"{partition.transform!r} is not a partition transform with what it needs",
        "Use identity, year, month, day, hour, bucket with a width, or truncate with a width.",
    )


def truncated_sql(column: str, kind: str, width: int) -> str:
    """The SQL of a value cut to a width: the first characters of a text, the next lower multiple of a number."""
    name = quoted(column)
    if kind == "VARCHAR":
        return f"substr({name}, 1, {int(width)})"
    return f"{name} - ((({name} % {int(width)}) + {int(width)}) % {int(width)})"
