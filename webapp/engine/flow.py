"""The way of the rows: prepare the source, open the database, load, count, commit."""

import contextlib
from dataclasses import replace
from pathlib import Path

import duckdb

from webapp.engine.api_pages import api_source
from webapp.engine.context import Context
from webapp.engine.csv_files import csv_source
from webapp.engine.database import name_of_file, writing
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.faults import explained
from webapp.engine.names import TableName
from webapp.engine.parquet_files import parquet_source
from webapp.engine.sources import Source
from webapp.engine.specs import ApiExtractor, CsvExtractor, Extractor, Loader
from webapp.engine.tables import Loaded, TableLoad
from webapp.engine.tasks import Receipt, Steps, shown_file
from webapp.engine.watch import Expected, watched


def move(extractor: Extractor, loader: Loader, database: Path | None, context: Context, steps: Steps) -> Receipt:
    """Do what ``run_task`` promises, with everything parsed and allowed."""
    with steps.step("fetch" if isinstance(extractor, ApiExtractor) else "prepare"):
        source = _prepared(extractor, context)
    shown = shown_file(loader)
    with explained(source, shown), contextlib.ExitStack() as opened:
        with steps.step("open"):
            connection = opened.enter_context(
                writing(database, context, shown=shown, may_read=source.files, ordered=source.ordered)
            )
            source = _counted(_registered(source, connection), connection)
        loaded = _load(connection, source, loader, context, steps)
        counted = loaded.read if source.rows is None else source.rows
        with steps.step("commit"):
            connection.execute("COMMIT")
            # Closing writes what is still in the write-ahead log into the file.
            connection.close()
    context.reporter.progress(counted, loaded.written, source.size, 1.0)
    return _receipt(loaded, counted, source, steps)


def _prepared(extractor: Extractor, context: Context) -> Source:
    try:
        if isinstance(extractor, ApiExtractor):
            return api_source(extractor, context)
        if isinstance(extractor, CsvExtractor):
            return csv_source(extractor, context)
        return parquet_source(extractor, context)
    except BrokenPipeError:
        raise  # the reporter's, not ours
    except OSError as error:
        raise EngineError(
            f"this machine fails while the source is prepared: {error.strerror or error}",
            origin=Origin.PLATFORM,
            kind=Kind.SYSTEM,
            permanent=False,
            fix="Check the free space and the rights of the temporary folder.",
            file=error.filename and Path(error.filename).name,
        ) from error


def _registered(source: Source, connection: duckdb.DuckDBPyConnection) -> Source:
    for name, table in source.tables.items():
        connection.register(name, table)
    return source


def _counted(source: Source, connection: duckdb.DuckDBPyConnection) -> Source:
    if source.count is None:
        return source
    row = connection.execute(source.count, source.parameters).fetchone()
    rows = int(row[0]) if row else 0
    return replace(source, rows=rows, rows_estimate=rows)


def _load(
    connection: duckdb.DuckDBPyConnection, source: Source, loader: Loader, context: Context, steps: Steps
) -> Loaded:
    try:
        return _attempt(connection, source, loader, context, steps)
    except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
        wider = source.wider(error)
        if wider is None:
            raise
        connection.execute("ROLLBACK")
        context.reporter.log("warning", "the types of the first rows do not fit all rows; looking at all of them")
        return _attempt(connection, wider, loader, context, steps)


def _attempt(
    connection: duckdb.DuckDBPyConnection, source: Source, loader: Loader, context: Context, steps: Steps
) -> Loaded:
    connection.execute("BEGIN")
    table = TableName.parse(loader.table_name).within(name_of_file(connection))
    load = TableLoad(connection, table, loader.mode, loader.key)
    with steps.step("load"), watched(connection, context, Expected(source.rows_estimate, source.size)):
        load.run(source)
    with steps.step("verify"), watched(connection, context):
        loaded = load.verify()
    if context.cancelled():
        raise Cancelled
    return loaded


def _receipt(loaded: Loaded, counted: int, source: Source, steps: Steps) -> Receipt:
    return Receipt(
        counted,
        loaded.written,
        loaded.found,
        source.size,
        dict(steps.seconds),
        loaded.schema,
        loaded.changes,
        _doubt(counted, loaded.written, loaded.found),
    )


def _doubt(read: int, written: int, found: int) -> str | None:
    if read == written == found:
        return None
    return f"{read} rows were read, {written} written and {found} found in the table afterwards"
