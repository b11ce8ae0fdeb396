"""PostgreSQL's refusals as EngineErrors: whose fault, whether trying again helps, and what would."""

from typing import NamedTuple

from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin


class _Meaning(NamedTuple):
    kind: Kind
    fix: str
    permanent: bool | None = None


_LATER = _Meaning(Kind.TRANSIENT, "Try again when the server is back.")
_STATES = {
    "28": _Meaning(Kind.CONFIGURATION, "Check the user and the password, and the server's pg_hba.conf."),
    "3D000": _Meaning(Kind.CONFIGURATION, "Check the name of the database."),
    "3F": _Meaning(Kind.CONFIGURATION, "Check the name of the schema."),
    "42501": _Meaning(Kind.CONFIGURATION, "Ask the owner to GRANT the right that is named, or leave this table out."),
    "42P01": _Meaning(Kind.CONFIGURATION, "The table is gone: discover the source again."),
    "42703": _Meaning(Kind.CONFIGURATION, "The column is gone: discover the source again."),
    "2202E": _Meaning(Kind.CONFIGURATION, "Leave the column out."),
    "22P02": _Meaning(Kind.CONFIGURATION, "Check the filter's value, or leave out the column that is named."),
    "22021": _Meaning(Kind.CONFIGURATION, "PostgreSQL's text holds no zero bytes: leave the column out or clean it."),
    "22": _Meaning(Kind.CONFIGURATION, "Check the values that are named."),
    "23": _Meaning(Kind.CONFIGURATION, "The rows break a constraint of the table: change the rows or the constraint."),
    "42": _Meaning(Kind.CONFIGURATION, "Check the filter, and discover the source again."),
    "25006": _Meaning(Kind.CONFIGURATION, "The server is read-only: connect to the primary."),
    "2BP01": _Meaning(Kind.CONFIGURATION, "Drop what depends on the table, or load into another one."),
    "0A": _Meaning(Kind.CONFIGURATION, "Drop what depends on the table, or load into another one."),
    "40": _Meaning(Kind.TRANSIENT, "Try again."),
    "53300": _Meaning(Kind.TRANSIENT, "The server has no connection left: try later or raise max_connections."),
    "53100": _Meaning(Kind.SYSTEM, "Make room on the server's disk.", permanent=False),
    "53": _Meaning(Kind.SYSTEM, "The server is short of resources.", permanent=False),
    "54": _Meaning(Kind.CONFIGURATION, "PostgreSQL cannot hold this much: leave columns out or shorten the values."),
    "55P03": _Meaning(Kind.TRANSIENT, "Someone holds the table: try again."),
    "55": _Meaning(Kind.TRANSIENT, "Try again."),
    "57014": _Meaning(Kind.TRANSIENT, "Someone or a time limit stopped the statement: try again."),
    "57": _LATER,
    "58": _Meaning(Kind.SYSTEM, "Look into the server's log.", permanent=False),
    "08": _LATER,
}
# Refusals at log-in bear no state in the driver; these words are the server's and libpq's own.
_WORDS = (
    ("password authentication failed", "28"),
    ("no password supplied", "28"),
    ("no pg_hba.conf entry", "28"),
    ("authentication", "28"),
    ("is not permitted to log in", "28"),
    ("permission denied for database", "42501"),
    ('role "', "28"),
    ("does not exist", "3D000"),
    ("too many", "53300"),
    ("remaining connection slots", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
)
_SNAPSHOT_STATES = ("22023", "42704", "55000")
_TLS_WORDS = ("ssl", "tls", "certificate")
_TLS = _Meaning(Kind.CONFIGURATION, "Check the TLS mode and the certificates, and that the server offers TLS.")
_GONE_WORDS = (
    "server closed the connection", "connection to server was lost", "terminating connection", "no connection",
    "could not receive data", "could not send data", "connection not open", "connection already closed", "refused",
    "connection is closed", "connection was closed", "timeout expired", "timed out", "unreachable", "no route",
    "eof detected",
)  # fmt: skip


def engine_error(
    error: BaseException, origin: Origin, what: str, context: Context | None = None, *, secret: str = ""
) -> EngineError:
    """Say what a driver's exception means; `what` begins the message. A run that was cancelled gets Cancelled."""
    if isinstance(error, EngineError):
        return error
    if context is not None and context.cancelled():
        return Cancelled()
    state = str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "").strip("\0")
    text = _plain(str(error), secret)
    meaning = _meaning(state, text.lower())
    return EngineError(
        f"{what}: {text}",
        origin=origin,
        kind=meaning.kind,
        permanent=meaning.permanent,
        fix=meaning.fix,
        **({"sqlstate": state} if state else {}),
    )


def is_tls(error: BaseException) -> bool:
    """Whether a connection failed over its encryption."""
    text = str(error).lower()
    # The server's refusals at log-in also name the encryption that they were asked over.
    return any(word in text for word in _TLS_WORDS) and "password authentication" not in text and "pg_hba" not in text


def _meaning(state: str, text: str) -> _Meaning:
    if state in _SNAPSHOT_STATES and "snapshot" in text:
        return _LATER  # the session that held the shared snapshot was ended by the server
    known = _STATES.get(state) or _STATES.get(state[:2])
    if known is not None and state:
        return known
    if any(word in text for word in _GONE_WORDS):
        return _LATER
    for words, meant in _WORDS:
        if words in text:
            return _STATES.get(meant) or _STATES[meant[:2]]
    if any(word in text for word in _TLS_WORDS):
        return _TLS
    return _Meaning(Kind.SYSTEM, "Look into the server's log.", permanent=False)


def _plain(text: str, secret: str) -> str:
    """The message in one line, without hints on internals, and never with the password."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("LINE ", "^", "CONTEXT:"))]
    joined = " ".join(kept).replace("ERROR:  ", "").replace("FATAL:  ", "")
    return (joined.replace(secret, "***") if secret else joined)[:600]
