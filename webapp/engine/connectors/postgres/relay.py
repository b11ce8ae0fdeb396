"""From PostgreSQL to PostgreSQL: what binary COPY gives on one side goes into COPY on the other, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from webapp.engine.connectors.base import Chunk, Column, Read, Relay, Relayed
from webapp.engine.connectors.postgres.catalog import OWN, Relation
from webapp.engine.connectors.postgres.columns import Attribute
from webapp.engine.connectors.postgres.connection import Server
from webapp.engine.connectors.postgres.outgoing import native_type
from webapp.engine.connectors.postgres.queries import statement
from webapp.engine.connectors.postgres.staging import XID
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import literal, quoted

if TYPE_CHECKING:
    import asyncpg

_ON_THE_WAY = 2  # pieces between the two sides, each at most 256 kB
_LOOK, _CLOSE = 0.2, 5.0  # seconds
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}"
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sender:
    """What is needed to read a relation within a session's snapshot; `turn` holds one of its connections' places."""

    server: Server
    snapshot: str
    relation: Relation
    turn: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Receiver:
    """What is needed to fill a load's staging table; `turn` holds one of its connections' places."""

    server: Server
    stage: str
    columns: Sequence[Column]
    turn: Callable[[], AbstractContextManager[None]]
    took: Callable[[Chunk, str, int, int], None]


def relay(sender: Sender, receiver: Receiver, read: Read) -> Relay | None:
    """The short way for this read, None where a column needs more than a cast of the server's."""
    if [column.type for column in read.columns] != [column.type for column in receiver.columns]:
        return None
    sent = []
    for column in read.columns:
        attribute = sender.relation.attributes.get(column.name)
        expression = None if attribute is None or attribute.column.type != column.type else _sent(attribute)
        if expression is None:
            return None
        sent.append(expression)
    return PostgresRelay(sender, receiver, read, ", ".join(sent))


def _sent(attribute: Attribute) -> str | None:
    """The expression whose binary form the destination's column takes, None where there is none."""
    column, kept = attribute.column, native_type(attribute.column.type)
    if column.native == kept:
        return quoted(column.name)
    if column.type.endswith("[]"):
        return None if kept == "json" else f"({attribute.sql})::{kept}"
    return f"({attribute.sql})::{kept}" if column.type in ("JSON", "UUID") else attribute.sql


def _in_a_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """What the coroutine comes to, in a loop of its own, also where the thread that asks runs one already."""
    with ThreadPoolExecutor(1, "relay") as thread:
        return thread.submit(asyncio.run, work).result()


class PostgresRelay(Relay):
    """Each chunk has a connection to either side, and an event loop that moves bytes between them."""

    def __init__(self, sender: Sender, receiver: Receiver, read: Read, columns: str) -> None:
        self._sender = sender
        self._receiver = receiver
        self._read = read
        self._columns = columns

    def pass_on(self, chunk: Chunk, moved: Callable[[int], None]) -> Relayed:
        """All of the chunk's rows or none; the rows are those that either server says it gave and took."""
        sql = statement(self._columns, self._read, self._sender.relation, chunk.bounds)
        with self._sender.turn(), self._receiver.turn():
            try:
                done, xid = _in_a_loop(self._passed_on(sql, moved))
            except BaseExceptionGroup as group:
                # In the order in which they happened: what follows from the first says less.
                raise group.exceptions[0] from None
        self._receiver.took(chunk, xid, done.written, done.size)
        return done

    async def _passed_on(self, sql: str, moved: Callable[[int], None]) -> tuple[Relayed, str]:
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_ON_THE_WAY)
        size = 0

        async def take(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            moved(len(piece))
            await pieces.put(piece)

        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(moved))
            read = tasks.create_task(self._give(sql, take, pieces))
            written, xid = await tasks.create_task(self._take(pieces))
            watch.cancel()
        return Relayed(read.result(), written, size), xid

    async def _give(
        self, sql: str, take: Callable[[bytes], Awaitable[None]], pieces: asyncio.Queue[bytes | None]
    ) -> int:
        sender, label = self._sender, self._read.stream.label

        async def act(connection: asyncpg.Connection) -> str:
            await connection.execute(_READ.format(literal(sender.snapshot)))
            return str(await connection.copy_from_query(sql, output=take, format="binary"))

        rows = _rows(await _with(sender.server, f"reading {label} failed", act))
        await pieces.put(None)
        return rows

    async def _take(self, pieces: asyncio.Queue[bytes | None]) -> tuple[int, str]:
        """The rows that the destination took, and the number of the transaction in which it did."""
        receiver = self._receiver
        names = [column.name for column in receiver.columns]

        async def source(connection: asyncpg.Connection) -> AsyncIterator[bytes]:
            # The driver learns that the server is gone only when this ends.
            while (piece := await pieces.get()) is not None and not connection.is_closed():
                yield piece

        async def act(connection: asyncpg.Connection) -> tuple[str, str]:
            connection.add_termination_listener(lambda _: _wake(pieces))
            rows = source(connection)
            await connection.execute("BEGIN")
            xid = await connection.fetchval(XID)
            tag = await connection.copy_to_table(
                receiver.stage, source=rows, columns=names, schema_name=OWN, format="binary"
            )
            await connection.execute("COMMIT")
            return str(tag), str(xid)

        tag, xid = await _with(receiver.server, f"writing {self._read.stream.label} failed", act)
        return _rows(tag), xid


def _wake(pieces: asyncio.Queue[bytes | None]) -> None:
    """End the wait for a piece; where there are pieces, nobody waits."""
    with suppress(asyncio.QueueFull):
        pieces.put_nowait(None)


async def _watch(moved: Callable[[int], None]) -> None:
    """Notice that the run shall stop also while a server is silent."""
    while True:
        moved(0)
        await asyncio.sleep(_LOOK)


async def _with(server: Server, what: str, act: Callable[[asyncpg.Connection], Awaitable[Given]]) -> Given:
    """What the action gives with a connection. Raises EngineError in the words of this side."""
    import asyncpg

    try:
        async with _connected(server) as connection:
            return await act(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise server.error(error, what) from error


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[asyncpg.Connection]:
    import asyncpg

    connection = await asyncpg.connect(**server.streaming())
    try:
        yield connection
    finally:
        # Ends the statement that runs, too: a server that is silent would not notice that nobody listens.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await connection.close(timeout=_CLOSE)


def _rows(tag: str) -> int:
    """The number in a command's tag, `COPY 12`."""
    word, _, number = tag.partition(" ")
    if word != "COPY" or not number.isdigit():
        raise EngineError(f"the server ended COPY with {tag!r}", origin=Origin.PLATFORM)
    return int(number)
