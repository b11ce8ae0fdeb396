"""An Iceberg table, and the transaction that makes or changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Generation, Load, Partition, Target, Write
from webapp.engine.connectors.iceberg.schemas import (
    ICEBERG_TYPES,
    checked_transform,
    iceberg_schema,
    iceberg_type,
    source_field,
    table_columns,
    transform_of,
)  # fmt: skip
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.connectors.parquet.shape import Shape, shaped
from webapp.engine.connectors.parquet.store import plain_name

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction

STATE = "hohmann.state"
RESTORED = "hohmann.restored"


def identifier(target: Target, default: str) -> tuple[str, str]:
    """The table's name in the catalog. Raises EngineError when it has no namespace."""
    namespace = target.database or default
    if not namespace or not target.table:
        raise destination_fault(
            f"{target.label!r} has no database", "Set the destination's database, or one in the job."
        )
    return namespace.replace(".", "_"), target.table


def found_table(catalog: Catalog, name: tuple[str, ...]) -> Table | None:
    """The table, None when there is none."""
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        return bounded(catalog.load_table(name))
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def bounded(table: Table) -> Table:
    """The table, whose files are opened within this instance's bounds. Raises EngineError when its catalog differs."""
    from webapp.engine.connectors.iceberg.files import BoundedFileIO

    if not isinstance(table.io, BoundedFileIO):
        raise destination_fault(
            "the catalog wants the table's files opened in a way of its own", "Remove py-io-impl from its settings."
        )
    return table


def state_of(table: Table) -> dict[str, Any] | None:
    """The state in the newest snapshot that carries one, or the one given when this snapshot was brought back."""
    snapshot = table.current_snapshot()
    restored = json.loads(table.properties.get(RESTORED, "{}"))
    while snapshot is not None:
        if restored.get("snapshot") == str(snapshot.snapshot_id):
            return dict(restored["state"]) or None
        text = snapshot.summary.get(STATE) if snapshot.summary else None
        if text is not None:
            return dict(json.loads(text)) or None
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
    return None


def generations_of(table: Table) -> list[Generation]:
    """All snapshots that can be gone back to, newest first."""
    from datetime import UTC, datetime

    current = table.current_snapshot()
    others = [snapshot for snapshot in table.snapshots() if current and snapshot.snapshot_id != current.snapshot_id]
    return [
        Generation(
            str(snapshot.snapshot_id),
            datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).isoformat(timespec="seconds"),
            summed(snapshot.summary, "total-records"),
            summed(snapshot.summary, "total-files-size"),
        )
        for snapshot in sorted(others, key=lambda one: one.timestamp_ms, reverse=True)
    ]


def summed(summary: Any, name: str) -> int:
    """A total of a snapshot's summary, 0 where it has none."""
    return int((summary.get(name) if summary else None) or 0)


def location(warehouse: str, name: tuple[str, str]) -> str | None:
    """Where a new table lies, in names that every store takes; None leaves it to the catalog."""
    if "://" not in warehouse:
        return None
    return "/".join([warehouse.rstrip("/"), *(plain_name(part) for part in name)])


def new_table(catalog: Catalog, name: tuple[str, str], load: Load, place: str | None) -> tuple[Transaction, Shape]:
    """A transaction that makes the table when it is committed, and the load's shape."""
    shape = shaped(load, None, ICEBERG_TYPES)
    schema = iceberg_schema(shape.columns)
    catalog.create_namespace_if_not_exists(name[0])
    transaction = catalog.create_table_transaction(
        name,
        schema=schema,
        location=place,
        partition_spec=_spec(schema, load.partitions),
        properties={
            "format-version": "2",
            "write.parquet.compression-codec": "zstd",
            "write.metadata.delete-after-commit.enabled": "true",
            "write.metadata.previous-versions-max": "100",
        },
    )
    return transaction, shape


def changed_table(table: Table, load: Load) -> tuple[Transaction, Shape]:
    """A transaction on the table, its schema and partitions as the load needs them, and the load's shape."""
    shape = shaped(load, table_columns(table.schema()), ICEBERG_TYPES)
    transaction = table.transaction()
    _evolve(transaction, shape, drop=load.write is Write.REPLACE)
    if load.partitions and _partitions(transaction) != list(load.partitions):
        _repartition(transaction, load.partitions)
    return transaction, shape


def _evolve(transaction: Transaction, shape: Shape, *, drop: bool) -> None:
    import itertools

    have = {column.name: column.type for column in table_columns(transaction.table_metadata.schema())}
    want = {column.name: column.type for column in shape.columns}
    if drop:
        gone = [name for name, kind in have.items() if want.get(name) != kind]
        if gone and set(gone) == set(have):
            gone = [name for name in gone if name in want] or gone
        if gone:
            _free(transaction, gone)
            with transaction.update_schema(allow_incompatible_changes=True) as update:
                for name in gone:
                    update.delete_column((name,))
            have = {name: kind for name, kind in have.items() if name not in gone}
    ids = itertools.count(10_000)
    with transaction.update_schema() as update:
        for name, kind in want.items():
            if name not in have:
                update.add_column((name,), iceberg_type(kind, ids))
            elif have[name] != kind:
                _widen(update, name, have[name], kind)


def _widen(update: Any, name: str, have: str, want: str) -> None:
    from itertools import count

    allowed = {("INTEGER", "BIGINT"), ("FLOAT", "DOUBLE")}
    decimals = have.startswith("DECIMAL(") and want.startswith("DECIMAL(") and have[-3:] == want[-3:]
    if (have, want) not in allowed and not decimals:
        raise destination_fault(
            f"column {name} is {have} and the source brings values for {want}: Iceberg cannot widen it so",
            "Load with full refresh, or into another table.",
        )
    update.update_column((name,), iceberg_type(want, count(10_000)))


def _free(transaction: Transaction, columns: Sequence[str]) -> None:
    """Take columns that go out of the partitions first."""
    partitions = _partitions(transaction)
    if any(partition.column in columns for partition in partitions):
        _repartition(transaction, [partition for partition in partitions if partition.column not in columns])


def _partitions(transaction: Transaction) -> list[Partition]:
    metadata = transaction.table_metadata
    return spec_partitions(metadata.spec(), metadata.schema())


def spec_partitions(spec: PartitionSpec, schema: Schema) -> list[Partition]:
    """A table's partitions in our words."""
    found = []
    for field in spec.fields:
        kind, _, width = str(field.transform).partition("[")
        if kind != "void":
            column = schema.find_column_name(field.source_id) or ""
            found.append(Partition(column, kind, int(width[:-1]) if width else None))
    return found


def _repartition(transaction: Transaction, partitions: Sequence[Partition]) -> None:
    schema = transaction.table_metadata.schema()
    for partition in partitions:
        checked_transform(schema, partition)
    with transaction.update_spec() as update:
        for field in transaction.table_metadata.spec().fields:
            update.remove_field(field.name)
    with transaction.update_spec() as update:
        for partition in partitions:
            update.add_field(partition.column, transform_of(partition))


def _spec(schema: Schema, partitions: Sequence[Partition]) -> PartitionSpec:
    from pyiceberg.partitioning import PartitionField, PartitionSpec

    fields = [
        PartitionField(
            source_id=source_field(schema, partition).field_id,
            field_id=1000 + number,
            transform=checked_transform(schema, partition),
            name=partition.column if partition.transform == "identity" else f"{partition.column}_{partition.transform}",
        )
        for number, partition in enumerate(partitions)
    ]
    return PartitionSpec(*fields)


def go_back(table: Table, snapshot_id: int, state: Mapping[str, Any] | None) -> None:
    """Make a snapshot the current one, with the schema that it was written with and a state, in one commit."""
    from pyiceberg.table.update import SetCurrentSchemaUpdate
    from pyiceberg.table.update.snapshot import ManageSnapshots

    snapshot = table.snapshot_by_id(snapshot_id)
    with table.transaction() as transaction:
        ManageSnapshots(transaction).set_current_snapshot(snapshot_id)
        if snapshot is not None and snapshot.schema_id not in (None, table.schema().schema_id):
            # The library offers rollbacks of rows alone; columns that a later load dropped would stay unseen.
            transaction._stage((SetCurrentSchemaUpdate(schema_id=snapshot.schema_id),), ())
        if state is not None:
            text = json.dumps({"snapshot": str(snapshot_id), "state": dict(state)}, ensure_ascii=False)
            transaction.set_properties({RESTORED: text})
