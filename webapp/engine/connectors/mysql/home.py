"""The server that takes the tables: connections that may write, and what stops and explains their statements."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from webapp.engine.connectors.mysql.server import connect, fault
from webapp.engine.connectors.mysql.spec import MySQLDestinationSpec
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin

_PAUSE = 0.2
LOCK_SECONDS = 30
# Values that do not fit are errors; a table that somebody reads for long is not waited for without end.
_SESSION = (
    "SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
    f" lock_wait_timeout = {LOCK_SECONDS}, innodb_lock_wait_timeout = {LOCK_SECONDS}"
)


class Home:
    """One server as a configuration names it."""

    def __init__(self, config: MySQLDestinationSpec, context: Context) -> None:
        self.config = config
        self.context = context

    def connect(self, *, autocommit: bool = True) -> Any:
        """A connection without a database of its own. Raises EngineError."""
        return connect(
            self.config,
            self.context,
            Origin.DESTINATION,
            database=None,  # it may have to be made first
            autocommit=autocommit,
            init_command=_SESSION,
            read_timeout=None,  # moving many rows from table to table takes its time
        )

    def close(self, connection: Any) -> None:
        """Close a connection that may be broken already."""
        import pymysql

        with suppress(pymysql.MySQLError, OSError):
            connection.close()

    @contextmanager
    def told(self, what: str, connection: Any) -> Iterator[None]:
        """Raise the driver's exceptions as EngineError, Cancelled when the run was; its statement is ended then."""
        import pymysql

        done = threading.Event()
        watch = threading.Thread(
            target=self._watch, args=(connection.thread_id(), done), name="mysql-cancel", daemon=True
        )
        watch.start()
        try:
            yield
        except (pymysql.MySQLError, OSError) as error:
            if self.context.cancelled():
                raise Cancelled from error
            raise fault(error, self.config, Origin.DESTINATION, what) from error
        finally:
            done.set()
            watch.join()

    def _watch(self, thread: int, done: threading.Event) -> None:
        while not done.wait(_PAUSE):
            if self.context.cancelled():
                self._kill(thread)
                return

    def _kill(self, thread: int) -> None:
        import pymysql

        with suppress(pymysql.MySQLError, OSError, EngineError):
            connection = self.connect()
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"KILL QUERY {int(thread)}")
            finally:
                connection.close()
