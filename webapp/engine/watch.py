"""A second thread beside a running statement: tells how far it is, and stops it when the load is cancelled."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from webapp.engine.context import Context
from webapp.engine.errors import Cancelled

_LOOK = 0.1
_TELL = 0.5


@dataclass(frozen=True)
class Expected:
    """What a statement will read, as far as it is known beforehand; ``rows`` may be an estimate, 0 when unknown."""

    rows: int = 0
    size: int = 0


@contextmanager
def watched(
    connection: duckdb.DuckDBPyConnection, context: Context, expected: Expected | None = None
) -> Iterator[None]:
    """Run the block's statements, stopped with Cancelled within a second when the load is cancelled.

    With something ``expected``, progress is reported about twice a second, never going back.
    """
    if context.cancelled():
        raise Cancelled
    watch = _Watch(connection, context, expected)
    watch.thread.start()
    try:
        yield
    except duckdb.InterruptException as error:
        watch.end()
        raise watch.failure or Cancelled("cancelled while rows were moving; the table is as it was") from error
    finally:
        watch.end()
    if watch.failure:
        raise watch.failure


class _Watch:
    def __init__(self, connection: duckdb.DuckDBPyConnection, context: Context, expected: Expected | None) -> None:
        self._connection = connection
        self._context = context
        self._expected = expected
        self._fraction = 0.0
        self._done = threading.Event()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def end(self) -> None:
        self._done.set()
        self.thread.join()

    def _run(self) -> None:
        try:
            self._look()
        except Exception as error:  # a reporter that fails (its pipe is gone) must end the load, not only this thread
            self.failure = error
            self._interrupt_until_done()

    def _look(self) -> None:
        told = time.monotonic()
        while not self._done.wait(_LOOK):
            if self._context.cancelled():
                self._interrupt_until_done()
                return
            if time.monotonic() - told >= _TELL:
                told = time.monotonic()
                if self._expected:
                    self._tell(self._expected)

    def _interrupt_until_done(self) -> None:
        # Repeated, because an interrupt between two statements is forgotten by DuckDB.
        while not self._done.is_set():
            self._connection.interrupt()
            self._done.wait(_LOOK)

    def _tell(self, expected: Expected) -> None:
        percent = self._connection.query_progress()
        if percent < 0:
            return
        self._fraction = round(max(self._fraction, min(percent / 100, 1.0)), 4)
        rows, size = int(expected.rows * self._fraction), int(expected.size * self._fraction)
        self._context.reporter.progress(rows, 0, size, self._fraction)
