"""One thread that owns all websockets of a process and gives each event, encoded once, to all who listen for it.

A channel is a name; a client in it gets what is published there. Clients are touched by the hub's thread only: every
public method may be called from any thread, returns at once, and takes effect in the order of the calls.
"""

import atexit
import heapq
import logging
import math
import os
import resource
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import NamedTuple

from webapp.live import frames
from webapp.live.client import Client, Listener, PeerClosed, Phase, Refused

log = logging.getLogger("hohmann.live")

OTHER_FILES = 512  # that a process may have open beside its websockets


@dataclass(frozen=True)
class Limits:
    """What one process grants its websockets; times in seconds."""

    ping_every: float = 25.0  #: a peer that is silent from one ping to the next is dropped
    auth_within: float = 12.0  #: a socket that has not shown by then who it is gets closed
    farewell: float = 2.0  #: how long a closed socket may take to read our close frame
    backlog_bytes: int = 1 << 20  #: what may wait for one slow client before it is cut off
    send_buffer_bytes: int = 256 * 1024  #: what the kernel may hold for one client
    message_length: int = 64 * 1024  #: characters of one message from a client
    unknown_message_length: int = 8 * 1024  #: the same before the client has shown who it is
    clients: int = 5000  #: sockets in one process


class Publication(NamedTuple):
    """Bytes for everybody in a channel."""

    channel: str
    frame: bytes


class Hub:
    """All websockets of this process; its thread starts with the first socket, anew in each forked process."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._reset()

    def _reset(self) -> None:
        """Begin with nothing: at first, and in a forked child, where the parent's sockets are none of our business."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._inbox: deque[Callable[[], None] | Publication] = deque()
        self._woken = False
        self._channels: dict[str, dict[Client, None]] = {}
        self._interest: Counter[str] = Counter()
        self._clients: set[Client] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = count()
        self._stop_by: float | None = None

    # Called from any thread.

    @property
    def size(self) -> int:
        """How many sockets this process holds."""
        return len(self._clients)

    def is_wanted(self, channel: str) -> bool:
        """Whether anyone listens to the channel, or is about to."""
        return channel in self._interest

    def adopt(self, sock: socket.socket, listener: Listener, *, admitted: bool) -> Client:
        """Own a socket after its handshake. One that is not `admitted` may only speak until `admit`, not for long."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes)
        client = Client(sock, listener, phase=Phase.OPEN if admitted else Phase.WAITING)
        if self._process != os.getpid():
            self._reset()
        self._start()
        self._post(partial(self._adopt, client))
        return client

    def admit(self, client: Client, *, seconds: float = math.inf) -> None:
        """Let a client stay that has shown who it is, for as long as what it showed is good."""
        self._post(partial(self._admit, client, time.monotonic() + seconds))

    def join(self, client: Client, channels: Iterable[str]) -> None:
        """From now on the client gets what is published in these channels."""
        channels = list(channels)
        with self._lock:
            self._interest.update(channels)
        self._post(partial(self._join, client, channels))

    def leave(self, client: Client, channels: Iterable[str]) -> None:
        """The client gets nothing more from these channels; those it is not in do not matter."""
        self._post(partial(self._leave, client, list(channels)))

    def send(self, client: Client, frame: bytes) -> None:
        """Give one client a frame made by `frames`."""
        self._post(partial(self._send, client, frame))

    def publish(self, channel: str, frame: bytes) -> None:
        """Give the same bytes to every client of the channel; whoever is too slow for it is cut off."""
        if self.is_wanted(channel):
            self._post(Publication(channel, frame))

    def close(self, client: Client, code: int, reason: str) -> None:
        """Say farewell to one client after what was sent before."""
        self._post(partial(self._close, client, code, reason))

    def close_channel(self, channel: str, code: int, reason: str) -> None:
        """Say farewell to every client of the channel."""
        self._post(partial(self._close_channel, channel, code, reason))

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Run something short on the hub's thread after a while; forgotten when the hub stops."""
        self._post(partial(self._at, time.monotonic() + seconds, call))

    def stop(self, *, within: float = 1.0) -> None:
        """Close every socket with 1001 and end the thread, in `within` seconds at most. Does nothing when none runs."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            return
        self._post(partial(self._stop, time.monotonic() + within))
        if thread is not threading.current_thread():
            thread.join(within + 1.0)

    # The thread and its loop.

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            allow_open_files(self.limits.clients + OTHER_FILES)
            self._wake_reader, self._wake_writer = socket.socketpair()
            self._wake_reader.setblocking(False)
            self._wake_writer.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._wake_reader, selectors.EVENT_READ)
            self._thread = threading.Thread(target=self._run, name="live-hub", daemon=True)
            self._thread.start()
            atexit.register(self.stop)  # at SIGTERM gunicorn leaves through sys.exit, and each peer is told

    def _post(self, work: Callable[[], None] | Publication) -> None:
        self._inbox.append(work)
        # The loop clears the flag before it empties the inbox, so work that sees it set is still going to be found.
        if not self._woken and self._thread is not None:
            self._woken = True
            try:
                self._wake_writer.send(b"\0")
            except BlockingIOError:
                log.debug("The hub has wake-ups to spare")

    def _run(self) -> None:
        while not self._is_over():
            for key, mask in self._selector.select(self._seconds_to_wait()):
                if key.data is None:
                    self._wake_reader.recv(4096)
                else:
                    self._guarded(key.data, partial(self._serve, key.data, mask))
            self._woken = False
            self._empty_inbox()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()

    def _empty_inbox(self) -> None:
        """Do what was posted, in its order; publications that follow each other directly are delivered together."""
        together: list[Publication] = []
        for _ in range(len(self._inbox)):
            work = self._inbox.popleft()
            if isinstance(work, Publication):
                together.append(work)
                continue
            self._publish(together)
            together = []
            work()
        self._publish(together)

    def _is_over(self) -> bool:
        return self._stop_by is not None and (not self._clients or time.monotonic() >= self._stop_by)

    def _seconds_to_wait(self) -> float | None:
        due = self._timers[0][0] if self._timers else None
        if self._stop_by is not None:
            due = self._stop_by if due is None else min(due, self._stop_by)
        return None if due is None else max(due - time.monotonic(), 0.0)

    def _at(self, due: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (due, next(self._sequence), call))

    def _in(self, seconds: float, call: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, call)

    def _guarded(self, client: Client, work: Callable[[], None]) -> None:
        """Do something with a client's socket; what goes wrong with it harms this client only."""
        try:
            work()
        except PeerClosed as farewell:
            self._close(client, farewell.code or frames.NORMAL, "")
        except Refused as refusal:
            self._close(client, refusal.code, refusal.reason)
        except OSError:
            self._drop(client)
        except Exception:
            # The outermost edge of the thread that all sockets share: a defect behind one must not end the others.
            log.exception("A websocket's listener failed")
            self._close(client, frames.INTERNAL_ERROR, "Internal error")

    # What the loop does, on its own thread.

    def _adopt(self, client: Client) -> None:
        self._selector.register(client.sock, selectors.EVENT_READ, client)
        self._clients.add(client)
        if self._stop_by is not None:
            self._close(client, frames.GOING_AWAY, "Going away")
        elif len(self._clients) > self.limits.clients:
            self._close(client, frames.TRY_AGAIN_LATER, "Too many connections")
        else:
            self._in(self.limits.ping_every, partial(self._ping, client))
            if client.phase is Phase.WAITING:
                self._in(self.limits.auth_within, partial(self._refuse_stranger, client))

    def _admit(self, client: Client, good_until: float) -> None:
        if client.phase is Phase.WAITING:
            client.move(Phase.OPEN)
        client.good_until = good_until
        if good_until - time.monotonic() < self.limits.ping_every:
            self._at(good_until, partial(self._expire, client))

    def _expire(self, client: Client) -> None:
        if time.monotonic() >= client.good_until:
            self._close(client, frames.POLICY, "Token expired")

    def _refuse_stranger(self, client: Client) -> None:
        if client.phase is Phase.WAITING:
            self._close(client, frames.POLICY, "Authentication required")

    def _join(self, client: Client, channels: list[str]) -> None:
        for channel in channels:
            if client.phase is not Phase.OPEN or channel in client.channels:
                self._lose_interest(channel)
            else:
                client.channels.add(channel)
                self._channels.setdefault(channel, {})[client] = None

    def _leave(self, client: Client, channels: list[str]) -> None:
        for channel in channels:
            if channel not in client.channels:
                continue
            client.channels.discard(channel)
            members = self._channels[channel]
            del members[client]
            if not members:
                del self._channels[channel]
            self._lose_interest(channel)

    def _lose_interest(self, channel: str) -> None:
        with self._lock:
            self._interest[channel] -= 1
            if self._interest[channel] <= 0:
                del self._interest[channel]

    def _publish(self, publications: list[Publication]) -> None:
        """Write each client all that is for it at once: a hub that has fallen behind catches up by larger writes."""
        if len(publications) == 1:
            for client in list(self._channels.get(publications[0].channel, ())):
                self._send(client, publications[0].frame)
            return
        for client, frame in self._joined(publications):
            self._send(client, frame)

    def _joined(self, publications: list[Publication]) -> Iterator[tuple[Client, bytes]]:
        theirs: dict[Client, tuple[int, ...]] = {}
        for number, publication in enumerate(publications):
            for client in self._channels.get(publication.channel, ()):
                theirs[client] = (*theirs.get(client, ()), number)
        joined: dict[tuple[int, ...], bytes] = {}  # clients of the same channels share the same bytes
        for client, numbers in theirs.items():
            if numbers not in joined:
                joined[numbers] = b"".join(publications[number].frame for number in numbers)
            yield client, joined[numbers]

    def _send(self, client: Client, frame: bytes) -> None:
        if client.phase not in (Phase.OPEN, Phase.WAITING):
            return
        try:
            client.write(frame)
        except OSError:
            self._drop(client)
            return
        if client.backlog:
            self._watch(client)
            if client.backlog > self.limits.backlog_bytes:
                self._close(client, frames.TRY_AGAIN_LATER, "Too slow")

    def _serve(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(client)
        if mask & selectors.EVENT_READ and client.phase is Phase.CLOSING:
            self._await_end(client)
        elif mask & selectors.EVENT_READ and client.phase is not Phase.CLOSED:
            limits = self.limits
            longest = limits.message_length if client.phase is Phase.OPEN else limits.unknown_message_length
            for message in client.read(longest=longest):
                client.listener.received(client, message)
            if client.backlog:
                self._watch(client)

    def _await_end(self, client: Client) -> None:
        try:
            client.discard_input()
        except PeerClosed:
            self._drop(client)

    def _flush(self, client: Client) -> None:
        client.flush()
        if client.backlog:
            return
        self._watch(client)
        if client.phase is Phase.CLOSING:
            client.sock.shutdown(socket.SHUT_WR)

    def _watch(self, client: Client) -> None:
        """Have the selector report when the kernel takes more, but only while something waits."""
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.backlog else 0)
        if self._selector.get_key(client.sock).events != mask:
            self._selector.modify(client.sock, mask, client)

    def _ping(self, client: Client) -> None:
        if client.phase in (Phase.CLOSING, Phase.CLOSED):
            return
        if not client.alive:
            self._drop(client)
            return
        client.alive = False
        self._send(client, frames.PING)
        self._in(self.limits.ping_every, partial(self._ping, client))
        if client.good_until - time.monotonic() < self.limits.ping_every:
            self._at(client.good_until, partial(self._expire, client))

    def _close(self, client: Client, code: int, reason: str) -> None:
        if client.phase in (Phase.CLOSING, Phase.CLOSED):
            return
        client.move(Phase.CLOSING)
        self._leave(client, list(client.channels))
        if client.backlog > self.limits.backlog_bytes:
            client.forget_unsent()
        try:
            client.write(frames.close(code, reason))
            self._flush(client)
        except OSError:
            self._drop(client)
            return
        self._watch(client)
        self._in(self.limits.farewell, partial(self._drop, client))

    def _close_channel(self, channel: str, code: int, reason: str) -> None:
        for client in list(self._channels.get(channel, ())):
            self._close(client, code, reason)

    def _drop(self, client: Client) -> None:
        """End it without a word: the peer is gone already, or was given its time."""
        if client.phase is Phase.CLOSED:
            return
        client.move(Phase.CLOSED)
        self._leave(client, list(client.channels))
        self._clients.discard(client)
        self._selector.unregister(client.sock)
        client.sock.close()
        client.listener.closed(client)

    def _stop(self, deadline: float) -> None:
        self._stop_by = deadline
        for client in list(self._clients):
            self._close(client, frames.GOING_AWAY, "Going away")


def allow_open_files(number: int) -> None:
    """Let this process open that many files, as far as the system's hard limit permits; often the soft one is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
