"""A connection to a SQL Server, and its refusals as facts."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.sqlserver.spec import SQLServerSpec
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

CONNECT_SECONDS = 8.0
READ_SECONDS = 300.0
_REACH = "Check that a SQL Server runs there, its port and TLS mode, and that this machine reaches it."
_DENIED = frozenset({18456, 18452, 18486, 18487, 18488, 4060, 916, 40532})
_NO_RIGHT = frozenset({229, 230, 262, 297})
_GONE = frozenset({207, 208, 3906})
_VALUE = frozenset({241, 245, 248, 402, 8114, 8115, 8169})
_LATER = frozenset({1205, 1222, 3960, 40197, 40501, 40613, 10928, 10929, 49918, 49919, 49920})


@contextmanager
def connection(spec: SQLServerSpec, context: Context) -> Iterator[Any]:
    """A connection of python-tds on the address that was checked, closed at the end. Raises EngineError."""
    import pytds

    address = checked_address(spec.host, spec.port, allow_private=context.allow_private_addresses)
    with told(spec), _authority(spec, context) as cafile:
        link = socket.create_connection((address, spec.port), CONNECT_SECONDS)
        opened = pytds.connect(
            dsn=spec.host,
            port=spec.port,
            database=spec.database,
            user=spec.username,
            password=spec.password.get_secret_value(),
            sock=link,
            disable_connect_retry=True,
            login_timeout=CONNECT_SECONDS,
            timeout=READ_SECONDS,
            autocommit=True,
            appname="hohmann",
            cafile=cafile,
            validate_host=spec.ssl.mode == "verify-full",
        )
    try:
        with told(spec):
            yield opened
    finally:
        opened.close()


@contextmanager
def told(spec: SQLServerSpec) -> Iterator[None]:
    """Raise the driver's exceptions as EngineError, without the password, whatever the server says."""
    import pytds

    try:
        yield
    except EngineError:
        raise
    # The driver trips in many ways over a server that speaks another protocol.
    except (pytds.Error, OSError, ValueError, LookupError, AssertionError, RuntimeError, _openssl_error()) as error:
        raise _fault(error, spec) from error


def _openssl_error() -> type[Exception]:
    from OpenSSL.SSL import Error

    found: type[Exception] = Error
    return found


def _fault(error: Exception, spec: SQLServerSpec) -> EngineError:
    cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ else error
    said = " ".join(str(cause).split()) or f"no answer that a SQL Server gives ({type(cause).__name__})"
    if secret := spec.password.get_secret_value():
        said = said.replace(secret, "[struck out]")
    code = int(getattr(cause, "msg_no", 0) or 0)
    kind, fix = _meaning(code, spec)
    facts: dict[str, Any] = {"code": code} if code else {}
    return EngineError(f"{spec.host}:{spec.port}: {said[:500]}", origin=Origin.SOURCE, kind=kind, fix=fix, **facts)


def _meaning(code: int, spec: SQLServerSpec) -> tuple[Kind, str]:
    for codes, fix in (
        (_DENIED, "Check the user, the password and the database."),
        (_NO_RIGHT, f"GRANT SELECT on it TO {spec.username}."),
        (_GONE, "The table or a column has changed: discover the source again."),
        (_VALUE, "Check the values of the stream's filter."),
    ):
        if code in codes:
            return Kind.CONFIGURATION, fix
    if not code:
        return Kind.TRANSIENT, _REACH
    return (Kind.TRANSIENT, "Try again.") if code in _LATER else (Kind.SYSTEM, "Look into the server's log.")


@contextmanager
def _authority(spec: SQLServerSpec, context: Context) -> Iterator[str | None]:
    """The file of the authorities to trust; None for a connection that is not encrypted."""
    if spec.ssl.mode == "disable":
        yield None
    elif not spec.ssl.server_ca:
        yield ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile
    else:
        context.temp.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tls-", dir=context.temp) as folder:
            file = Path(folder) / "server_ca.pem"
            file.write_text(spec.ssl.server_ca)
            yield str(file)
