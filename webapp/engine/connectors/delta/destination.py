"""The Delta Lake destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from webapp.engine.connectors.base import (
    CheckStep,
    Column,
    Destination,
    DestinationSession,
    Generation,
    Landed,
    Load,
    Target,
    Writer,
)  # fmt: skip
from webapp.engine.connectors.delta.folders import Folder, folder_of
from webapp.engine.connectors.delta.library import check_library, told
from webapp.engine.connectors.delta.spec import DeltaSpec, DeltaWriter
from webapp.engine.connectors.parquet.faults import no_generation
from webapp.engine.connectors.parquet.store import Place, plain_name
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context

if TYPE_CHECKING:
    import pyarrow as pa


class DeltaDestination(Destination[DeltaSpec]):
    """Writes Delta Lake tables to a folder of this instance, or to S3."""

    name: ClassVar[str] = "delta"
    title: ClassVar[str] = "Delta Lake"
    Spec: ClassVar[type[DeltaSpec]] = DeltaSpec
    offers_sums: ClassVar[bool] = True

    def check(self) -> Iterator[CheckStep]:
        """Look for the library, reach the place, make and remove a small table."""
        writer = self.config.writer
        if writer.bucket:
            from webapp.engine.connectors.parquet.clouds import bucket_steps

            return tried(("library", check_library), *bucket_steps(writer, self.context))
        from webapp.engine.connectors.parquet.local import folder_steps

        return tried(("library", check_library), *folder_steps(writer.local_path, self.context))

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """Nothing is held: loads lock their own tables."""
        check_library()
        yield DeltaSession(self.config.writer, self.context)


class DeltaSession(DestinationSession):
    """The tables below one folder or prefix."""

    def __init__(self, config: DeltaWriter, context: Context) -> None:
        self._config = config
        self._context = context

    def state(self, target: Target) -> dict[str, Any] | None:
        """The state in the log's newest commit of ours."""
        from webapp.engine.connectors.delta.tables import state_of

        table = self._folder(target).table()
        with told(self._config, target.label):
            return state_of(table) if table else None

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """The columns of the table's schema."""
        from webapp.engine.connectors.delta.tables import table_columns

        table = self._folder(target).table()
        return table_columns(table) if table else None

    def begin(self, load: Load) -> Writer:
        """Lock the table and make a folder aside."""
        from webapp.engine.connectors.delta.writer import DeltaLoad

        return DeltaLoad(self._folder(load.target), load, self._context)

    def generations(self, target: Target) -> list[Generation]:
        """The versions that can be read."""
        from webapp.engine.connectors.delta.tables import generations_of

        table = self._folder(target).table()
        with told(self._config, target.label):
            return generations_of(table) if table else []

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Publish an earlier version's files, schema and partitions as a new version, with this state."""
        from webapp.engine.connectors.delta.restoring import restored

        if generation not in {one.name for one in self.generations(target)}:
            raise no_generation(target.label, generation)
        return restored(self._folder(target), int(generation), state)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows of the table."""
        import pyarrow as pa

        table = self._folder(target).table()
        if table is None:
            return pa.table({})
        with told(self._config, target.label):
            rows = pa.RecordBatchReader.from_stream(table.scan())
            found: list[pa.RecordBatch] = []
            while sum(batch.num_rows for batch in found) < limit and (batch := next(rows, None)) is not None:
                found.append(batch)
            return pa.Table.from_batches(found, rows.schema).slice(0, limit)

    def _folder(self, target: Target) -> Folder:
        Place.of(target)  # refuses names that no table can have
        names = [plain_name(name) for name in (target.database, target.table) if name]
        return folder_of(self._config, self._context, Place("/".join(names), target.label))
