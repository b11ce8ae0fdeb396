"""An HTTP API as a source: every list is a stream, its pages fetched as the API extractor of jobs fetches them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from webapp.engine.connectors import relations
from webapp.engine.connectors.base import CheckStep, Chunk, Column, Mode, Read, Source, SourceSession, Stream
from webapp.engine.connectors.rest.requests import extractor_for
from webapp.engine.connectors.rest.spec import RestSourceSpec, RestStream
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from webapp.engine import sources

_LOOK_ROWS = 5_000
_LOOK_PAGES = 20
_CURSORS = ("BIGINT", "DOUBLE", "VARCHAR", "TIMESTAMP")


class RestSource(Source[RestSourceSpec]):
    """An HTTP API that answers JSON."""

    name = "rest"
    title = "HTTP API"
    Spec = RestSourceSpec

    def check(self) -> Iterator[CheckStep]:
        """Find the host, log in, read the first page of the first stream."""
        return tried(("resolve", self._resolved), ("log in", self._logged_in), ("read one row", self._one_row))

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the streams, whose columns come from their first pages."""
        for stream in self.config.streams:
            if not pattern or fnmatchcase(stream.name, pattern):
                yield self._described(stream)

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[RestSession]:
        """A place for the pages: what was fetched once is what is counted and read."""
        with _folder(self.context) as context, ExitStack() as opened:
            yield RestSession(self.config, context, opened)

    def _described(self, stream: RestStream) -> Stream:
        from webapp.engine import json_values
        from webapp.engine.connectors.types import duckdb_type

        types: dict[str, Any] = {}
        for rows in _first_pages(self.config, stream, self.context):
            json_values.widened(types, rows)
        found = {field.name: duckdb_type(field.type) for field in json_values.schema_of(types)}
        columns = tuple(Column(name, type_, nullable=True, native="JSON") for name, type_ in found.items())
        _check_named(stream, found)
        cursors = (stream.cursor_field,) if stream.cursor_field else ()
        modes = (Mode.FULL_REFRESH, Mode.INCREMENTAL) if cursors else (Mode.FULL_REFRESH,)
        return Stream("", stream.name, columns, tuple(stream.primary_key), cursors, modes)

    def _resolved(self) -> str:
        from webapp.engine.addresses import checked_address
        from webapp.engine.http_client import origin_of

        _scheme, host, port = origin_of(self.config.base_url)
        return checked_address(host, port, allow_private=self.context.allow_private_addresses)

    def _logged_in(self) -> str:
        # A test shall answer soon; the run itself has patience.
        quick = self.config.model_copy(update={"retries": 0, "timeout": min(self.config.timeout, 8.0)})
        extractor_for(quick, self.config.streams[0], self.context)
        return f"with {self.config.auth.type}"

    def _one_row(self) -> str:
        quick = self.config.model_copy(update={"retries": 0, "timeout": min(self.config.timeout, 8.0)})
        rows = next(_first_pages(quick, quick.streams[0], self.context), [])
        return f"{len(rows)} records on the first page of {quick.streams[0].name}"


class RestSession(SourceSession):
    """The streams as they were fetched. A stream is fetched when it is first asked for."""

    def __init__(self, config: RestSourceSpec, context: Context, opened: ExitStack) -> None:
        self._config = config
        self._context = context
        self._opened = opened
        self._gathered: dict[tuple[str, Any], sources.Source] = {}
        self._fields: dict[str, set[str]] = {}
        self._turn = threading.Lock()

    def high_water(self, read: Read) -> Any:
        """The greatest cursor value among the fetched records."""
        with self._relation(read) as (connection, relation):
            return relations.greatest(connection, relation, read)

    def count(self, read: Read) -> int:
        """How many records were fetched and pass."""
        with self._relation(read) as (connection, relation):
            return int(relations.one(connection, "count(*)", relation, read))

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The records as a stream."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        return pa.RecordBatchReader.from_batches(arrow_schema(read.columns), self._rows(read))

    def fields(self, read: Read) -> Collection[str]:
        """The fields of the records that were fetched."""
        return self._fields.get(read.stream.name, set())

    def _rows(self, read: Read) -> Iterator[pa.RecordBatch]:
        with self._relation(read) as (connection, relation):
            yield from relations.reader(connection, relation, read, self._context, lambda _error: None)

    @contextmanager
    def _relation(self, read: Read) -> Iterator[tuple[duckdb.DuckDBPyConnection, relations.Relation]]:
        import duckdb

        from webapp.engine.database import writing

        gathered = self._source(read)
        with writing(None, self._context, shown=read.stream.name, may_read=gathered.files) as connection:
            try:
                for name, table in gathered.tables.items():
                    connection.register(name, table)
                if gathered.without_columns:
                    yield connection, relations.Relation(_nothing(read), [], {})
                else:
                    relation = relations.described(connection, gathered.relation, gathered.parameters)
                    self._fields.setdefault(read.stream.name, set()).update(relation.types)
                    yield connection, _without_nulls(connection, relation, read)
            except duckdb.Error as error:
                raise relations.fault(error) from error

    def _source(self, read: Read) -> sources.Source:
        from webapp.engine.api_pages import api_source

        stream = next((one for one in self._config.streams if one.name == read.stream.name), None)
        if stream is None:
            raise EngineError(f"the source has no stream {read.stream.name!r} any more", origin=Origin.SOURCE,
                              stream=read.stream.name, fix="Discover the streams again.")  # fmt: skip
        since = read.since if stream.incremental_param and read.cursor == stream.cursor_field else None
        with self._turn:
            if (stream.name, since) not in self._gathered:
                context = self._opened.enter_context(_folder(self._context))
                extractor = extractor_for(self._config, stream, context, since=_as_asked(since))
                self._gathered[stream.name, since] = api_source(extractor, context)
            return self._gathered[stream.name, since]


def _first_pages(config: RestSourceSpec, stream: RestStream, context: Context) -> Iterator[list[dict[str, Any]]]:
    """The records of the first pages, until there are enough to know their columns."""
    from webapp.engine import json_values
    from webapp.engine.api_fetch import fetched_pages

    extractor = extractor_for(config, stream, context)
    seen = 0
    pages = fetched_pages(extractor, context, while_waiting=lambda: None)
    try:
        for number, page in enumerate(pages, 1):
            rows = json_values.records_of(json_values.parse_page(page.body), extractor.records)
            seen += len(rows)
            yield rows
            if seen >= _LOOK_ROWS or number >= _LOOK_PAGES:
                return
    finally:
        pages.close()  # type: ignore[attr-defined]  # a generator: this ends its threads


def _check_named(stream: RestStream, found: dict[str, str]) -> None:
    """Fields that the configuration names must be there, as far as there are records at all."""
    for name in [*stream.primary_key, *([stream.cursor_field] if stream.cursor_field else [])]:
        if found and name not in found:
            raise EngineError(f"records of {stream.name} have no field {name!r}", origin=Origin.SOURCE, field=name,
                              fix=f"Correct primary_key or cursor_field; there are: {', '.join(found)}.")  # fmt: skip
    if stream.cursor_field and found and found[stream.cursor_field] not in _CURSORS:
        raise EngineError(
            f"{stream.cursor_field} of {stream.name} is {found[stream.cursor_field]} and has no order",
            origin=Origin.SOURCE, field=stream.cursor_field, fix="Choose another cursor_field.",
        )  # fmt: skip


def _without_nulls(
    connection: duckdb.DuckDBPyConnection, relation: relations.Relation, read: Read
) -> relations.Relation:
    """Columns that have no value this time pass as text, and are no text: they fit any type."""
    from webapp.engine.names import quoted

    wanted = {column.name: column.type for column in read.stream.columns}
    texts = [name for name, type_ in relation.types.items() if type_ == "VARCHAR" != wanted.get(name, "VARCHAR")]
    if not texts:
        return relation
    counts = ", ".join(f"count({quoted(name)})" for name in texts)
    sql = f"SELECT {counts} FROM {relation.sql}"  # noqa: S608  names are quoted
    (found,) = connection.execute(sql, relation.parameters).fetchall()
    empty = {name: '"NULL"' for name, number in zip(texts, found, strict=True) if not number}
    return replace(relation, types={**relation.types, **empty})


def _nothing(read: Read) -> str:
    """A relation with the stream's columns and no row."""
    from webapp.engine.names import quoted

    columns = ", ".join(f"CAST(NULL AS {column.type}) AS {quoted(column.name)}" for column in read.stream.columns)
    return f"(SELECT {columns or 'NULL'} WHERE false)"


def _as_asked(since: Any) -> Any:
    """An instant as ISO 8601, which is what APIs write; anything else as it is."""
    if isinstance(since, str) and len(since) >= 19 and since[4] == since[7] == "-" and since[10] == " ":
        return since.replace(" ", "T", 1) + "Z"
    return since


@contextmanager
def _folder(context: Context) -> Iterator[Context]:
    folder = context.temp / f"rest-{uuid4().hex}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise EngineError(
            f"the temporary folder cannot be used: {error.strerror}", origin=Origin.PLATFORM, kind=Kind.SYSTEM,
            permanent=False, fix="Check its space and its rights.",
        ) from error  # fmt: skip
    try:
        yield replace(context, temp=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
