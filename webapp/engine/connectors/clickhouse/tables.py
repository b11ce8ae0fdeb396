"""What the catalog says of one table that a load writes."""

# ruff: noqa: S608  texts are quoted by columns.literal

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webapp.engine.connectors.base import Column, Load
from webapp.engine.connectors.clickhouse.columns import column_of, literal
from webapp.engine.connectors.clickhouse.contents import MERGED, Place
from webapp.engine.connectors.clickhouse.server import Server
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    from webapp.engine.drift import Drift


@dataclass(frozen=True)
class Attribute:
    """A column of the table; loads write to those that are `ours` by type. `sorts` where the table is sorted by it."""

    column: Column
    ours: bool
    sorts: bool
    kind: str  # "" or DEFAULT, MATERIALIZED, ALIAS


@dataclass(frozen=True)
class Table:
    """A table or view as it is now."""

    number: str
    engine: str
    merged: bool
    attributes: dict[str, Attribute]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns in their order."""
        return tuple(one.column for one in self.attributes.values())

    def named(self, name: str) -> str | None:
        """How the table writes this name: upper and lower case do not make two columns of a stream."""
        return next((known for known in self.attributes if known.lower() == name.lower()), None)


def table(server: Server, place: Place) -> Table | None:
    """The table, None when there is none."""
    found = server.rows(f"SELECT toString(uuid), engine, {MERGED} FROM system.tables WHERE {place.where}")
    if not found:
        return None
    [[number, engine, merged]] = found
    rows = server.rows(
        "SELECT name, type, comment, is_in_sorting_key OR is_in_partition_key, default_kind FROM system.columns"
        f" WHERE database = {literal(place.database)} AND table = {literal(place.table)} ORDER BY position"
    )
    attributes = {}
    for name, native, comment, sorts, kind in rows:
        column, ours = column_of(name, native, comment)
        attributes[name] = Attribute(column, ours, bool(sorts), kind)
    return Table(number, engine, bool(merged), attributes)


def drift_of(found: Table, load: Load) -> Drift:
    """What the table must learn. Raises EngineError where it cannot take the load's rows."""
    from webapp.engine import drift

    label = load.target.label
    if not found.merged:
        raise _unfit(
            f"{label} has the engine {found.engine}, and rows are added to those of MergeTree only",
            "Load with full refresh, which makes a plain table of it, or load into another table.",
        )
    named = [found.attributes[name] for one in load.columns if (name := found.named(one.name))]
    if strange := [one.column for one in named if not one.ours]:
        raise _unfit(
            f"column {strange[0].name} of {label} is {strange[0].native}, which loads do not write",
            "Leave the column out, load once with full refresh, or load into another table.",
        )
    if computed := [one.column.name for one in named if one.kind in ("MATERIALIZED", "ALIAS")]:
        raise _unfit(f"column {computed[0]} of {label} is computed by the table", "Leave the column out.")
    have = [drift.Column(one.column.name, one.column.type) for one in found.attributes.values() if one.ours]
    come = [drift.Column(one.name, one.type) for one in load.columns]
    return drift.plan_drift(have, come, label)


def loosened(found: Table, columns: Sequence[Column]) -> list[str]:
    """Columns that take no nulls yet, and of which the load may bring some; those that sort the table cannot learn."""
    names = {found.named(column.name) for column in columns if column.nullable}
    return [
        name for name, one in found.attributes.items() if name in names and not one.column.nullable and not one.sorts
    ]


def _unfit(message: str, fix: str) -> EngineError:
    return EngineError(message, origin=Origin.DESTINATION, fix=fix)
