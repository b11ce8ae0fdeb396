"""One snapshot of a PostgreSQL database, read over several connections at once."""

# ruff: noqa: S608  names are quoted by names.quoted, values by names.literal

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import psycopg2
import pyarrow as pa

from webapp.engine.connectors import sums
from webapp.engine.connectors.base import Chunk, Read, SourceSession, Staged, Sum
from webapp.engine.connectors.postgres import catalog, proof, queries, ranges
from webapp.engine.connectors.postgres.batches import fitted
from webapp.engine.connectors.postgres.catalog import PAGE, Relation
from webapp.engine.connectors.postgres.connection import Server, cancelling, close_quietly
from webapp.engine.connectors.postgres.relay import Sender
from webapp.engine.connectors.types import arrow_schema
from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.engine.names import literal, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812  the driver's own name is lower case

BATCH_BYTES = 2 << 20
_COUNT_PAGES = (256 << 20) // PAGE
_TID_RANGES = 140000  # the version since which a range of ctid reads only its pages
_READ_ONLY = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}
_PATIENCE, _PAUSE = 60.0, 0.5  # seconds
_INTEGERS = ("SMALLINT", "INTEGER", "BIGINT")
_HINT = "adbc.postgresql.batch_size_hint_bytes"


class PostgresSession(SourceSession):
    """A snapshot held by one connection, which also answers questions; readers import it."""

    relays = True

    def __init__(self, server: Server, parallel: int) -> None:
        self._server = server
        self._parallel = parallel
        self._asked = threading.Lock()
        self._idle: queue.Queue[Any] = queue.Queue()
        self._readers: set[Any] = set()
        self._relations: dict[str, Relation] = {}
        self._identities: dict[tuple[str, ...], str | None] = {}
        self._stand: proof.Standpoint | None = None
        self._durable = False
        self._snapshot = ""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the snapshot until the block ends."""
        with ExitStack() as stack:
            self._control = self._server.control_at_last()
            stack.callback(close_quietly, self._control)
            stack.callback(self._close_readers)
            self._control.set_session(isolation_level="REPEATABLE READ", readonly=True)
            try:
                with self._control.cursor() as cursor:
                    cursor.execute("SELECT pg_export_snapshot()")
                    self._snapshot = _first(cursor)
            except psycopg2.Error as error:
                raise self._server.error(error, "cannot export a snapshot") from error
            for _ in range(self._parallel):
                self._idle.put(None)
            stack.enter_context(cancelling(self._server.context, self._cancel))
            yield

    def high_water(self, read: Read) -> Any:
        """The greatest finite cursor value; exact as text unless it is an integer."""
        relation = self._relation(read)
        attribute = relation.attributes[queries.known_column(str(read.cursor), relation)]
        with self._asking(read, "cannot find the greatest value of the cursor") as cursor:
            cursor.execute(f"SELECT max(c)::text FROM ({self._cursor_values(read, relation)}) v")
            found = _first(cursor)
        return int(found) if found is not None and attribute.column.type in _INTEGERS else found

    def count(self, read: Read) -> int | None:
        """Exact within the snapshot; None for large tables, whose count would cost as much as a part of the read."""
        relation = self._relation(read)
        with self._asking(read, "cannot count") as cursor:
            if relation.kind in "vf" or self._pages(cursor, relation.oid) > _COUNT_PAGES:
                return None
            cursor.execute(f"SELECT count(*) FROM {self._table(read)}{queries.where(read, relation)}")
            return int(_first(cursor))

    def count_exactly(self, read: Read) -> int | None:
        """Exact within the snapshot."""
        relation = self._relation(read)
        with self._asking(read, "cannot count") as cursor:
            cursor.execute(f"SELECT count(*) FROM {self._table(read)}{queries.where(read, relation)}")
            return int(_first(cursor))

    def sums(self, read: Read, columns: Sequence[str]) -> Mapping[str, Sum]:
        """Within the snapshot; what is no number (NaN) travels as null and is left out."""
        relation = self._relation(read)
        kinds = {column.name: column.type for column in read.columns}
        values = [queries.addend(queries.known_column(name, relation), kinds[name]) for name in columns]
        with self._asking(read, "cannot add up") as cursor:
            cursor.execute(
                f"SELECT {sums.select(values, 'text')} FROM {self._table(read)}{queries.where(read, relation)}"
            )
            return sums.read(columns, cursor.fetchone() or ())

    def chunks(self, read: Read, *, parallel: int) -> Sequence[Chunk]:
        """Ranges of pages for tables, part by part where a table is partitioned; one for what has no pages."""
        return self.rest(read, (), parallel=parallel)

    def rest(self, read: Read, kept: Sequence[Chunk], *, parallel: int) -> Sequence[Chunk]:
        """The ranges of pages that the kept ones leave."""
        relation = self._relation(read)
        queries.select(read, relation, {})
        with self._asking(read, "cannot divide") as cursor:
            if self._control.server_version < _TID_RANGES or not self._sequential(cursor, read, relation):
                return [Chunk("all")]
            leaves = self._leaves(cursor, read, relation)
            if leaves is None:
                return [Chunk("all")]
            found: list[Chunk] = []
            for leaf in leaves:
                pages = self._pages(cursor, leaf.oid) if leaf.kind in "rm" else 0
                for gap in ranges.gaps([one.bounds for one in kept if one.bounds["table"] == leaf.place]):
                    found += ranges.divided(leaf, gap, pages, 2 * min(parallel, self._parallel))
            return found

    def proves(self, read: Read) -> bool:
        """For tables that are read by pages, where the role may ask what the server is."""
        relation = self._relation(read)
        if relation.kind not in "rpm" or relation.guarded or self._control.server_version < _TID_RANGES:
            return False
        try:
            with self._asking(read, "cannot tell where the snapshot stands") as cursor:
                self._stand = self._stand or proof.standpoint(cursor)
        except EngineError:
            return False  # a server that does not tell, or has gone, as the read will say
        return True

    def mark(self, read: Read, chunk: Chunk) -> Mapping[str, Any] | None:
        """Where the snapshot stands, and which table and columns were read."""
        if "table" not in chunk.bounds or self._stand is None:
            return None
        table = self._identity(read, chunk.bounds["table"])
        if table is None:
            return None
        if not self._durable:
            with self._asking(read, "cannot tell whether the server is done with its log") as cursor:
                self._durable = proof.durable(cursor, self._stand)
        return proof.mark(self._stand, table) if self._durable else None

    def unchanged(self, read: Read, staged: Staged) -> bool:
        """Whether the pages hold the same row versions; read over a connection of its own."""
        bounds, relation = staged.chunk.bounds, self._relation(read)
        with self._asking(read, "cannot divide") as cursor:
            leaves = self._leaves(cursor, read, relation) or []
        if self._stand is None or bounds["table"] not in [leaf.place for leaf in leaves]:
            return False
        if not proof.comparable(staged.mark, self._stand, self._identity(read, bounds["table"])):
            return False
        return self._asked_apart(proof.counting(read, relation, bounds, staged.mark)) == [staged.rows, 0]

    def floor(self, read: Read, rows: int) -> Any:
        """Found by the server, which sends one value."""
        relation = self._relation(read)
        attribute = relation.attributes[queries.known_column(str(read.cursor), relation)]
        with self._asking(read, "cannot find the last values of the cursor") as cursor:
            cursor.execute(
                f"SELECT CASE WHEN count(*) = {int(rows)} THEN min(c) END::text FROM"
                f" (SELECT c FROM ({self._cursor_values(read, relation)}) v ORDER BY c DESC LIMIT {int(rows)}) w"
            )
            found = _first(cursor)
        return int(found) if found is not None and attribute.column.type in _INTEGERS else found

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """Batches of one chunk, over a connection of its own while they are pulled."""
        schema = arrow_schema(read.columns)
        sql = queries.select(read, self._relation(read), chunk.bounds)
        return pa.RecordBatchReader.from_batches(schema, self._batches(sql, schema, read.stream.label))

    def sender(self, read: Read) -> Sender:
        """What a relay to another server needs to read these rows within the snapshot."""
        return Sender(self._server, self._snapshot, self._relation(read), self._turn)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the place of one connection, whoever opens it."""
        held = self._free()
        try:
            yield
        finally:
            self._idle.put(held)

    def _batches(self, sql: str, schema: pa.Schema, label: str) -> Iterator[pa.RecordBatch]:
        connection = self._take()
        whole = False
        try:
            with connection.cursor() as cursor:
                cursor.adbc_statement.set_options(**{_HINT: str(BATCH_BYTES)})
                cursor.execute(sql)
                for batch in cursor.fetch_record_batch():
                    if self._server.context.cancelled():
                        raise Cancelled
                    yield fitted(batch, schema)
            whole = True
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
            raise self._read_error(error, label) from error
        finally:
            self._give_back(connection, whole=whole)

    def _read_error(self, error: Exception, label: str) -> EngineError:
        if isinstance(error, pa.ArrowInvalid) and not self._server.context.cancelled():
            return EngineError(
                f"{label} holds a value that does not fit its column: {error}",
                origin=Origin.SOURCE,
                fix="Discover the source again: a column's type may have changed. Or leave the column out.",
            )
        return self._server.error(error, f"reading {label} failed")

    def _take(self) -> Any:
        """A connection that sees the snapshot."""
        connection = self._free()
        if connection is not None:
            return connection
        try:
            connection = self._server.data(settings=_READ_ONLY)
        except EngineError:
            self._idle.put(None)
            raise
        self._readers.add(connection)
        try:
            connection.adbc_connection.set_autocommit(False)
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION SNAPSHOT {literal(self._snapshot)}")
        except adbc_driver_manager.Error as error:
            self._give_back(connection, whole=False)
            raise self._server.error(error, "the snapshot is gone") from error
        return connection

    def _free(self) -> Any:
        """An idle connection, or None where another may be opened."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with suppress(queue.Empty):
                return self._idle.get(timeout=_PAUSE)
            if self._server.context.cancelled():
                raise Cancelled
        # Whoever took one may have failed without letting go of it: rather one too many than waiting for ever.
        return None

    def _give_back(self, connection: Any, *, whole: bool) -> None:
        # A statement that failed ends its transaction, and with it the snapshot.
        if not whole:
            self._readers.discard(connection)
            close_quietly(connection)
        self._idle.put(connection if whole else None)

    def _close_readers(self) -> None:
        for connection in list(self._readers):
            close_quietly(connection)

    def _cancel(self) -> None:
        with suppress(psycopg2.Error):
            self._control.cancel()
        for connection in list(self._readers):
            with suppress(adbc_driver_manager.Error):
                connection.adbc_cancel()

    @contextmanager
    def _asking(self, read: Read, what: str) -> Iterator[Cursor]:
        """A cursor of the connection that holds the snapshot; an error of the block leaves that in place."""
        with self._asked, self._control.cursor() as cursor:
            try:
                cursor.execute("SAVEPOINT asking")
                yield cursor
                cursor.execute("RELEASE SAVEPOINT asking")
            except psycopg2.Error as error:
                with suppress(psycopg2.Error):
                    cursor.execute("ROLLBACK TO SAVEPOINT asking")
                raise self._server.error(error, f"{what}: {read.stream.label}") from error

    def _relation(self, read: Read) -> Relation:
        """What is read, held against changes of its columns until the session ends."""
        label = read.stream.label
        if (known := self._relations.get(label)) is not None:
            return known
        with self._asking(read, "cannot read") as cursor:
            found = catalog.relation(cursor, read.stream.namespace, read.stream.name)
            if found is not None and found.kind in "rp":
                cursor.execute(f"LOCK TABLE {self._table(read)} IN ACCESS SHARE MODE")
        if found is None:
            raise EngineError(
                f"there is no table {label} any more",
                origin=Origin.SOURCE,
                fix="Discover the source again, or leave the table out.",
                table=label,
            )
        return self._relations.setdefault(label, found)

    def _table(self, read: Read) -> str:
        return queries.table_sql(read.stream.namespace, read.stream.name)

    def _pages(self, cursor: Cursor, oid: int) -> int:
        cursor.execute(
            "SELECT coalesce(sum(pg_relation_size(relid)), 0) FROM pg_partition_tree(%s) WHERE isleaf", (oid,)
        )
        partitioned = int(_first(cursor))
        if not partitioned:
            cursor.execute("SELECT coalesce(pg_relation_size(%s), 0)", (oid,))
            partitioned = int(_first(cursor))
        return partitioned // PAGE

    def _sequential(self, cursor: Cursor, read: Read, relation: Relation) -> bool:
        """Whether the whole table would be read anyway: an index that finds few rows beats any division."""
        if relation.kind in "vf" or relation.guarded:
            return False
        clause = queries.where(read, relation)
        if not clause:
            return True
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM {self._table(read)}{clause}")
        return "Index" not in str(_first(cursor))

    def _leaves(self, cursor: Cursor, read: Read, relation: Relation) -> list[ranges.Leaf] | None:
        """The table, or its partitions; None when they can only be read as one."""
        if relation.kind in "rm":
            return [ranges.Leaf([read.stream.namespace, read.stream.name], relation.oid, relation.kind, "")]
        cursor.execute(
            "SELECT n.nspname, c.relname, c.oid, c.relkind, has_table_privilege(c.oid, 'SELECT')"
            " FROM pg_partition_tree(%s) p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE p.isleaf ORDER BY 1, 2",
            (relation.oid,),
        )
        found = cursor.fetchall()
        if not found or not all(leaf[-1] for leaf in found):
            return None
        return [ranges.Leaf([schema, name], oid, kind, f"{name} ") for schema, name, oid, kind, _ in found]

    def _cursor_values(self, read: Read, relation: Relation) -> str:
        """The finite cursor values of a read, as SQL that gives a column `c`."""
        name, clause = quoted(str(read.cursor)), queries.where(read, relation)
        finite = " AND isfinite(c)" if relation.attributes[str(read.cursor)].temporal else ""
        inner = f"SELECT {name} AS c FROM {self._table(read)}{clause}"
        return f"SELECT c FROM ({inner}) i WHERE c IS NOT NULL{finite}"

    def _identity(self, read: Read, place: Sequence[str]) -> str | None:
        key = (read.stream.label, *place)
        if key not in self._identities:
            with self._asking(read, "cannot look at") as cursor:
                self._identities[key] = proof.identity(cursor, place, read)
        return self._identities[key]

    def _asked_apart(self, sql: str) -> list[int]:
        """The one row of whole numbers that a statement gives, asked over a reader's connection."""
        connection = self._take()
        whole = False
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                row = cursor.fetchone()
            whole = True
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
            raise self._server.error(error, "comparing with an earlier attempt failed") from error
        finally:
            self._give_back(connection, whole=whole)
        return list(row or ())


def _first(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
