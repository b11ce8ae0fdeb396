"""A ClickHouse server as a destination."""

# ruff: noqa: S608  names are quoted by columns.quoted

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.base import (
    CheckStep,
    Column,
    Destination,
    DestinationSession,
    Generation,
    Landed,
    Load,
    Target,
    Writer,
)
from webapp.engine.connectors.clickhouse.spec import OWN, ClickHouseSpec
from webapp.engine.connectors.extras import check_installed
from webapp.engine.connectors.trials import tried
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    import pyarrow as pa

    from webapp.engine.connectors.clickhouse.contents import Place
    from webapp.engine.connectors.clickhouse.server import Server

_KEEP_DAYS = 3


class ClickHouseDestination(Destination[ClickHouseSpec]):
    """MergeTree tables of a server, written by INSERTs of Arrow data over HTTP."""

    name: ClassVar[str] = "clickhouse"
    title: ClassVar[str] = "ClickHouse"
    Spec: ClassVar[type[ClickHouseSpec]] = ClickHouseSpec

    def check(self) -> Iterator[CheckStep]:
        """Look for the library, resolve, log in, make a table with a row in it, exchange and remove it."""
        return tried(
            ("library", self._library), ("resolve", self._address), ("log in", self._version), ("write", self._write)
        )

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """One client for questions and loads; each call is a session of its own."""
        with closing(self._server()) as server:
            yield ClickHouseSession(server)

    def _server(self) -> Server:
        from webapp.engine.connectors.clickhouse.server import Server

        return Server(self.config, self.context)

    def _library(self) -> str:
        from webapp.engine.connectors.clickhouse.server import NEEDED

        return check_installed("clickhouse_connect", NEEDED, "ClickHouse")

    def _address(self) -> str:
        allow = self.context.allow_private_addresses
        return checked_address(self.config.host, self.config.port, allow_private=allow)

    def _version(self) -> str:
        with closing(self._server()) as server:
            return server.version

    def _write(self) -> str:
        from webapp.engine.connectors.clickhouse.contents import Place, prepare

        token = secrets.token_hex(4)
        one, other = Place(self.config.database, f"_hohmann_check_{token}"), Place(OWN, f"check_{token}")
        with closing(self._server()) as server:
            prepare(server, one)
            for place in (one, other):
                server.do(f"CREATE TABLE {place.sql} (one Int32) ENGINE = MergeTree ORDER BY one")
            server.do(
                f"INSERT INTO {one.sql} SELECT 1",
                f"EXCHANGE TABLES {one.sql} AND {other.sql}",
                f"DROP TABLE {one.sql}",
                f"DROP TABLE {other.sql}",
            )
        return f"wrote to {self.config.database} and {OWN}, and took it back"


class ClickHouseSession(DestinationSession):
    """The tables of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def state(self, target: Target) -> dict[str, Any] | None:
        """From the ledger, by the number of what bears the table's name."""
        from webapp.engine.connectors.clickhouse import contents

        return contents.state(self._server, self._place(target))

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """From the catalog, in the types that a load has noted."""
        from webapp.engine.connectors.clickhouse import tables

        found = tables.table(self._server, self._place(target))
        return None if found is None else found.columns

    def begin(self, load: Load) -> Writer:
        """A staging table in the database of ours."""
        from webapp.engine.connectors.clickhouse.loading import ClickHouseWriter

        writer = ClickHouseWriter(self._server, self._place(load.target), load)
        try:
            writer.begin()
        except BaseException:
            writer.abort()
            raise
        return writer

    def generations(self, target: Target) -> list[Generation]:
        """Contents before each replace and upsert."""
        from webapp.engine.connectors.clickhouse import contents

        return contents.generations(self._server, self._place(target))

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Exchange the table with a kept content; what is replaced now can be brought back in its turn."""
        from webapp.engine.connectors.clickhouse import contents

        server, place = self._server, self._place(target)
        kept = contents.check_known(server, place, generation)
        total = server.number(f"SELECT count() FROM {kept.sql}")
        number = contents.number(server, kept)
        assert number is not None
        contents.wake(server, kept)
        contents.note(server, place, number, state, rows=total)
        if contents.number(server, place) is None:
            server.do(f"RENAME TABLE {kept.sql} TO {place.sql}")
        else:
            server.do(f"EXCHANGE TABLES {place.sql} AND {kept.sql}")
            contents.keep(server, place, kept, _KEEP_DAYS)
        return Landed(total, total, total)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows, in the types that a load has noted; what is kept as text is text."""
        import pyarrow as pa

        from webapp.engine.connectors.clickhouse import tables
        from webapp.engine.connectors.clickhouse.columns import quoted
        from webapp.engine.connectors.clickhouse.outgoing import sent_type

        place = self._place(target)
        found = tables.table(self._server, place)
        if found is None:
            raise EngineError(f"{target.label} is not there yet", origin=Origin.DESTINATION, fix="Run the load first.")
        # What loads do not write is shown as ClickHouse writes it.
        names = ", ".join(
            name if one.ours and one.column.type != "UUID" else f"toString({name}) AS {name}"
            for one in found.attributes.values()
            if (name := quoted(one.column.name))
        )
        data = self._server.arrow(f"SELECT {names} FROM {place.sql} LIMIT {int(limit)}")
        schema = pa.schema([(column.name, sent_type(column)) for column in found.columns])
        return pa.ipc.open_stream(data).read_all().cast(schema)

    def _place(self, target: Target) -> Place:
        from webapp.engine.connectors.clickhouse.contents import Place

        return Place(target.database or self._server.config.database, target.table)
