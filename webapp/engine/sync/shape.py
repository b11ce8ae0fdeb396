"""What a plan's columns are called, and how they look, at the destination."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from webapp.engine.connectors.base import Column, Partition
from webapp.engine.connectors.types import arrow_schema, struct_fields
from webapp.engine.drift import Column as Typed
from webapp.engine.drift import Drift, plan_drift
from webapp.engine.errors import EngineError, Origin
from webapp.engine.sync.partitions import parse_partitions
from webapp.engine.sync.plan import StreamPlan


@dataclass(frozen=True)
class Shape:
    """The destination's columns, and how a batch of the source becomes one of them."""

    columns: tuple[Column, ...]
    schema: pa.Schema
    key: tuple[str, ...]
    partitions: tuple[Partition, ...]
    opened: frozenset[int]
    sums: tuple[str, ...] = ()

    def fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the destination's columns."""
        arrays: list[pa.Array] = []
        for place, array in enumerate(batch.columns):
            arrays.extend(array.flatten() if place in self.opened else [array])
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def shape_of(plan: StreamPlan, key: tuple[str, ...]) -> Shape:
    """How a plan's rows look at the destination. Raises EngineError when names meet or a chosen column is missing."""
    if not plan.columns:
        raise _wrong(f"no column of {plan.label} is chosen", "Choose at least one column.")
    opened = frozenset(
        place
        for place, column in enumerate(plan.columns)
        if plan.normalization and column.type.startswith("STRUCT(") and column.type.endswith(")")
    )
    columns = tuple(
        out for place, column in enumerate(plan.columns) for out in _outgoing(plan, column, place in opened)
    )
    _distinct(plan, columns)
    try:
        partitions = parse_partitions(plan.partition_regex)
    except ValueError as error:
        raise _wrong(f"{plan.label}: {error}", "Correct the stream's partition text.") from error
    named = tuple(replace(one, column=_named(plan, one.column, "the partitions")) for one in partitions)
    keys = tuple(_named(plan, name, "the key") for name in key)
    added = tuple(_named(plan, name, "the sums") for name in plan.sums)
    return Shape(columns, arrow_schema(columns), keys, named, opened, added)


def changes(before: tuple[Column, ...] | None, columns: tuple[Column, ...], table: str, *, anew: bool) -> list[str]:
    """What the load changes in its table's columns, in words. Raises EngineError for what cannot be widened."""
    if before is None:
        return []
    old, new = ([Typed(column.name, column.type) for column in side] for side in (before, columns))
    return Drift.between(old, new) if anew else plan_drift(old, new, table).changes


def _outgoing(plan: StreamPlan, column: Column, opened: bool) -> Iterator[Column]:
    name = _renamed(plan, column.name)
    if not opened:
        yield replace(column, name=name)
        return
    for field, kind in struct_fields(column.type):
        yield Column(_normal(f"{name}_{field}"), kind)


def _renamed(plan: StreamPlan, name: str) -> str:
    chosen = plan.renames.get(name, name)
    return _normal(chosen) if plan.normalization else chosen


def _normal(name: str) -> str:
    plain = re.sub(r"\W+", "_", name.strip().lower()) or "_"
    return f"_{plain}" if plain[0].isdigit() else plain


def _named(plan: StreamPlan, name: str, where: str) -> str:
    if name not in {column.name for column in plan.columns}:
        raise _wrong(f"{plan.label}: {where} names {name}, which is not among the chosen columns", "Choose it, too.")
    return _renamed(plan, name)


def _distinct(plan: StreamPlan, columns: tuple[Column, ...]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.name.lower() in seen:
            raise _wrong(
                f"{plan.label}: two columns would be called {column.name} at the destination",
                "Give one of them another name, or leave it out.",
            )
        seen.add(column.name.lower())


def _wrong(message: str, fix: str) -> EngineError:
    return EngineError(message, origin=Origin.USER, fix=fix)
