"""A connection to a Snowflake account, and its refusals as facts."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.extras import check_installed
from webapp.engine.connectors.snowflake.spec import SnowflakeSpec
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

NEEDED = "snowflake-connector-python==5.2.0"
CONNECT_SECONDS = 5.0
LOGIN_SECONDS = 9
_REACH = "Check the account or host, the port, and that this machine reaches it."


class _Meaning(NamedTuple):
    numbers: range
    kind: Kind
    fix: str


_MEANINGS = (
    _Meaning(range(390000, 400000), Kind.CONFIGURATION, "Check the account, the user, and the password or key."),
    _Meaning(range(251000, 252000), Kind.CONFIGURATION, "Check the account, the user, and the password or key."),
    _Meaning(range(606, 607), Kind.CONFIGURATION, "Name a warehouse that the role may use."),
    _Meaning(
        range(2003, 2004), Kind.CONFIGURATION, "It is not there, or the role may not use it: grant what the page lists."
    ),
    _Meaning(range(3001, 3002), Kind.CONFIGURATION, "Grant the role what the page lists."),
    _Meaning(
        range(100000, 101000),
        Kind.CONFIGURATION,
        "A value does not fit its column: leave the column out, or load once with full refresh.",
    ),
    _Meaning(range(250000, 251000), Kind.TRANSIENT, _REACH),
    _Meaning(range(14, 15), Kind.TRANSIENT, _REACH),
)


class Account:
    """One session; used by one thread at a time. Raises EngineError from every method."""

    def __init__(self, config: SnowflakeSpec, context: Context) -> None:
        self.config = config
        self.context = context
        check_installed("snowflake.connector", NEEDED, "Snowflake")
        reach(config, context)
        with self.told("logging in failed"):
            self._connection = _connected(config)

    def close(self) -> None:
        """Log out, as far as the account answers."""
        with suppress(Exception):  # nothing hangs on how it ends
            self._connection.close()

    def do(self, *statements: str) -> int:
        """Carry statements out, one after the other; returns how many rows the last one changed."""
        changed = 0
        with self.told("the account refuses"), self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                changed = cursor.rowcount or 0
        return changed

    def rows(self, query: str) -> Sequence[Sequence[Any]]:
        """What a query answers."""
        with self.told("the account refuses"), self._connection.cursor() as cursor:
            return list(cursor.execute(query).fetchall())

    def number(self, query: str) -> int:
        """The one number that a query answers."""
        return int(self.rows(query)[0][0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing; no statement in it may define a table, which would commit."""
        self.do("BEGIN")
        try:
            yield
            self.do("COMMIT")
        except BaseException:
            with suppress(EngineError):
                self.do("ROLLBACK")
            raise

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Raise the driver's exceptions as EngineError."""
        from snowflake.connector.errors import Error

        try:
            yield
        except (Error, OSError, ValueError) as error:
            raise fault(error, self.config, what) from error


def reach(config: SnowflakeSpec, context: Context) -> str:
    """Resolve, check and connect; returns the address. The driver would try for long without saying what is wrong."""
    try:
        address = checked_address(config.address, config.port, allow_private=context.allow_private_addresses)
        socket.create_connection((address, config.port), CONNECT_SECONDS).close()
    except EngineError as error:
        error.origin = Origin.DESTINATION
        raise
    except OSError as error:
        raise EngineError(
            f"{config.address}:{config.port}: {error}", origin=Origin.DESTINATION, kind=Kind.TRANSIENT, fix=_REACH
        ) from error
    return address


def fault(error: BaseException, config: SnowflakeSpec, what: str) -> EngineError:
    """What went wrong, as facts, without secrets."""
    said = " ".join(str(error).split()) or type(error).__name__
    for secret in (config.password.get_secret_value(), config.private_key.get_secret_value()):
        said = said.replace(secret, "[struck out]") if secret else said
    number = getattr(error, "errno", None)
    kind, fix = Kind.SYSTEM, "Look the number up in Snowflake's history of queries."
    for meaning in _MEANINGS:
        if number in meaning.numbers:
            kind, fix = meaning.kind, meaning.fix
            break
    if "Incorrect username or password" in said:
        kind, fix = _MEANINGS[0].kind, _MEANINGS[0].fix
    return EngineError(f"{what}: {said[:600]}", origin=Origin.DESTINATION, kind=kind, fix=fix, code=number)


def _connected(config: SnowflakeSpec) -> Any:
    import snowflake.connector

    key = config.private_key.get_secret_value()
    secret = {"private_key": key, "authenticator": "SNOWFLAKE_JWT"} if key else {}
    named = {"role": config.role, "warehouse": config.warehouse, "password": config.password.get_secret_value()}
    return snowflake.connector.connect(
        account=config.account,
        user=config.username,
        host=config.address,
        port=config.port,
        database=config.database,
        login_timeout=LOGIN_SECONDS,
        application="hohmann",
        session_parameters={"TIMEZONE": "UTC", "QUERY_TAG": "hohmann"},
        enable_server_session_keep_alive_auto_detection=False,
        **secret,
        **{name: value for name, value in named.items() if value},
    )
