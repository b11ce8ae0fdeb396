"""A Snowflake account as a destination."""

# ruff: noqa: S608  names are quoted by columns.quoted

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from webapp.engine.connectors.base import CheckStep, Column, Destination, DestinationSession, Load, Target, Writer
from webapp.engine.connectors.extras import check_installed
from webapp.engine.connectors.snowflake.spec import SnowflakeSpec
from webapp.engine.connectors.trials import tried
from webapp.engine.errors import EngineError, Origin

if TYPE_CHECKING:
    import pyarrow as pa

    from webapp.engine.connectors.snowflake.account import Account
    from webapp.engine.connectors.snowflake.contents import Place


class SnowflakeDestination(Destination[SnowflakeSpec]):
    """Tables of a database, filled by COPY from Parquet files of an internal stage."""

    name: ClassVar[str] = "snowflake"
    title: ClassVar[str] = "Snowflake"
    Spec: ClassVar[type[SnowflakeSpec]] = SnowflakeSpec
    parallel_writes: ClassVar[bool] = False

    def check(self) -> Iterator[CheckStep]:
        """Look for the library, connect, log in, make a table with a row in it and remove it."""
        return tried(("library", self._library), ("connect", self._reached), ("log in", self._version),
                     ("write", self._write))  # fmt: skip

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """One session for questions; each load opens its own, because a transaction belongs to its session."""
        with closing(self._account()) as account:
            yield SnowflakeSession(account)

    def _account(self) -> Account:
        from webapp.engine.connectors.snowflake.account import Account

        return Account(self.config, self.context)

    def _library(self) -> str:
        from webapp.engine.connectors.snowflake.account import NEEDED

        return check_installed("snowflake.connector", NEEDED, "Snowflake")

    def _reached(self) -> str:
        from webapp.engine.connectors.snowflake.account import reach

        return reach(self.config, self.context)

    def _version(self) -> str:
        with closing(self._account()) as account:
            return str(account.rows("SELECT CURRENT_VERSION()")[0][0])

    def _write(self) -> str:
        from webapp.engine.connectors.snowflake.contents import Place, preparations

        place = Place(self.config.database, self.config.schema_name, f"_HOHMANN_CHECK_{secrets.token_hex(4).upper()}")
        with closing(self._account()) as account:
            account.do(*preparations(place), f"CREATE STAGE {place.own(place.table).sql}")
            account.do(f"DROP STAGE {place.own(place.table).sql}", f"CREATE TABLE {place.sql} (ONE INTEGER)")
            account.do(f"INSERT INTO {place.sql} VALUES (1)", f"DROP TABLE {place.sql}")
        return f"wrote to {self.config.database}.{self.config.schema_name}, and took it back"


class SnowflakeSession(DestinationSession):
    """Questions go over one session, each by itself."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._lock = threading.Lock()

    def state(self, target: Target) -> dict[str, Any] | None:
        """From the ledger, by the token in the table's comment."""
        from webapp.engine.connectors.snowflake import contents

        place = self._place(target)
        with self._lock:
            found = contents.table(self._account, place)
            if found is None or not found.token or not contents.has_ledger(self._account, place):
                return None
            noted = contents.noted(self._account, place, found.token)
            return noted.state if noted else None

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """From the catalog, in the types that a load has noted."""
        from webapp.engine.connectors.snowflake import contents

        with self._lock:
            found = contents.table(self._account, self._place(target))
        return None if found is None else found.columns

    def begin(self, load: Load) -> Writer:
        """A stage and a table aside, over a session of their own."""
        from webapp.engine.connectors.snowflake.account import Account
        from webapp.engine.connectors.snowflake.loading import SnowflakeWriter

        account = Account(self._account.config, self._account.context)
        writer = SnowflakeWriter(account, self._place(load.target), load)
        try:
            writer.begin()
        except BaseException:
            writer.abort()
            raise
        return writer

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows, as text."""
        import pyarrow as pa

        from webapp.engine.connectors.snowflake import contents
        from webapp.engine.connectors.snowflake.columns import quoted

        place = self._place(target)
        with self._lock:
            found = contents.table(self._account, place)
            if found is None:
                missing = f"{target.label} is not there yet"
                raise EngineError(missing, origin=Origin.DESTINATION, fix="Run the load first.")
            names = [column.name for column in found.columns]
            shown = ", ".join(f"TO_VARCHAR({quoted(name)})" for name in names)
            rows = self._account.rows(f"SELECT {shown} FROM {place.sql} LIMIT {int(limit)}")
        return pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)})

    def _place(self, target: Target) -> Place:
        from webapp.engine.connectors.snowflake.contents import Place

        config = self._account.config
        return Place(config.database, target.database or config.schema_name, target.table)
