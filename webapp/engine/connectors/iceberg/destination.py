"""The Iceberg destination."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

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
from webapp.engine.connectors.iceberg.catalogs import catalog_properties, opened, told
from webapp.engine.connectors.iceberg.schemas import table_columns
from webapp.engine.connectors.iceberg.spec import IcebergSpec, IcebergWriter
from webapp.engine.connectors.iceberg.tables import (
    found_table,
    generations_of,
    go_back,
    identifier,
    state_of,
    summed,
)  # fmt: skip
from webapp.engine.connectors.parquet.faults import no_generation
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


class IcebergDestination(Destination[IcebergSpec]):
    """Writes Iceberg tables."""

    name: ClassVar[str] = "iceberg"
    title: ClassVar[str] = "Apache Iceberg"
    Spec: ClassVar[type[IcebergSpec]] = IcebergSpec
    offers_sums: ClassVar[bool] = True

    def check(self) -> Iterator[CheckStep]:
        """Check addresses, log in to the catalog, write and remove a small file in the warehouse."""
        return tried(("resolve", self._resolve), ("log in", self._log_in), ("write", self._probe))

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """Open the catalog."""
        with opened(self.config.writer, self.context) as catalog:
            yield IcebergSession(catalog, self.config.writer, self.context)

    def _resolve(self) -> str:
        found = catalog_properties(self.config.writer, self.context)
        return urlsplit(found.get("uri", "")).hostname or "this machine"

    def _log_in(self) -> str:
        with opened(self.config.writer, self.context) as catalog, told(self.config.writer):
            return f"{len(catalog.list_namespaces())} namespaces"

    def _probe(self) -> str:
        with opened(self.config.writer, self.context) as catalog, told(self.config.writer):
            if "://" not in catalog.properties.get("warehouse", ""):
                return "the catalog says where tables lie; nothing was written"
            from pyiceberg.io import load_file_io

            path = f"{catalog.properties['warehouse'].rstrip('/')}/.check-{uuid.uuid4().hex}"
            files = load_file_io(catalog.properties, path)
            with files.new_output(path).create() as stream:
                stream.write(b"check")
            files.delete(path)
        return "a file was written and removed"


class IcebergSession(DestinationSession):
    """The tables of one catalog."""

    def __init__(self, catalog: Catalog, config: IcebergWriter, context: Context) -> None:
        self._catalog = catalog
        self._config = config
        self._context = context

    def state(self, target: Target) -> dict[str, Any] | None:
        """The state in the newest snapshot that carries one."""
        table = self._table(target)
        return state_of(table) if table else None

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """The columns of the table's schema."""
        table = self._table(target)
        return table_columns(table.schema()) if table else None

    def begin(self, load: Load) -> Writer:
        """Prepare one transaction."""
        from webapp.engine.connectors.iceberg.writer import IcebergLoad

        return IcebergLoad(self._catalog, load, self._config, self._context)

    def generations(self, target: Target) -> list[Generation]:
        """The table's other snapshots."""
        table = self._table(target)
        return generations_of(table) if table else []

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Make an earlier snapshot, with its schema, the current one; the state goes with it in the same commit."""
        table = self._table(target)
        if table is None or generation not in {one.name for one in generations_of(table)}:
            raise no_generation(target.label, generation)
        before = table.current_snapshot()
        with told(self._config):
            go_back(table, int(generation), state)
            now = table.current_snapshot()
        total = summed(now.summary if now else None, "total-records")
        return Landed(total, total, total, 0, str(before.snapshot_id) if before else "")

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows of the current snapshot."""
        import pyarrow as pa

        table = self._table(target)
        with told(self._config):
            return table.scan(limit=limit).to_arrow() if table else pa.table({})

    def _table(self, target: Target) -> Table | None:
        with told(self._config):
            return found_table(self._catalog, identifier(target, self._config.iceberg_db))
