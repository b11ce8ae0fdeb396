"""Connections to one server: resolved and checked once, then used as checked, over libpq and over ADBC."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.base import CheckStep
from webapp.engine.connectors.postgres.faults import engine_error, is_tls
from webapp.engine.connectors.postgres.spec import PostgresSpec
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  the driver's own name is lower case

CONNECT_SECONDS = 10
LOCK_SECONDS = 30
_PAUSE = 0.2
_FIRST_PAUSE = 0.25
# Times and numbers are written the same way whatever the server's defaults; a stalled session is not cut off.
_SETTINGS = {
    "timezone": "UTC", "datestyle": "ISO,YMD", "intervalstyle": "postgres", "extra_float_digits": "1",
    "statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": f"{LOCK_SECONDS}s",
    "standard_conforming_strings": "on", "bytea_output": "hex", "client_encoding": "UTF8",
}  # fmt: skip


class Server:
    """One server as a configuration names it; certificates lie in files of its own until the `with` block ends."""

    def __init__(self, config: PostgresSpec, context: Context, origin: Origin) -> None:
        self.config = config
        self.context = context
        self.origin = origin
        self._address: str | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def secret(self) -> str:
        """The password, to be struck out of messages."""
        return self.config.password.get_secret_value()

    def address(self) -> str:
        """The address to connect to. Raises EngineError when the name does not resolve or is not allowed."""
        if self._address is None:
            try:
                self._address = checked_address(
                    self.config.host, self.config.port, allow_private=self.context.allow_private_addresses
                )
            except EngineError as error:
                error.origin = self.origin
                raise
        return self._address

    def error(self, error: BaseException, what: str) -> EngineError:
        """The driver's exception as an EngineError."""
        return engine_error(error, self.origin, what, self.context, secret=self.secret)

    def control(self, *, autocommit: bool = False) -> Connection:
        """A connection for the catalog and for statements. Raises EngineError."""
        import psycopg2

        try:
            connection = psycopg2.connect(**self._parameters())
        except psycopg2.Error as error:
            raise self.error(error, f"cannot connect to {self.config.endpoint()}") from error
        connection.autocommit = autocommit
        return connection

    def control_at_last(self) -> Connection:
        """As `control`, tried again as often as configured while the server cannot be reached. Raises EngineError."""
        began = time.monotonic()
        for attempt in range(self.config.retry_count):
            try:
                return self.control()
            except EngineError as error:
                if error.kind is not Kind.TRANSIENT or time.monotonic() - began > CONNECT_SECONDS:
                    raise
                self.context.reporter.log("warning", f"{error.message}; trying again")
                self._pause(_FIRST_PAUSE * 2.0**attempt)
        return self.control()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + min(seconds, CONNECT_SECONDS)
        while time.monotonic() < end:
            if self.context.cancelled():
                raise Cancelled
            time.sleep(_PAUSE)

    def data(self, *, settings: dict[str, str] | None = None) -> Any:
        """A connection for Arrow batches, outside of any transaction. Raises EngineError."""
        import adbc_driver_postgresql.dbapi as adbc

        uri = "postgresql://?" + urlencode(self._parameters(settings), quote_via=quote)
        try:
            return adbc.connect(uri, autocommit=True)
        except adbc.Error as error:
            raise self.error(error, f"cannot connect to {self.config.endpoint()}") from error

    def streaming(self) -> dict[str, Any]:
        """What asyncpg.connect is to be called with for a connection that moves COPY's bytes. Raises EngineError."""
        return {
            "host": self.address(),
            "port": self.config.port,
            "database": self.config.database,
            "user": self.config.username,
            "password": self.secret,
            "ssl": tls_context(self.config.ssl.mode, self.config.host, self._tls()),
            "timeout": CONNECT_SECONDS,
            "statement_cache_size": 0,
            "server_settings": {"application_name": "hohmann", **_SETTINGS},
        }

    def _parameters(self, settings: dict[str, str] | None = None) -> dict[str, str]:
        config = self.config
        options = _SETTINGS | (settings or {})
        return {
            "host": config.host,
            "hostaddr": self.address(),
            "port": str(config.port),
            "dbname": config.database,
            "user": config.username,
            "password": self.secret,
            "connect_timeout": str(CONNECT_SECONDS),
            "application_name": "hohmann",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "gssencmode": "disable",
            "options": " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in options.items()),
            **self._tls(),
        }

    def _tls(self) -> dict[str, str]:
        tls = self.config.ssl
        chosen: dict[str, str] = {"sslmode": tls.mode}
        if tls.mode == "disable":
            return chosen
        if tls.server_ca:
            chosen["sslrootcert"] = self._file("server_ca.pem", tls.server_ca)
        elif tls.mode == "verify-full":
            chosen["sslrootcert"] = "system"
        if tls.client_cert:
            chosen["sslcert"] = self._file("client_cert.pem", tls.client_cert)
            chosen["sslkey"] = self._file("client_key.pem", tls.client_key.get_secret_value())
        return chosen

    def _file(self, name: str, text: str) -> str:
        if self._folder is None:
            self.context.temp.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix="tls-", dir=self.context.temp)
        path = Path(self._folder.name) / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(text.strip() + "\n")
        return str(path)


class _NamedContext(ssl.SSLContext):
    """Holds a certificate against the configured name, for connections go to the address that was checked."""

    host = ""

    def wrap_bio(self, *given: Any, **more: Any) -> ssl.SSLObject:
        """As the base does it, for that name."""
        return super().wrap_bio(*given, **more | {"server_hostname": self.host})


def tls_context(mode: str, host: str, files: dict[str, str]) -> ssl.SSLContext | bool:
    """What libpq does with the same mode and files, for Python's own TLS; False is plain text."""
    if mode == "disable":
        return False
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host = host
    context.check_hostname = mode == "verify-full"
    root = files.get("sslrootcert")
    if root is None:
        context.verify_mode = ssl.CERT_NONE
    elif root == "system":
        context.load_default_certs()
    else:
        context.load_verify_locations(root)
    if "sslcert" in files:
        context.load_cert_chain(files["sslcert"], files["sslkey"])
    return context


def steps(server: Server, further: Callable[[Connection], Iterator[CheckStep]]) -> Iterator[CheckStep]:
    """The steps to a session, then those that `further` takes with it; ends after the first failure."""
    for name, act in (("resolve", server.address), ("connect", lambda: _knock(server))):
        step, _ = attempt(name, act)
        yield step
        if not step.ok:
            return
    began = time.monotonic()
    encrypted = server.config.ssl.mode != "disable"
    try:
        connection = server.control(autocommit=True)
    except EngineError as error:
        tls = encrypted and error.__cause__ is not None and is_tls(error.__cause__)
        if encrypted and not tls:
            yield CheckStep("tls", ok=True)
        yield failed("tls" if tls else "log in", error, began)
        return
    try:
        if encrypted:
            yield CheckStep("tls", ok=True, message=f"mode {server.config.ssl.mode}")
        with limited(connection):
            yield CheckStep("log in", ok=True, message=_greeting(connection), seconds=time.monotonic() - began)
            yield from further(connection)
    finally:
        connection.close()


def attempt(name: str, act: Callable[[], Any]) -> tuple[CheckStep, Any]:
    """One step and what it gave: failed when `act` raises EngineError."""
    began = time.monotonic()
    try:
        given = act()
    except EngineError as error:
        return failed(name, error, began), None
    said = given if isinstance(given, str) else ""
    return CheckStep(name, ok=True, message=said, seconds=time.monotonic() - began), given


def failed(name: str, error: EngineError, began: float) -> CheckStep:
    """The step that ends a check."""
    return CheckStep(name, ok=False, message=error.message, fix=error.fix or "", seconds=time.monotonic() - began)


def _knock(server: Server) -> str:
    port = server.config.port
    try:
        socket.create_connection((server.address(), port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise EngineError(
            f"{server.config.host} port {port} does not answer: {error.strerror or error}",
            origin=server.origin,
            kind=Kind.TRANSIENT,
            fix="Check host and port, that the server runs, and that no firewall stands between.",
        ) from error
    return f"{server.config.host}:{port}"


def _greeting(connection: Connection) -> str:
    version = connection.server_version
    return (
        f"PostgreSQL {version // 10000}"
        if version >= 100000
        else f"PostgreSQL {version // 10000}.{version // 100 % 100}"
    )


@contextmanager
def limited(connection: Connection) -> Iterator[None]:
    """No statement of the block takes longer than a step of a check may."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{CONNECT_SECONDS}s'")
    yield


@contextmanager
def cancelling(context: Context, cancel: Callable[[], None]) -> Iterator[None]:
    """While the block runs, call `cancel` once when the run is cancelled, so that statements end."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_PAUSE):
            if context.cancelled():
                cancel()
                return

    thread = threading.Thread(target=watch, name="postgres-cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def closing(connection: Any) -> AbstractContextManager[Any]:
    """Close a driver's connection at the end, whatever state it is in."""
    return _Closing(connection)


class _Closing(AbstractContextManager[Any]):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __enter__(self) -> Any:
        return self._connection

    def __exit__(self, *error: object) -> None:
        close_quietly(self._connection)


def close_quietly(connection: Any) -> None:
    """Close a connection that may be broken already: its own error was told, or nobody needs it."""
    try:
        connection.close()
    except Exception:  # drivers raise their own and others here
        return
