"""One websocket as its hub sees it: what came in, what still has to go out, and how far its life has got.

Everything here runs on the hub's thread only.
"""

import math
import socket
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Protocol

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from webapp.live import frames


class Phase(Enum):
    """How far the life of a socket has got."""

    WAITING = "waiting"  #: connected, has not yet shown who it is
    OPEN = "open"  #: may listen and speak
    CLOSING = "closing"  #: our close frame is on its way; only the peer's farewell is awaited
    CLOSED = "closed"  #: the socket is gone


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.OPEN, Phase.CLOSING, Phase.CLOSED}),
    Phase.OPEN: frozenset({Phase.CLOSING, Phase.CLOSED}),
    Phase.CLOSING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


class Listener(Protocol):
    """What stands behind a socket: it hears the client's messages. Called on the hub's thread, so it must be quick."""

    def received(self, client: "Client", message: str) -> None:
        """Hear one complete text message."""

    def closed(self, client: "Client") -> None:
        """Learn that the socket is gone; called once, whoever ended it."""


class Refused(Exception):
    """The peer broke a rule of the protocol or of ours; its socket is to be closed with `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class PeerClosed(Exception):
    """The peer said farewell with a close frame (`code`) or without a word (`code` is None)."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"peer closed with {code}")
        self.code = code


class Client:
    """A connected peer. `alive` is set by whatever arrives, cleared by each ping: a silent peer is noticed.

    `good_until` (time.monotonic) is when what the peer showed expires, infinity for never.
    """

    __slots__ = (
        "_first_is_begun",
        "_heard",
        "_heard_length",
        "_incoming",
        "_outgoing",
        "alive",
        "backlog",
        "channels",
        "good_until",
        "listener",
        "phase",
        "sock",
    )

    def __init__(self, sock: socket.socket, listener: Listener, *, phase: Phase) -> None:
        self.sock = sock
        self.listener = listener
        self.phase = phase
        self.channels: set[str] = set()
        self.alive = True
        self.good_until = math.inf
        self.backlog = 0  #: bytes accepted for this client that the kernel has not taken yet
        self._outgoing: deque[memoryview] = deque()
        self._first_is_begun = False
        self._incoming = Connection(ConnectionType.SERVER)
        self._heard: list[str] = []
        self._heard_length = 0

    def move(self, phase: Phase) -> None:
        """Go on to `phase`; a move that is not in the table is a defect in the hub and raises AssertionError."""
        assert phase in MOVES[self.phase], f"{self.phase} cannot become {phase}"
        self.phase = phase

    def write(self, frame: bytes) -> None:
        """Give the frame to the kernel, keep what it does not take. Never blocks; OSError when the peer is gone."""
        if self._outgoing:
            self._keep(memoryview(frame))
            return
        try:
            sent = self.sock.send(frame)
        except BlockingIOError:
            sent = 0
        if sent < len(frame):
            self._first_is_begun = sent > 0
            self._keep(memoryview(frame)[sent:])

    def flush(self) -> None:
        """Write as much of what was kept as the kernel takes now. OSError when the connection is gone."""
        while self._outgoing:
            piece = self._outgoing[0]
            try:
                sent = self.sock.send(piece)
            except BlockingIOError:
                return
            self.backlog -= sent
            if sent < len(piece):
                self._first_is_begun = True
                self._outgoing[0] = piece[sent:]
                return
            self._outgoing.popleft()
            self._first_is_begun = False

    def forget_unsent(self) -> None:
        """Drop what waits to be written, except the rest of a frame that the peer has begun to receive."""
        begun = deque([self._outgoing[0]] if self._first_is_begun else [])
        self._outgoing = begun
        self.backlog = sum(map(len, begun))

    def discard_input(self) -> None:
        """Read and forget what comes after our farewell. PeerClosed at its end, OSError when the peer is gone."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        if not data:
            raise PeerClosed(None)

    def read(self, *, longest: int) -> Iterator[str]:
        """Complete text messages that have arrived, pings answered on the way.

        Raises Refused for what breaks the rules (a message over `longest` characters, a binary one, a malformed frame),
        PeerClosed when the peer has ended it, OSError when the connection is gone.
        """
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        if not data:
            raise PeerClosed(None)
        self.alive = True
        self._incoming.receive_data(data)
        for event in self._incoming.events():
            if isinstance(event, TextMessage):
                yield from self._collect(event, longest)
            elif isinstance(event, Ping):
                self.write(frames.pong(event.payload))
            elif isinstance(event, CloseConnection):
                self._end(event)
            elif isinstance(event, BytesMessage):
                raise Refused(frames.UNSUPPORTED, "Text messages only")

    def _collect(self, event: TextMessage, longest: int) -> Iterator[str]:
        self._heard.append(event.data)
        self._heard_length += len(event.data)
        if self._heard_length > longest:
            raise Refused(frames.TOO_BIG, f"Messages are limited to {longest} characters")
        if event.message_finished:
            message = "".join(self._heard)
            self._heard.clear()
            self._heard_length = 0
            yield message

    def _end(self, event: CloseConnection) -> None:
        # A frame that cannot be parsed arrives as a close event too, although the peer did not send one.
        if self._incoming.state.name == "OPEN":
            raise Refused(event.code, event.reason or "Malformed frame")
        raise PeerClosed(event.code)

    def _keep(self, piece: memoryview) -> None:
        self._outgoing.append(piece)
        self.backlog += len(piece)
