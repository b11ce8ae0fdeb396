"""A ClickHouse server: its client, what it refuses as facts, and an end for what it does when the run is cancelled."""

from __future__ import annotations

import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.clickhouse.spec import OWN, ClickHouseSpec
from webapp.engine.connectors.extras import check_installed
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from urllib3 import PoolManager

NEEDED = "clickhouse-connect==1.12.0"
CONNECT_SECONDS = 8
_PAUSE = 0.2
_SETTINGS = {
    "async_insert": 0,
    # Rows that are the same shall all arrive, and nulls stay nulls.
    "insert_deduplicate": 0,
    "input_format_null_as_default": 0,
    "insert_null_as_default": 0,
    # A statement has ended when all is done.
    "alter_sync": 1,
    "mutations_sync": 1,
}
Result = TypeVar("Result")


class _Meaning(NamedTuple):
    codes: frozenset[int]
    kind: Kind
    fix: str
    permanent: bool | None = None


_MEANINGS = (
    _Meaning(frozenset({192, 193, 194, 516}), Kind.CONFIGURATION, "Check the user and the password."),
    _Meaning(frozenset({497, 164}), Kind.CONFIGURATION, "Grant ALL on the database and on {own} to {user}."),
    _Meaning(
        frozenset({349}),
        Kind.CONFIGURATION,
        "A column of the table takes no nulls: load once with full refresh, or correct the values at the source.",
    ),
    _Meaning(
        frozenset({6, 26, 27, 38, 41, 53, 69, 70, 72, 131, 321, 376, 407}),
        Kind.CONFIGURATION,
        "A value does not fit its column: leave the column out, or load once with full refresh.",
    ),
    _Meaning(
        frozenset({524}),
        Kind.CONFIGURATION,
        "Columns that the table is sorted by keep their type: load once with full refresh.",
    ),
    _Meaning(frozenset({62, 115, 48}), Kind.CONFIGURATION, "The server may be too old: this was proven with 26.9."),
    _Meaning(
        frozenset({57, 60, 159, 202, 203, 209, 210, 241, 252, 319, 425, 999}),
        Kind.TRANSIENT,
        "Try again a little later.",
    ),
    _Meaning(frozenset({243}), Kind.SYSTEM, "Make room on the server's disk.", False),
)
_REACH = "Check that a ClickHouse runs there, the port of its HTTP interface and the TLS mode."


class Server:
    """One server as a configuration names it; used by several threads. Raises EngineError from every method."""

    def __init__(self, config: ClickHouseSpec, context: Context) -> None:
        self.config = config
        self.context = context
        self._client = self._connected()
        self.wide_dates = self.rows("SELECT toString(toDate32('9999-12-31'))") == [["9999-12-31"]]

    @property
    def version(self) -> str:
        """What the server calls itself."""
        return str(self._client.server_version)

    def close(self) -> None:
        """End all connections."""
        with suppress(Exception):  # nothing hangs on how they end
            self._client.close()
            self._pool.clear()

    def do(self, *statements: str) -> None:
        """Carry out statements, one after the other."""
        for statement in statements:
            self._do(statement)

    def _do(self, statement: str) -> None:
        self._watched(lambda name: self._client.command(statement, settings=name, use_database=False))

    def rows(self, query: str) -> list[list[Any]]:
        """What a query answers."""
        answer = self._watched(
            lambda name: self._client.raw_query(query, fmt="JSONCompactEachRow", settings=name, use_database=False)
        )
        return [json.loads(line) for line in answer.splitlines()]

    def number(self, query: str) -> int:
        """The one number that a query answers."""
        return int(self.rows(query)[0][0])

    def arrow(self, query: str) -> bytes:
        """What a query answers, as a stream of Arrow in which texts are bytes."""
        given = {"output_format_arrow_string_as_string": 0}
        return self._watched(
            lambda name: self._client.raw_query(query, fmt="ArrowStream", settings=given | name, use_database=False)
        )

    def insert(self, table: str, names: Sequence[str], data: bytes, form: str) -> None:
        """Send rows in one of ClickHouse's formats."""
        # The client sends bytes a second time when the answer is lost, and the rows would be there twice.
        self._watched(lambda name: self._client.raw_insert(table, names, _once(data), fmt=form, settings=name))

    def _connected(self) -> Client:
        check_installed("clickhouse_connect", NEEDED, "ClickHouse")
        import clickhouse_connect

        config = self.config
        try:
            address = checked_address(config.host, config.port, allow_private=self.context.allow_private_addresses)
        except EngineError as error:
            error.origin = Origin.DESTINATION
            raise
        self._pool = _pool(config)
        with self._told():
            client: Client = clickhouse_connect.get_client(
                host=address,
                port=config.port,
                interface="http" if config.ssl.mode == "disable" else "https",
                username=config.username,
                password=config.password.get_secret_value(),
                database="",
                pool_mgr=self._pool,
                server_host_name=config.host,
                compress=False,
                connect_timeout=CONNECT_SECONDS,
                autogenerate_session_id=False,
                client_name="hohmann",
            )
            for name, value in _settings(client).items():
                client.set_client_setting(name, value)
        return client

    def _watched(self, ask: Callable[[dict[str, Any]], Result]) -> Result:
        """Ask under a name of its own, by which the server ends it when the run is cancelled."""
        name, done = uuid.uuid4().hex, threading.Event()
        watch = threading.Thread(target=self._watch, args=(name, done), name="clickhouse-cancel", daemon=True)
        watch.start()
        try:
            with self._told():
                return ask({"query_id": name})
        finally:
            done.set()
            watch.join()

    def _watch(self, name: str, done: threading.Event) -> None:
        while not done.wait(_PAUSE):
            if self.context.cancelled():
                with suppress(Exception):  # the run ends in any case
                    self._client.command(f"KILL QUERY WHERE query_id = '{name}' ASYNC", use_database=False)
                return

    @contextmanager
    def _told(self) -> Iterator[None]:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            yield
        except (EngineError, ImportError):
            raise
        # Whoever answers there may be no ClickHouse at all, over which the client trips in many ways.
        except (ClickHouseError, OSError, ValueError, LookupError) as error:
            if self.context.cancelled():
                raise Cancelled from error
            raise fault(error, self.config) from error


def fault(error: BaseException, config: ClickHouseSpec) -> EngineError:
    """What went wrong, as facts, without the password."""
    code = getattr(error, "code", None)
    said = _said(error)
    if secret := config.password.get_secret_value():
        said = said.replace(secret, "[struck out]")
    said = f"{config.host}:{config.port}: {said[:600]}"
    for codes, kind, fix, permanent in _MEANINGS:
        if code in codes:
            fix = fix.format(own=OWN, user=config.username)
            return EngineError(said, origin=Origin.DESTINATION, kind=kind, permanent=permanent, fix=fix, code=code)
    if code is None:
        return EngineError(said, origin=Origin.DESTINATION, kind=Kind.TRANSIENT, fix=_REACH)
    return EngineError(said, origin=Origin.DESTINATION, kind=Kind.SYSTEM, fix="Look into the server's log.", code=code)


def _once(data: bytes) -> Generator[bytes, None, None]:
    yield data


def _said(error: BaseException) -> str:
    """The server's own words, or what the network said."""
    text = " ".join(str(error).split())
    if found := re.search(r"DB::Exception: (?!Code)(.*)", text):
        return re.sub(r" ?\(for url [^)]*\)$| ?: While executing .*?(?=\([A-Z_]+\))", "", found[1])
    cause = getattr(error.__cause__, "reason", None) or error.__cause__ or error
    return " ".join(str(cause).split()) or type(error).__name__


def _settings(client: Client) -> dict[str, Any]:
    """Those of every session; newer servers have one more that says what `insert_deduplicate` does."""
    newer = {"deduplicate_insert": "disable"} if "deduplicate_insert" in client.server_settings else {}
    return _SETTINGS | newer


def _pool(config: ClickHouseSpec) -> PoolManager:
    """Connections that follow nobody elsewhere: only this server's address was checked."""
    import urllib3

    class Direct(urllib3.PoolManager):
        def urlopen(self, method: str, url: str, redirect: bool = True, **given: Any) -> Any:  # type: ignore[override]
            return super().urlopen(method, url, redirect=False, **given)

    more: dict[str, Any] = {"maxsize": config.max_threads + 1}
    if config.ssl.mode == "disable":
        return Direct(**more)
    if config.ssl.mode == "require":
        return Direct(cert_reqs="CERT_NONE", assert_hostname=False, server_hostname=config.host, **more)
    trusted = ssl.create_default_context(cadata=config.ssl.server_ca or None)
    return Direct(ssl_context=trusted, server_hostname=config.host, assert_hostname=config.host, **more)
