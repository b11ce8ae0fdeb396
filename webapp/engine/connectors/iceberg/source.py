"""Iceberg tables as a source: one snapshot of each for the whole read, its files divided among the connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from webapp.engine.connectors import relations
from webapp.engine.connectors.base import CheckStep, Column, Mode, Source, Stream
from webapp.engine.connectors.iceberg.catalogs import catalog_properties, opened, told
from webapp.engine.connectors.iceberg.schemas import duckdb_text
from webapp.engine.connectors.iceberg.spec import IcebergSourceSpec
from webapp.engine.connectors.iceberg.tables import bounded, summed
from webapp.engine.connectors.trials import tried
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from webapp.engine.connectors.iceberg.session import IcebergReading

_CURSORS = ("int", "long", "date", "timestamp", "timestamptz", "string")


@contextmanager
def as_source() -> Iterator[None]:
    """The catalogs' errors speak of a destination; here it is the source."""
    try:
        yield
    except EngineError as error:
        if error.origin is Origin.DESTINATION:
            error.origin = Origin.SOURCE
        raise


class IcebergSource(Source[IcebergSourceSpec]):
    """The tables of an Iceberg catalog."""

    name: ClassVar[str] = "iceberg"
    title: ClassVar[str] = "Apache Iceberg"
    Spec: ClassVar[type[IcebergSourceSpec]] = IcebergSourceSpec
    offers_sums: ClassVar[bool] = True

    def check(self) -> Iterator[CheckStep]:
        """Check addresses, log in to the catalog, list tables, read one row."""
        return tried(
            ("resolve", self._resolve),
            ("log in", self._log_in),
            ("rights", self._list),
            ("read one row", self._one_row),
        )

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the tables of all namespaces, or of the one that is set; one that cannot be opened is logged."""
        with self._catalog() as catalog:
            with as_source(), told(self.config):
                found = list(_tables(catalog, self.config.iceberg_db))
            for namespace, name in found:
                if pattern and not fnmatchcase(f"{'.'.join(namespace)}.{name}", pattern):
                    continue
                try:
                    with as_source(), told(self.config):
                        yield described(catalog.load_table((*namespace, name)), namespace, name)
                except EngineError as error:
                    self.context.reporter.log("warning", f"{'.'.join(namespace)}.{name} is left out: {error.message}")

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[IcebergReading]:
        """Open the catalog; each table's snapshot is chosen when it is first asked for."""
        from webapp.engine.connectors.iceberg.session import IcebergReading

        with self._catalog() as catalog:
            yield IcebergReading(catalog, self.config, self.context)

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        with as_source(), opened(self.config, self.context) as catalog:
            yield catalog

    def _resolve(self) -> str:
        with as_source():
            return urlsplit(catalog_properties(self.config, self.context).get("uri", "")).hostname or "this machine"

    def _log_in(self) -> str:
        with self._catalog() as catalog, told(self.config):
            return f"{len(catalog.list_namespaces())} namespaces"

    def _list(self) -> str:
        with self._catalog() as catalog, told(self.config):
            return f"{sum(1 for _ in _tables(catalog, self.config.iceberg_db))} tables"

    def _one_row(self) -> str:
        with self._catalog() as catalog, told(self.config):
            for namespace, name in _tables(catalog, self.config.iceberg_db):
                bounded(catalog.load_table((*namespace, name))).scan(limit=1).to_arrow()
                return f"from {'.'.join(namespace)}.{name}"
        return "there are no tables yet"


def _tables(catalog: Catalog, only: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """All tables with their namespaces, those within namespaces too."""
    waiting = [tuple(only.split("."))] if only.strip() else list(catalog.list_namespaces())
    seen: set[tuple[str, ...]] = set()
    while waiting:
        namespace = waiting.pop(0)
        if namespace in seen:
            continue
        seen.add(namespace)
        for identifier in catalog.list_tables(namespace):
            yield namespace, identifier[-1]
        if not only.strip():
            waiting += [inner for inner in _inner(catalog, namespace) if len(inner) > len(namespace)]


def _inner(catalog: Catalog, namespace: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The namespaces within one; none where the catalog knows no such thing."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        return list(catalog.list_namespaces(namespace))
    except NoSuchNamespaceError:
        return []


def described(table: Table, namespace: tuple[str, ...], name: str) -> Stream:
    """A table as a stream. Raises EngineError when its files would be opened outside this instance's bounds."""
    schema = bounded(table).schema()
    columns = tuple(
        Column(field.name, relations.travelling(duckdb_text(field.field_type)), not field.required,
               str(field.field_type))
        for field in schema.fields
    )  # fmt: skip
    cursors = tuple(c.name for c in columns if c.native in _CURSORS or c.native.startswith("decimal"))
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    modes = (Mode.FULL_REFRESH, Mode.INCREMENTAL) if cursors else (Mode.FULL_REFRESH,)
    rows = summed(summary, "total-records") - summed(summary, "total-position-deletes")
    size = summed(summary, "total-files-size")
    return Stream(".".join(namespace), name, columns, tuple(sorted(schema.identifier_field_names())), cursors, modes,
                  max(rows, 0), size)  # fmt: skip
