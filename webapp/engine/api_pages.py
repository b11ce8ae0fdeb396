"""An HTTP API as a source: pages fetched, read into Arrow, gathered, and offered to DuckDB as one relation.

The table's file is not held open while pages come in: a slow API must not keep readers waiting. Up to 48 MB wait in
memory, more goes to Parquet files in the temporary folder. The bytes of each page are kept there, too, until all are
in: when a later page shows that a column is not what the earlier ones suggested, all are read again value by value.
"""

import time
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from webapp.engine import json_values
from webapp.engine.api_fetch import Page, fetched_pages
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.engine.sources import Source
from webapp.engine.specs import ApiExtractor

_IN_MEMORY = 48 * 1024 * 1024
_SLOW_ROWS = 20_000
_TELL = 0.25
_RELATION = "hohmann_records"


def api_source(spec: ApiExtractor, context: Context) -> Source:
    """Fetch all pages of an API and make their records readable for DuckDB.

    Raises EngineError for what the server does wrong, and Cancelled within a second of being asked to.
    """
    with (context.temp / "pages").open("wb") as bodies:
        gathered = _Gathered(context, spec.records, bodies)
        for page in fetched_pages(spec, context, while_waiting=gathered.tell):
            gathered.add(page)
    return gathered.source()


class _Gathered:
    """The records so far: tables in memory, Parquet parts on disk, and the bytes of all pages for a second look."""

    def __init__(self, context: Context, records: str | None, bodies: BinaryIO) -> None:
        self._context = context
        self._records = records
        self._tables: list[pa.Table] = []
        self._waiting = 0
        self._parts: list[Path] = []
        self._schema: pa.Schema | None = None
        self._fast = True
        self._bodies = bodies
        self._lengths: list[int] = []
        self._told = 0.0
        self._size_told = 0
        self.rows = 0
        self.size = 0

    def add(self, page: Page) -> None:
        self._bodies.write(page.body)
        self._lengths.append(len(page.body))
        self.size += len(page.body)
        self._collect(page)
        self.tell()

    def tell(self) -> None:
        """Report what is new, a few times a second at most.

        Called while the next page is awaited, too: a slow server's last page must not stay untold until then.
        """
        if self.size != self._size_told and time.monotonic() - self._told > _TELL:
            self._told, self._size_told = time.monotonic(), self.size
            self._context.reporter.progress(self.rows, 0, self.size, None)

    def _collect(self, page: Page) -> None:
        if page.records is None:
            self._fast = False
            self._forget()
        if not self._fast or page.records is None:
            return
        self.rows += page.records.num_rows
        if page.records.num_rows:
            self._keep(page.records)

    def _keep(self, table: pa.Table) -> None:
        try:
            self._schema = _united(self._schema, table.schema)
        except pa.ArrowException:
            self._fast = False
            self._forget()
            return
        self._tables.append(table)
        self._waiting += table.nbytes
        if self._waiting > _IN_MEMORY:
            self._spill()

    def source(self) -> Source:
        try:
            if self._fast:
                return self._fast_source()
        except pa.ArrowException:
            self._context.reporter.log("debug", "pages do not unite in Arrow and are read value by value")
        self._forget()
        return self._slow_source()

    def _fast_source(self) -> Source:
        if self._schema is None:
            return self._slow_source()
        if not self._parts:
            return self._as_source(pa.concat_tables(
                [_fitted(table, self._schema) for table in self._tables]))  # fmt: skip
        self._spill()
        for part in self._parts:
            if pq.read_schema(part) != self._schema:
                _rewritten(part, self._schema)
        return self._as_source(None)

    def _slow_source(self) -> Source:
        types: dict[str, pa.DataType] = {}
        self.rows = 0
        for rows in self._reread():
            json_values.widened(types, rows)
            self.rows += len(rows)
        if not types:
            return Source("", [], rows=self.rows, size=self.size, without_columns=True)
        self._schema = json_values.schema_of(types)
        for rows in self._reread():
            for start in range(0, len(rows), _SLOW_ROWS):
                table = json_values.to_table(rows[start : start + _SLOW_ROWS], types)
                self._tables.append(table)
                self._waiting += table.nbytes
                if self._waiting > _IN_MEMORY:
                    self._spill()
        if not self._parts:
            return self._as_source(pa.concat_tables(self._tables))
        self._spill()
        return self._as_source(None)

    def _reread(self) -> Any:
        with Path(self._bodies.name).open("rb") as bodies:
            for length in self._lengths:
                if self._context.cancelled():
                    raise Cancelled
                yield json_values.records_of(json_values.parse_page(bodies.read(length)), self._records)

    def _as_source(self, table: pa.Table | None) -> Source:
        if table is not None:
            return Source(_RELATION, [], rows=self.rows, rows_estimate=self.rows, size=self.size,
                          tables={_RELATION: table}, explain=_explain)  # fmt: skip
        names = [str(part) for part in self._parts]
        return Source("read_parquet($1)", [names], files=tuple(self._parts), rows=self.rows,
                      rows_estimate=self.rows, size=self.size, explain=_explain)  # fmt: skip

    def _spill(self) -> None:
        if not self._tables or self._schema is None:
            return
        part = self._context.temp / f"records-{len(self._parts)}.parquet"
        pq.write_table(pa.concat_tables([_fitted(table, self._schema) for table in self._tables]), part)
        self._parts.append(part)
        self._tables, self._waiting = [], 0

    def _forget(self) -> None:
        for part in self._parts:
            part.unlink()
        self._tables, self._waiting, self._parts = [], 0, []


def _united(known: pa.Schema | None, new: pa.Schema) -> pa.Schema:
    if known is None or known.equals(new):
        return new
    return pa.unify_schemas([known, new], promote_options="permissive")


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast to the united schema, exactly: a value that the wider type would change raises ArrowInvalid."""
    stored = pa.schema([pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema])
    if table.schema.equals(stored):
        return table
    missing = [field for field in stored if table.schema.get_field_index(field.name) < 0]
    for field in missing:
        table = table.append_column(field.name, pa.nulls(table.num_rows, field.type))
    return table.select(stored.names).cast(stored)


def _rewritten(part: Path, schema: pa.Schema) -> None:
    whole = part.with_suffix(".new")
    with pq.ParquetFile(part) as old:
        tables = (old.read_row_group(number) for number in range(old.num_row_groups))
        with pq.ParquetWriter(whole, _fitted(old.schema_arrow.empty_table(), schema).schema) as new:
            for table in tables:
                new.write_table(_fitted(table, schema))
    whole.replace(part)


def _explain(error: duckdb.Error) -> EngineError | None:
    if "duplicate" in str(error).lower() and "name" in str(error).lower():
        return EngineError(f"records have fields whose names differ only in case: {error}", origin=Origin.SOURCE)
    return None
