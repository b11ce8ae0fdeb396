"""A lock beside a DuckDB file, so that loads and queries of many processes wait for each other instead of failing.

DuckDB lets one process write a file, or many read it, and refuses everyone else at once. Whoever opens a file through
this module first takes ``flock`` on ``<file>.lock``: shared to read, exclusive to write. The lock file stays where it
is; taking it away would let two processes hold locks on two files of one name.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

WAITING = "waiting for "
"""How the line begins that says what a load waits for."""
_PAUSE = 0.02
_QUIET = 0.5


class Patience:
    """Counts how long someone waits, says so once it is noticeable, and gives up at the limit or when cancelled."""

    def __init__(self, context: Context, what: str) -> None:
        self._context = context
        self._what = what
        self._began = time.monotonic()
        self._said = False

    def pause(self, holder: str | None = None) -> None:
        """Sleep a moment; raise Cancelled when asked to stop, EngineError (transient) when it took too long."""
        if self._context.cancelled():
            raise Cancelled(f"cancelled while waiting for {self._what}")
        waited = time.monotonic() - self._began
        by = f", held by {holder}" if holder else ""
        if waited > self._context.lock_timeout:
            raise EngineError(
                f"{self._what} was in use for {waited:.0f} s{by}",
                origin=Origin.DESTINATION,
                kind=Kind.TRANSIENT,
                fix="Close the program that has the file open, or try again later.",
                file=self._what,
                holder=holder,
                waited=round(waited, 1),
            )
        if waited > _QUIET and not self._said:
            self._said = True
            self._context.reporter.log("info", f"{WAITING}{self._what}{by or ', in use by another load or query'}")
        time.sleep(_PAUSE)


@contextmanager
def file_lock(database: Path, context: Context, *, shared: bool, shown: str) -> Iterator[None]:
    """Hold the lock of a DuckDB file; ``shown`` is its name in messages. Raises what ``Patience.pause`` raises."""
    handle = _open_lock_file(database.with_name(database.name + ".lock"), shown)
    try:
        patience = Patience(context, shown)
        while not _try_lock(handle, shared):
            patience.pause()
        yield
    finally:
        os.close(handle)


@contextmanager
def shared_lock(database: Path, *, seconds: float) -> Iterator[None]:
    """Keep writers from a DuckDB file, for who copies it. Raises BlockingIOError when one holds it for this long."""
    handle = _open_lock_file(database.with_name(database.name + ".lock"), database.name)
    try:
        end = time.monotonic() + seconds
        while not _try_lock(handle, shared=True):
            if time.monotonic() > end:
                raise BlockingIOError
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int, shared: bool) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_lock_file(path: Path, shown: str) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
    except OSError as error:
        raise EngineError(
            f"cannot write in the folder of {shown}: {error.strerror}",
            origin=Origin.DESTINATION,
            kind=Kind.SYSTEM,
            permanent=error.errno not in (28, 122),
            file=shown,
            fix="Check the folder's rights and its free space.",
        ) from error
