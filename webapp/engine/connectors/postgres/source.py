"""A PostgreSQL database as a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from webapp.engine.connectors.base import CheckStep, Mode, Source, SourceSession, Stream
from webapp.engine.connectors.postgres import catalog
from webapp.engine.connectors.postgres.connection import Server, attempt, steps
from webapp.engine.connectors.postgres.queries import table_sql
from webapp.engine.connectors.postgres.spec import PostgresSpec
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  the driver's own name is lower case
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


class PostgresSource(Source[PostgresSpec]):
    """Tables, partitioned tables, views and foreign tables of one database."""

    name = "postgres"
    title = "PostgreSQL"
    offers_sums = True
    Spec = PostgresSpec

    def check(self) -> Iterator[CheckStep]:
        """Resolve, connect, TLS, log in, rights, read one row."""
        with self._server() as server:
            yield from steps(server, lambda connection: self._look(server, connection))

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield every relation of the chosen schemas, by schema and name."""
        import psycopg2

        with self._server() as server, closing(server.control(autocommit=True)) as connection:
            try:
                with connection.cursor() as cursor:
                    found = catalog.find(cursor, self.config.schemas, pattern)
                    captured = self._captured(cursor)
                    for stream in catalog.streams(cursor, found):
                        offered = (stream.namespace, stream.name) in captured
                        yield replace(stream, modes=(*stream.modes, Mode.CDC)) if offered else stream
            except psycopg2.Error as error:
                raise server.error(error, "cannot list the tables") from error

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[SourceSession]:
        """One snapshot, read by up to `parallel` connections."""
        from webapp.engine.connectors.postgres.session import PostgresSession

        with self._server() as server:
            session = PostgresSession(server, max(1, min(parallel, self.config.max_threads)))
            with session.opened():
                yield session

    def _server(self) -> Server:
        return Server(self.config, self.context, Origin.SOURCE)

    def _look(self, server: Server, connection: Connection) -> Iterator[CheckStep]:
        step, found = attempt("rights", lambda: self._readable(server, connection))
        yield step
        if step.ok and found:
            yield attempt("read one row", lambda: self._one_row(server, connection, *found))[0]
        elif step.ok:
            yield CheckStep("read one row", ok=True, message="there is no table yet")
        if step.ok and self.config.update_method.type == "cdc":
            yield self._capture_step(server, connection)

    def _capture_step(self, server: Server, connection: Connection) -> CheckStep:
        import psycopg2

        from webapp.engine.connectors.capture import STEP, step
        from webapp.engine.connectors.postgres import capture

        try:
            with connection.cursor() as cursor:
                return step(capture.missing(cursor))
        except psycopg2.Error as error:
            known = server.error(error, "cannot tell")
            return CheckStep(STEP, ok=True, message=known.message)

    def _captured(self, cursor: Cursor) -> frozenset[tuple[str, str]]:
        """The tables that change data capture could follow, none when the server is not ready or nobody asks."""
        from webapp.engine.connectors.postgres import capture

        if self.config.update_method.type != "cdc" or capture.missing(cursor):
            return frozenset()
        return capture.tables(cursor)

    def _readable(self, server: Server, connection: Connection) -> tuple[str, str] | None:
        """The first relation that may be read, tables before views."""
        import psycopg2

        try:
            with connection.cursor() as cursor:
                found = catalog.find(cursor, self.config.schemas, "")
                cursor.execute(
                    "SELECT oid FROM pg_class WHERE oid = ANY(%s::oid[]) AND has_table_privilege(oid, 'SELECT')"
                    " ORDER BY relkind NOT IN ('r', 'p'), oid LIMIT 1",
                    ([oid for oid, _, _ in found],),
                )
                row = cursor.fetchone()
        except psycopg2.Error as error:
            raise server.error(error, "cannot list the tables") from error
        if found and row is None:
            raise EngineError(
                f"{self.config.username} may not read any of the {len(found)} tables",
                origin=Origin.SOURCE,
                fix=f"GRANT SELECT ON ALL TABLES IN SCHEMA ... TO {self.config.username}.",
            )
        return next(((schema, name) for oid, schema, name in found if row and oid == row[0]), None)

    def _one_row(self, server: Server, connection: Connection, schema: str, name: str) -> str:
        import psycopg2

        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {table_sql(schema, name)} LIMIT 1")  # noqa: S608  names are quoted
        except psycopg2.Error as error:
            raise server.error(error, f"cannot read {schema}.{name}") from error
        return f"read from {schema}.{name}"
