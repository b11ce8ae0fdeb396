"""Websocket frames as a server writes them (RFC 6455, 5.2): unmasked and uncompressed, so one encoding serves all."""

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

NORMAL = CloseReason.NORMAL_CLOSURE
GOING_AWAY = CloseReason.GOING_AWAY
PROTOCOL_ERROR = CloseReason.PROTOCOL_ERROR
UNSUPPORTED = CloseReason.UNSUPPORTED_DATA
POLICY = CloseReason.POLICY_VIOLATION
TOO_BIG = CloseReason.MESSAGE_TOO_BIG
INTERNAL_ERROR = CloseReason.INTERNAL_ERROR
SERVICE_RESTART = CloseReason.SERVICE_RESTART
TRY_AGAIN_LATER = CloseReason.TRY_AGAIN_LATER


def text(data: str | bytes) -> bytes:
    """One text message as the bytes to write; bytes are taken as UTF-8."""
    return _encode(TextMessage(data=data if isinstance(data, str) else data.decode()))


def ping() -> bytes:
    """A ping without payload."""
    return _encode(Ping())


def pong(payload: bytes) -> bytes:
    """The answer to a ping, which carries the ping's payload."""
    return _encode(Pong(payload=payload))


def close(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame can carry."""
    return _encode(CloseConnection(code=code, reason=reason or None))


def _encode(event: Event) -> bytes:
    return bytes(Connection(ConnectionType.SERVER).send(event))


PING = ping()
