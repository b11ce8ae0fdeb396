"""DuckDB as a destination: one file, one load at a time on it, any number of streams and chunks within the load."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import (
    CheckStep,
    Column,
    Destination,
    DestinationSession,
    Generation,
    Landed,
    Load,
    Target,
)
from webapp.engine.connectors.duckdb.spec import WAREHOUSE, DuckDBDestinationSpec
from webapp.engine.connectors.keys import check_key
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.names import TableName
from webapp.engine.paths import allowed_path

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from webapp.engine.connectors.duckdb.writer import DuckDBWriter

_CHECK_WAIT = 8.0


class _Unfinished(EngineError):
    """Some stream did not land; tells the database to give the space of what was written aside back."""


class DuckDBDestination(Destination[DuckDBDestinationSpec]):
    """A DuckDB file under the allowed folders, or the instance's warehouse."""

    name = "duckdb"
    title = "DuckDB"
    offers_sums = True
    Spec = DuckDBDestinationSpec

    def check(self) -> Iterator[CheckStep]:
        """Find the file, open it, write a table and take it back."""
        return tried(
            ("resolve", lambda: "" if self._file() else None),
            ("connect", self._connects),
            ("write", self._writes),
        )

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """Hold the file for writing until the block ends, waiting for whoever has it."""
        from webapp.engine.connectors.duckdb import room, staging
        from webapp.engine.database import writing

        file = self._file()
        new = not file.exists()
        try:
            with (
                explained(self._shown),
                writing(file, self.context, shown=self._shown, may_read=(), ordered=False) as connection,
            ):
                staging.sweep(connection)
                room.make_room(connection, self.context, file)
                session = DuckDBSession(connection, self.config.schema_name, self._shown, self.context, file)
                yield session
                room.make_room(connection, self.context, file)
                if session.unfinished or (new and not session.landed):  # a new file without a table goes, too
                    connection.execute("CHECKPOINT")
                    raise _Unfinished("unfinished", origin=Origin.DESTINATION)
        except _Unfinished:
            pass

    @property
    def _shown(self) -> str:
        return "the warehouse" if self.config.path == WAREHOUSE else self.config.path

    def _file(self) -> Path:
        if self.config.path == WAREHOUSE:
            return self.context.warehouse
        return allowed_path(self.config.path, self.context, origin=Origin.DESTINATION)

    def _connects(self) -> str:
        return self._briefly(lambda connection: None)

    def _writes(self) -> str:
        return self._briefly(_try_write)

    def _briefly(self, action: Callable[[duckdb.DuckDBPyConnection], None]) -> str:
        from webapp.engine.database import writing

        file = self._file()
        new = not file.exists()
        waiting = replace(self.context, lock_timeout=min(self.context.lock_timeout, _CHECK_WAIT))
        with (
            explained(self._shown),
            writing(file, waiting, shown=self._shown, may_read=()) as connection,
        ):
            action(connection)
            if new:
                connection.close()
                file.unlink()
        return "the file will be made" if new else ""


class DuckDBSession(DestinationSession):
    """The open file."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: str, shown: str, context: Context, file: Path
    ) -> None:
        self.connection = connection
        self.context = context
        self.shown = shown
        self.file = file
        self.unfinished = self.landed = False
        self.lock = threading.RLock()
        self._schema = schema
        from webapp.engine.database import name_of_file

        self._file_name = name_of_file(connection)

    def state(self, target: Target) -> dict[str, Any] | None:
        """The state of the last commit; a table that somebody dropped has none."""
        from webapp.engine.connectors.duckdb import tables

        with self.lock, explained(self.shown):
            table = self.table(target)
            return tables.state(self.connection, table) if tables.kind(self.connection, table) else None

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """The table's columns in DuckDB's types."""
        from webapp.engine.connectors.duckdb import tables

        with self.lock, explained(self.shown):
            table = self.table(target)
            return tables.columns(self.connection, table.sql) if tables.kind(self.connection, table) else None

    def begin(self, load: Load) -> DuckDBWriter:
        """Make the table aside."""
        from webapp.engine.connectors.duckdb.writer import DuckDBWriter

        with self.lock, explained(self.shown):
            check_key(load)
            return DuckDBWriter(self, load, self.table(load.target))

    def generations(self, target: Target) -> list[Generation]:
        """Earlier contents: a whole table after a replace, what undoes it after an append or upsert."""
        from webapp.engine.connectors.duckdb import parachute

        with self.lock, explained(self.shown):
            return parachute.listed(self.connection, self.table(target))

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Go back to before the load that left this generation, in one transaction."""
        from webapp.engine.connectors.duckdb import parachute, tables

        with self.lock, explained(self.shown), tables.transaction(self.connection):
            table = self.table(target)
            tables.make_own(self.connection)
            whole = parachute.whole_state(self.connection, generation, state)
            parachute.restore(self.connection, table, generation)
            tables.put_state(self.connection, table, None if whole is None else json.dumps(whole), "")
            total = tables.count(self.connection, table.sql)
        return Landed(total, total, total)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows of the table."""
        with self.lock, explained(self.shown):
            query = f"SELECT * FROM {self.table(target).sql} LIMIT {int(limit)}"  # noqa: S608  quoted
            with closing(self.connection.cursor()) as cursor:  # another look may not have been read to its end
                return cursor.sql(query).to_arrow_table()

    def table(self, target: Target) -> TableName:
        """The table of a target. Raises EngineError for a name that cannot be."""
        table = TableName(target.database or self._schema, target.table).within(self._file_name)
        for part in (table.schema, table.table):
            if not part.strip() or len(part) > 128 or not part.isprintable() or part.lower().startswith("_hohmann"):
                raise EngineError(
                    f"{part!r} cannot be a name in DuckDB: 1 to 128 printable characters, not beginning with _hohmann",
                    origin=Origin.DESTINATION,
                    fix="Choose another destination database or table.",
                )
        return table


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn DuckDB's errors in the block into EngineError."""
    import duckdb

    from webapp.engine import faults
    from webapp.engine.sources import Source

    try:
        with faults.explained(Source("", []), shown):
            yield
    except duckdb.InterruptException as error:
        raise EngineError("DuckDB was interrupted", origin=Origin.PLATFORM, kind=Kind.TRANSIENT) from error


def _try_write(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN")
    connection.execute(f'CREATE TABLE "_hohmann_check_{time.time_ns()}" AS SELECT 1 AS one')
    connection.execute("ROLLBACK")
