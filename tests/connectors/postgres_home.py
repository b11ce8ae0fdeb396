"""What the tests of PostgreSQL share: a source, a destination, a load from one to the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support.postgres import TcpPostgres
from webapp.engine.connectors.base import Column, Landed, Load, Read, Stream, Target, Write
from webapp.engine.connectors.postgres.destination import PostgresDestination
from webapp.engine.connectors.postgres.source import PostgresSource
from webapp.engine.context import Context, Silence


def context(folder: Path, **changes: Any) -> Context:
    """Surroundings that allow loopback."""
    plain = Context(folder, (folder,), folder / "warehouse.duckdb", folder / "temp", Silence())
    return replace(plain, allow_private_addresses=True, **changes)


def source(server: TcpPostgres, around: Context, **changes: Any) -> PostgresSource:
    return PostgresSource(PostgresSource.Spec.model_validate(server.config(**changes)), around)


def destination(server: TcpPostgres, around: Context, **changes: Any) -> PostgresDestination:
    return PostgresDestination(PostgresDestination.Spec.model_validate(server.config(**changes)), around)


def stream_of(one: PostgresSource, label: str) -> Stream:
    """The stream of this name, which has to be found."""
    (found,) = one.discover(pattern=label)
    return found


def read_all(one: PostgresSource, read: Read, parallel: int = 2) -> pa.Table:
    """All chunks of a read, one after the other, checked against the promised schema."""
    from webapp.engine.connectors.types import arrow_schema

    with one.open(parallel=parallel) as session:
        tables = [session.read(read, chunk).read_all() for chunk in session.chunks(read, parallel=parallel)]
    assert all(table.schema == arrow_schema(read.columns) for table in tables)
    return pa.concat_tables(tables)


def whole(stream: Stream, **changes: Any) -> Read:
    return Read(stream, stream.columns, **changes)


def land(
    one: PostgresDestination,
    table: pa.Table,
    columns: tuple[Column, ...],
    write: Write = Write.REPLACE,
    *,
    name: str = "landed",
    state: dict[str, Any] | None = None,
    before_commit: Callable[[], None] = lambda: None,
    **more: Any,
) -> Landed:
    """Load a table of Arrow as a run would."""
    from webapp.engine.connectors.base import Chunk

    with one.open() as session:
        writer = session.begin(Load(Target("", name), write, columns, **more))
        try:
            writer.write(table.to_reader(), Chunk("all"))
            before_commit()
            return writer.commit(state or {})
        except BaseException:
            writer.abort()
            raise
