"""Follows the event log in one thread of each web process and hands what is new to the feeds.

The thread sleeps until the log signals that it has grown. It alone knows how far the log has been published, so it is
also the one that lets sockets in: between two looks at the log nothing can be missed or come twice.
"""

import contextlib
import heapq
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import psycopg2
import sqlalchemy.exc
from flask import Flask

from webapp import events, wake
from webapp.db import get_wake, reading
from webapp.events import Event

log = logging.getLogger("hohmann.live")

BATCH = 500
SAFETY_LOOK = 5.0  # seconds; only matters when a signal was lost
RETRY_AFTER = 1.0  # seconds to wait for a database that went away


class Feed(Protocol):
    """Gets every event, in the order of the log, on the tailer's thread. `show` asks nothing of the database."""

    def show(self, event: Event) -> None: ...


class Tailer:
    """The thread that follows the log; it starts with the first socket and sleeps while there is none."""

    def __init__(self, app: Flask, *, is_needed: Callable[[], bool]) -> None:
        self.feeds: list[Feed] = []
        self.position = 0  #: the last event that was published, meaningful on the tailer's thread
        self._app = app
        self._is_needed = is_needed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._work: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = count()
        self._is_current = False

    def call(self, work: Callable[[], None]) -> None:
        """Run `work` on the tailer's thread, between two looks at the log, with the database at hand."""
        self._start()
        self._work.append(work)
        with contextlib.suppress(BlockingIOError):  # signals enough are waiting
            self._alarm.send(b"\0")

    def call_later(self, seconds: float, work: Callable[[], None]) -> None:
        """The same after a while; to be called on the tailer's thread only."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._sequence), work))

    def catch_up(self) -> None:
        """Publish everything that is in the log by now."""
        if not self._is_current:
            # Nobody listened for a while: what happened meanwhile concerns nobody.
            self.position = events.latest_id()
            self._is_current = True
            return
        is_more = True
        while is_more:
            batch = events.events_after(self.position, limit=BATCH)
            is_more = len(batch) == BATCH
            for event in batch:
                self.position = event.id
                for feed in self.feeds:
                    _guarded(feed.show, event)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._alarm, self._alarm_reader = socket.socketpair()
            self._alarm.setblocking(False)
            self._alarm_reader.setblocking(False)
            self._thread = threading.Thread(target=self._run, name="live-tail", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                with self._app.app_context():
                    listener = get_wake().listen(wake.EVENTS)
                with contextlib.closing(listener):
                    self._follow(listener)
            except (sqlalchemy.exc.DBAPIError, psycopg2.Error) as error:
                log.warning("The event log cannot be read, trying again: %s", str(error).partition("\n")[0])
            time.sleep(RETRY_AFTER)

    def _follow(self, listener: wake.Listener) -> None:
        while True:
            self._round()
            watched: list[Any] = [listener, self._alarm_reader]
            ready, _, _ = select.select(watched, [], [], self._seconds_to_wait())
            if listener in ready:
                listener.drain()
            if self._alarm_reader in ready:
                self._alarm_reader.recv(4096)

    def _round(self) -> None:
        """One look at the log, and whatever was asked for meanwhile."""
        if not (self._work or self._later or self._is_needed()):
            self._is_current = False
            return
        with self._app.app_context(), reading():
            self.catch_up()
            for _ in range(len(self._work)):
                _guarded(self._work[0])
                self._work.popleft()
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _guarded(self._later[0][2])
                heapq.heappop(self._later)

    def _seconds_to_wait(self) -> float | None:
        if self._later:
            return min(max(self._later[0][0] - time.monotonic(), 0.0), SAFETY_LOOK)
        return SAFETY_LOOK if self._is_needed() else None


def _guarded(work: Callable[..., None], *args: Event) -> None:
    """Do a piece of work; when it is at fault itself, the other pieces go on, and when the database is, all wait."""
    try:
        work(*args)
    except (sqlalchemy.exc.DBAPIError, psycopg2.Error):
        raise
    except Exception:
        # The outermost edge of the thread on which every open page depends: one bad event must not end it.
        log.exception("An event could not be shown")
