"""Reading Iceberg tables: planned once for a snapshot, streamed file by file, filtered and cast by DuckDB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors import relations, sums
from webapp.engine.connectors.base import Chunk, Read, SourceSession, Stream, Sum
from webapp.engine.connectors.iceberg.catalogs import told
from webapp.engine.connectors.iceberg.pruning import needed, row_filter
from webapp.engine.connectors.iceberg.source import as_source
from webapp.engine.connectors.iceberg.spec import IcebergSourceSpec
from webapp.engine.connectors.iceberg.tables import found_table
from webapp.engine.context import Context
from webapp.engine.database import writing
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import DataScan, FileScanTask, Table

_SMALLEST_CHUNK = 64 * 1024 * 1024


class IcebergReading(SourceSession):
    """Tables of one catalog; each stays at the snapshot that it had when it was first asked for."""

    def __init__(self, catalog: Catalog, config: IcebergSourceSpec, context: Context) -> None:
        self._catalog = catalog
        self._config = config
        self._context = context
        self._tables: dict[str, Table] = {}
        self._lock = threading.RLock()

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value; only the columns of the cursor and the filter are read for it."""
        with self._rows(read, needed(read), None) as rows:
            return rows.one(lambda connection, relation: relations.greatest(connection, relation, read))

    def count(self, read: Read) -> int | None:
        """How many rows the read has, by the manifests; None where it does not take all."""
        if (read.filter and read.filter.conditions) or read.since is not None or read.until is not None:
            return None
        with self._told():
            return int(self._table(read.stream).scan().count())

    def count_exactly(self, read: Read) -> int:
        """How many rows the read has; only the columns of its conditions are read for it."""
        whole = self.count(read)
        if whole is not None:
            return whole
        with self._rows(read, needed(read), None) as rows:
            return int(rows.one(lambda connection, relation: relations.one(connection, "count(*)", relation, read)))

    def sums(self, read: Read, columns: Sequence[str]) -> Mapping[str, Sum]:
        """Over the rows of the read."""
        names = [relations.column_of(read, name).name for name in columns]
        wanted = sums.select([quoted(name) for name in names])
        with self._rows(read, (*names, *needed(read)), None) as rows:
            row = rows.one(lambda connection, relation: relations.row(connection, wanted, relation, read))
        return sums.read(columns, row)

    def chunks(self, read: Read, *, parallel: int) -> Sequence[Chunk]:
        """Data files together until they are worth a turn."""
        with self._told():
            table = self._table(read.stream)
            files = [task.file for task in table.scan(row_filter=row_filter(read, table.schema())).plan_files()]
        total = sum(file.file_size_in_bytes for file in files)
        enough = max(_SMALLEST_CHUNK, total // (4 * max(1, parallel)))
        groups: list[list[Any]] = [[]]
        for file in files:
            if sum(one.file_size_in_bytes for one in groups[-1]) >= enough:
                groups.append([])
            groups[-1].append(file)
        return [
            Chunk(f"files {number}", {"files": [file.file_path for file in group]},
                  sum(file.record_count for file in group))
            for number, group in enumerate(groups, 1)
        ]  # fmt: skip

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The rows of the chunk's files."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        return pa.RecordBatchReader.from_batches(arrow_schema(read.columns), self._read(read, chunk))

    def _read(self, read: Read, chunk: Chunk) -> Iterator[pa.RecordBatch]:
        names = (*(column.name for column in read.columns), *needed(read))
        with self._rows(read, names, set(chunk.bounds["files"])) as rows:
            yield from relations.reader(rows.connection, rows.relation, read, self._context, rows.explained)

    @contextmanager
    def _rows(self, read: Read, names: Sequence[str], files: set[str] | None) -> Iterator[_Rows]:
        """The rows of some files (None: all), as far as they can pass the read, as a relation in DuckDB."""
        with ExitStack() as held:
            with self._told():
                table = self._table(read.stream)
                known = {field.name for field in table.schema().fields}
                scan = table.scan(
                    row_filter=row_filter(read, table.schema()),
                    selected_fields=tuple(name for name in dict.fromkeys(names) if name in known),
                )
                tasks = [task for task in scan.plan_files() if files is None or task.file.file_path in files]
                connection = held.enter_context(
                    writing(None, self._context, shown=read.stream.label, may_read=(), ordered=False)
                )
                rows = _Rows(connection, scan, tasks, self._config)
            yield rows

    def _table(self, stream: Stream) -> Table:
        with self._lock, self._told():
            if stream.label not in self._tables:
                table = found_table(self._catalog, (*stream.namespace.split("."), stream.name))
                if table is None:
                    raise EngineError(f"{stream.label} is not there", origin=Origin.SOURCE, stream=stream.label,
                                      fix="Discover the streams again.")  # fmt: skip
                self._tables[stream.label] = table
            return self._tables[stream.label]

    @contextmanager
    def _told(self) -> Iterator[None]:
        with as_source(), told(self._config):
            yield


class _Rows:
    """The rows of a scan's files as the relation `scanned`, and why reading them failed."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        scan: DataScan,
        tasks: Sequence[FileScanTask],
        config: IcebergSourceSpec,
    ) -> None:
        import pyarrow as pa
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        self.connection = connection
        self._scan = scan
        self._tasks = tasks
        self._config = config
        self._failure: EngineError | None = None
        self._schema: pa.Schema = schema_to_pyarrow(scan.projection(), include_field_ids=False)
        connection.register("scanned", pa.RecordBatchReader.from_batches(self._schema, self._batches()))
        self.relation = relations.described(connection, "scanned", [])

    def one(self, asked: Callable[[duckdb.DuckDBPyConnection, relations.Relation], Any]) -> Any:
        """One value over the rows. Raises EngineError."""
        import duckdb

        try:
            return asked(self.connection, self.relation)
        except duckdb.Error as error:
            raise self.explained(error) or relations.fault(error) from error

    def explained(self, error: Exception) -> EngineError | None:
        """What the table's files said; DuckDB garbles it."""
        return self._failure

    def _batches(self) -> Iterator[pa.RecordBatch]:
        from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files

        scan = self._scan
        arrow = ArrowScan(scan.table_metadata, scan.io, scan.projection(), scan.row_filter)
        try:
            with as_source(), told(self._config):
                deletes = _read_all_delete_files(scan.io, self._tasks)
                # The public reader holds whole files in memory; this is its inside, which streams.
                for batch in arrow._record_batches_from_scan_tasks_and_deletes(self._tasks, deletes):
                    yield batch.cast(self._schema)
        except EngineError as error:
            self._failure = error
            raise
