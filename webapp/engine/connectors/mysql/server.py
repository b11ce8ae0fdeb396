"""A connection to a MySQL server, and its refusals as facts."""

from typing import Any, NamedTuple

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.mysql.spec import MySQLSpec
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

CONNECT_SECONDS = 10
READ_SECONDS = 300


class _Meaning(NamedTuple):
    codes: frozenset[int]
    kind: Kind
    fix: str
    permanent: bool | None = None


_AWAY = frozenset({0, 2002, 2003, 2006, 2013, 2055, 1053, 1040, 1205, 1213, 1317})
_MEANINGS = (
    _Meaning(frozenset({1044, 1045, 1698, 1049}), Kind.CONFIGURATION, "Check the user, the password and the database."),
    _Meaning(frozenset({1142, 1143, 1227, 1370}), Kind.CONFIGURATION, "Grant {need} to {user} on it."),
    _Meaning(
        frozenset({1146, 1051, 1054, 1356}),
        Kind.CONFIGURATION,
        "The table or a column has changed: discover the source again.",
    ),
    _Meaning(_AWAY, Kind.TRANSIENT, "Check that the server runs, its port, and that this machine reaches it."),
    _Meaning(
        frozenset({1021, 1030, 1114, 1026}), Kind.SYSTEM, "Make room on the server's disk, or raise its limit.", False
    ),
    _Meaning(frozenset({1290, 1836, 1792}), Kind.CONFIGURATION, "The server is read-only: connect to the primary."),
    _Meaning(
        frozenset({1264, 1265, 1292, 1366, 1406, 1411, 1690, 4078}),
        Kind.CONFIGURATION,
        "A value does not fit its column: leave the column out, or widen it at the destination.",
    ),
    _Meaning(
        frozenset({1048, 1062, 1364, 1452, 3819, 4025}),
        Kind.CONFIGURATION,
        "The rows break a constraint of the table: change the rows or the constraint.",
    ),
    _Meaning(
        frozenset({1059, 1101, 1113, 1117, 1118, 1170, 1071}),
        Kind.CONFIGURATION,
        "MySQL cannot hold a table of this shape: leave columns out, or shorten their names.",
    ),
    _Meaning(
        frozenset({1360, 1435, 1834, 1217, 1451}), Kind.CONFIGURATION, "Drop what hangs on the table, or append to it."
    ),
)


def connect(spec: MySQLSpec, context: Context, origin: Origin = Origin.SOURCE, **settings: Any) -> Any:
    """A connection of PyMySQL in UTC, on the address that was checked; `settings` are the driver's own.

    Raises EngineError.
    """
    import pymysql

    from webapp.engine.connectors.mysql.driver import Connection, unverified

    try:
        address = checked_address(spec.host, spec.port, allow_private=context.allow_private_addresses)
    except EngineError as error:
        error.origin = origin
        raise
    given = {
        "host": address,
        "port": spec.port,
        "user": spec.username,
        "password": spec.password.get_secret_value(),
        "database": spec.database or None,
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "ssl": unverified() if spec.ssl.mode == "require" else None,
        "init_command": "SET time_zone = '+00:00'",
    }
    try:
        return Connection(**given | settings)
    except (pymysql.MySQLError, OSError) as error:
        raise fault(error, spec, origin) from error


def fault(error: BaseException, spec: MySQLSpec, origin: Origin = Origin.SOURCE, what: str = "") -> EngineError:
    """What went wrong at the server, as facts; `what` begins the message, which never holds the password."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    said = str(error.args[1] if len(error.args) > 1 else error) or "the connection is closed"
    if secret := spec.password.get_secret_value():
        said = said.replace(secret, "[struck out]")
    said = f"{what or f'{spec.host}:{spec.port}'}: {said}"
    need = "SELECT" if origin is Origin.SOURCE else "ALL"
    for codes, kind, fix, permanent in _MEANINGS:
        if code in codes and (code or not isinstance(error, OSError)):
            fix = fix.format(need=need, user=spec.username)
            return EngineError(said, origin=origin, kind=kind, permanent=permanent, fix=fix, code=code)
    kind = Kind.TRANSIENT if isinstance(error, OSError) else Kind.SYSTEM
    return EngineError(said, origin=origin, kind=kind, code=code)
