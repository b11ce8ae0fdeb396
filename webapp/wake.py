"""Signals between processes: "something changed, look now". They carry no facts, so losing one only costs time.

On PostgreSQL a signal is NOTIFY, sent by the transaction itself. On SQLite it is a datagram on loopback to each port
that a listener has registered as a file; files of processes that are gone are swept by the next sender.
"""

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg2
import psycopg2.extensions
from sqlalchemy.engine import make_url

RUNS = "runs"  # a run waits for a worker, or a run was asked to stop
EVENTS = "events"  # the event log has grown
CLOCK = "clock"  # a schedule or a flight plan has a new next instant
CHANNELS = (RUNS, EVENTS, CLOCK)


class Listener(Protocol):
    """Waits for signals; `fileno()` becomes readable when there is one, `drain()` says which channels called."""

    def fileno(self) -> int: ...

    def drain(self) -> set[str]: ...

    def close(self) -> None: ...


class DatagramListener:
    """Listens on a loopback port, registered under `folder` as `<channel>-<pid>-<port>`."""

    def __init__(self, folder: Path, channels: Iterable[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        port = self.socket.getsockname()[1]
        self.files = [folder / f"{channel}-{os.getpid()}-{port}" for channel in channels]
        for file in self.files:
            file.touch()

    def fileno(self) -> int:
        return self.socket.fileno()

    def drain(self) -> set[str]:
        """Take all waiting signals; returns their channels."""
        heard: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.add(self.socket.recv(64).decode("ascii", "replace"))
        return heard & set(CHANNELS)

    def close(self) -> None:
        for file in self.files:
            file.unlink(missing_ok=True)
        self.socket.close()


class NotifyListener:
    """Listens to PostgreSQL's NOTIFY on a connection of its own; raises psycopg2.OperationalError when that is lost."""

    def __init__(self, url: str, channels: Iterable[str]) -> None:
        self.connection = psycopg2.connect(**_dsn(url))
        self.connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
        with self.connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"LISTEN hohmann_{channel}")

    def fileno(self) -> int:
        return int(self.connection.fileno())

    def drain(self) -> set[str]:
        """Take all waiting signals; returns their channels."""
        self.connection.poll()
        heard = {notice.channel.removeprefix("hohmann_") for notice in self.connection.notifies}
        self.connection.notifies.clear()
        return heard

    def close(self) -> None:
        with contextlib.suppress(psycopg2.Error):
            self.connection.close()


def _dsn(url: str) -> dict[str, Any]:
    parts = make_url(url)
    named = {"host": parts.host, "port": parts.port, "user": parts.username, "password": parts.password}
    return {**{k: v for k, v in named.items() if v}, "dbname": parts.database, **dict(parts.query)}


class Wake:
    """The signals of one instance: make a listener, or (SQLite) send after a commit."""

    def __init__(self, url: str, run_folder: Path) -> None:
        self.url = url
        self.folder = run_folder / "wake"
        self.is_postgresql = url.startswith("postgresql")
        self._sender: socket.socket | None = None
        self._sender_pid = 0

    def listen(self, *channels: str) -> Listener:
        """A listener for these channels."""
        return NotifyListener(self.url, channels) if self.is_postgresql else DatagramListener(self.folder, channels)

    def send(self, channels: Iterable[str]) -> None:
        """Tell every listener on this machine; on PostgreSQL the database does this itself."""
        wanted = set(channels)
        if self.is_postgresql or not wanted:
            return
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in names:
            channel, _, rest = name.partition("-")
            if channel in wanted:
                self._send_one(channel, rest, name)

    def _send_one(self, channel: str, rest: str, name: str) -> None:
        pid, _, port = rest.partition("-")
        if not port.isdigit() or not _is_alive(int(pid)):
            (self.folder / name).unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):  # a full buffer means that a signal is waiting there already
            self._socket().sendto(channel.encode(), ("127.0.0.1", int(port)))

    def _socket(self) -> socket.socket:
        if self._sender is None or self._sender_pid != os.getpid():
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
            self._sender_pid = os.getpid()
        return self._sender

    def close(self) -> None:
        """Close the socket that signals leave by; the next signal opens another."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Waiter:
    """A listener with a time-out, as a context manager, for code that has no selector of its own."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.close()

    def wait(self, seconds: float) -> set[str]:
        """Wait until a signal comes or the time is over; returns the channels that called."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.listener], [], [], left)
            if ready and (heard := self.listener.drain()):
                return heard
        return set()
