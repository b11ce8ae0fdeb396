"""One load into an Iceberg table: data files written by DuckDB, one snapshot for rows, state and schema."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Chunk, Landed, Load, Write, Writer
from webapp.engine.connectors.iceberg.catalogs import local_folder, told, warehouse
from webapp.engine.connectors.iceberg.partitioning import data_file, folder_parts, values_of
from webapp.engine.connectors.iceberg.schemas import field_ids
from webapp.engine.connectors.iceberg.spec import IcebergWriter
from webapp.engine.connectors.iceberg.tables import (
    STATE,
    changed_table,
    found_table,
    identifier,
    location,
    new_table,
    spec_partitions,
    summed,
)  # fmt: skip
from webapp.engine.connectors.iceberg.upkeep import clear_killed, expire, marked
from webapp.engine.connectors.parquet.durable import forced
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.connectors.parquet.quill import Form, quill
from webapp.engine.connectors.parquet.shape import table_key
from webapp.engine.connectors.parquet.uploads import side_by_side
from webapp.engine.connectors.parquet.upsert import Rewriter, one_row_a_key
from webapp.engine.context import Context
from webapp.engine.errors import EngineError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile


class IcebergLoad(Writer):
    """Writes data files where the table lies (or aside, for a store), and commits them with the state."""

    def __init__(self, catalog: Catalog, load: Load, config: IcebergWriter, context: Context) -> None:
        self._config = config
        self._context = context
        self._load = load
        self._offered = False
        with told(config), ExitStack() as held:
            name = identifier(load.target, config.iceberg_db)
            table = found_table(catalog, name)
            self._before = table.current_snapshot() if table else None
            place = location(warehouse(config, context), name) if config.iceberg_s3_path.strip() else None
            made = changed_table(table, load) if table else new_table(catalog, name, load, place)
            self._transaction, self._shape = made
            metadata = self._transaction.table_metadata
            self._folder = local_folder(metadata.location, context)
            root = self._folder / "data" if self._folder else context.temp
            self._aside = root / f"load-{uuid.uuid4().hex}"
            if self._folder:
                clear_killed(root, table)
                held.enter_context(marked(self._aside))
            self._quill = held.enter_context(quill(context, [root], load.target.label))
            schema = metadata.schema()
            wanted = spec_partitions(metadata.spec(), schema)
            parts = folder_parts(schema, wanted, self._shape.columns)
            self._form = Form(config.compression, parts, field_ids(schema))
            self._held = held.pop_all()

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Write the chunk's rows into data files that no snapshot names yet."""
        with told(self._config):
            return self._quill.write(batches, self._shape.projection(), self._aside, self._form)

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Publish one snapshot."""
        with told(self._config):
            old = self._old_files() if self._load.write is not Write.APPEND else []
            gone, rest = self._settled(old)
            added = side_by_side(self._context, self._described, self._filled())
            size = sum(file.file_size_in_bytes for file in added)
            written = sum(file.record_count for file in added) - rest
            self._publish(gone, added, {STATE: json.dumps(dict(state), ensure_ascii=False)})
        self._held.close()
        if self._folder is None:
            shutil.rmtree(self._aside, ignore_errors=True)
        landed = self._landed(written, size)
        if gone or added:
            self._expire()
        return landed

    def abort(self) -> None:
        """Remove the data files, unless a snapshot may name them."""
        self._held.close()
        if not self._offered or self._folder is None:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _settled(self, old: list[DataFile]) -> tuple[list[DataFile], int]:
        """Which of the old files go, and how many of their rows are in new files."""
        key = table_key(self._load, self._shape) if self._load.write is Write.UPSERT else ()
        if key:
            one_row_a_key(self._quill, self._files(), key, self._aside, self._form)
        self._added = self._quill.sums(self._load.sums, self._files())
        if not key:
            return old, 0
        rewriter = Rewriter(self._quill, self._shape.columns, key, self._files(), all_files=False)
        gone, rest = [], 0
        for file in old:
            with self._local(file.file_path) as path:
                self._check_names(path)
                if not rewriter.stays(path):
                    gone.append(file)
                    rest += rewriter.rest(path, self._aside, self._form)
        return gone, rest

    def _check_names(self, path: Path) -> None:
        unknown = {c.name for c in self._quill.columns([path])} - {c.name for c in self._shape.columns}
        if unknown:
            raise destination_fault(
                f"{self._load.target.label}: columns were renamed or dropped by another program ({min(unknown)})",
                "Load once with full refresh, or switch to append.",
            )

    def _publish(self, gone: list[DataFile], added: list[DataFile], properties: dict[str, str]) -> None:
        update = self._transaction.update_snapshot(snapshot_properties=properties)
        fresh = self._load.write is Write.APPEND or not gone
        with update.fast_append() if fresh else update.overwrite() as producer:
            for file in gone:
                producer.delete_data_file(file)
            for file in added:
                producer.append_data_file(file)
        # Whether a commit whose answer was lost has landed is not known: from here on its files are not removed.
        self._offered = True
        self._table = self._transaction.commit_transaction()

    def _filled(self) -> list[Path]:
        """The new files that hold rows; the others are removed."""
        rows = self._quill.rows(self._files())
        for file in (file for file, count in rows.items() if not count):
            file.unlink()
        return [file for file, count in rows.items() if count]

    def _expire(self) -> None:
        """Remove what the parachute need not keep any more; the load has landed whatever happens."""
        try:
            with told(self._config):
                expire(self._table, self._load.keep_days)
        except EngineError as error:
            self._context.reporter.log("warning", f"old snapshots were not expired: {error.message}")

    def _files(self) -> list[Path]:
        return sorted(self._aside.rglob("*.parquet"))

    def _described(self, file: Path) -> DataFile:
        """The file as a manifest names it, with its statistics; brought to the store where that is elsewhere."""
        metadata, io = self._transaction.table_metadata, self._transaction._table.io
        values = values_of(self._quill, file, metadata.spec(), metadata.schema())
        if self._folder is not None:
            forced([file])
            path = f"file://{file}"
        else:
            path = f"{metadata.location.rstrip('/')}/data/{uuid.uuid4().hex}-{file.name}"
            with file.open("rb") as source, io.new_output(path).create() as target:
                shutil.copyfileobj(source, target, 1 << 22)
        return data_file(file, path, metadata, values)

    def _old_files(self) -> list[DataFile]:
        if self._before is None:
            return []
        tasks = list(self._transaction._table.scan().plan_files())
        if self._load.write is Write.UPSERT and any(task.delete_files for task in tasks):
            raise destination_fault(
                f"{self._load.target.label} holds delete files of another program",
                "Compact the table with that program first, or load with full refresh.",
            )
        return [task.file for task in tasks]

    @contextmanager
    def _local(self, uri: str) -> Iterator[Path]:
        """A data file of the table as a local one."""
        path = local_folder(uri, self._context)
        if path is not None:
            yield path
            return
        copy = self._context.temp / f"old-{uuid.uuid4().hex}.parquet"
        try:
            with self._transaction._table.io.new_input(uri).open() as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def _landed(self, written: int, size: int) -> Landed:
        now = self._table.current_snapshot()
        total = summed(now.summary if now else None, "total-records")
        before = summed(self._before.summary, "total-records") if self._before else 0
        found = {Write.REPLACE: total, Write.APPEND: total - before, Write.UPSERT: written}[self._load.write]
        generation = str(self._before.snapshot_id) if self._before else ""
        return Landed(written, found, total, size, generation, self._added)
