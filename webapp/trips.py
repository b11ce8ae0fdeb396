"""PostgreSQL with as few round trips as can be: BEGIN travels with the first statement, COMMIT with the last.

A process that has rested pays up to a millisecond for each exchange with its database, and psycopg2 sends BEGIN and
COMMIT by themselves. Here the driver is in its autocommit mode, and transactions are begun and ended by what is sent.
"""

from contextvars import ContextVar
from typing import Any

import sqlalchemy as sa
from psycopg2.extensions import TRANSACTION_STATUS_IDLE as IDLE
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

means_to_write: ContextVar[bool] = ContextVar("means_to_write", default=False)
"""Whether the present unit of work means to write. One that only looks needs no transaction around its queries."""


_NO_SUCH_STATEMENT = "26000"


class FewTrips(PGDialect_psycopg2):
    """psycopg2's dialect; every connection sees what is committed by others at each statement (READ COMMITTED)."""

    supports_statement_cache = True

    def on_connect(self) -> Any:
        prepare = super().on_connect()  # type: ignore[no-untyped-call]

        def connected(connection: Any) -> None:
            if prepare is not None:
                prepare(connection)
            connection.autocommit = True

        return connected

    def reset_isolation_level(self, dbapi_connection: Any) -> None:
        """Back to the mode of `on_connect`; a connection with a level of its own is left to the driver."""
        super().reset_isolation_level(dbapi_connection)  # type: ignore[no-untyped-call]
        dbapi_connection.autocommit = True

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Also where the server's prepared statements are not what they were: a new connection has none yet."""
        odd = getattr(e, "pgcode", None) == _NO_SUCH_STATEMENT or "cached plan must not change" in str(e)
        return odd or bool(super().is_disconnect(e, connection, cursor))  # type: ignore[no-untyped-call]

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        cursor.execute(_lead(cursor, context) + statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        cursor.execute(_lead(cursor, context) + statement)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        if begin := _lead(cursor, context):
            cursor.execute(begin)
        super().do_executemany(cursor, statement, parameters, context)  # type: ignore[no-untyped-call]

    def do_commit(self, dbapi_connection: Any) -> None:
        if dbapi_connection.autocommit:
            _end(dbapi_connection, "COMMIT")
        else:
            super().do_commit(dbapi_connection)  # type: ignore[no-untyped-call]

    def do_rollback(self, dbapi_connection: Any) -> None:
        if dbapi_connection.autocommit:
            _end(dbapi_connection, "ROLLBACK")
        else:
            super().do_rollback(dbapi_connection)  # type: ignore[no-untyped-call]


registry.register("postgresql.few_trips", __name__, "FewTrips")


def opening(connection: Any, *, only_looks: bool, led_by: str = "") -> str:
    """What is sent before a statement, with it: BEGIN where it is the first, and what it is `led_by`.

    A query that only looks, and locks nothing, needs no transaction in a unit of work that does not mean to write.
    PostgreSQL takes a snapshot for each statement of such a pair, so the second one sees what a lock waited for.
    """
    leader = f"{led_by}; " if led_by else ""
    if not connection.autocommit or connection.get_transaction_status() != IDLE:
        return leader
    return leader if only_looks and not means_to_write.get() else f"BEGIN; {leader}"


def _lead(cursor: Any, context: Any) -> str:
    led_by = context.execution_options.get("led_by", "") if context else ""
    before = opening(cursor.connection, only_looks=_only_looks(context), led_by=led_by)
    if not cursor.name:
        return before
    if before:
        _send(cursor.connection, before)  # the driver wraps the statement of a server's cursor, which must stand alone
    cursor.withhold = True  # else the driver, which does not know of the transaction, refuses
    return ""


def _only_looks(context: Any) -> bool:
    """Whether it is a query that locks nothing."""
    statement = context.compiled.statement if context and context.compiled else None
    if not isinstance(statement, sa.Select) or context.execution_options.get("led_by"):
        return False
    return statement._for_update_arg is None and not context._is_server_side


def _end(connection: Any, how: str) -> None:
    """End the transaction, if one is under way: what was sent last may have ended it."""
    if connection.get_transaction_status() != IDLE:
        _send(connection, how)


def _send(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
