"""What a load is given from outside: where it may read and write, whom it tells, when it must stop."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Reporter(Protocol):
    """Hears how a load goes. Calls may come from a second thread of the load, one at a time."""

    def log(self, level: str, message: str) -> None:
        """Take one line; level is debug, info, warning or error."""

    def step_started(self, name: str) -> None:
        """A step of the task begins."""

    def step_ended(self, name: str) -> None:
        """The step is done; it is not called for a step that failed."""

    def progress(self, rows_read: int, rows_written: int, bytes_read: int, fraction: float | None) -> None:
        """Take how far the running step is: estimates while it runs, exact when it ends; fraction is 0 to 1 or None."""


class Silence:
    """A reporter for callers that want only the receipt."""

    def log(self, level: str, message: str) -> None:
        """Say nothing."""

    def step_started(self, name: str) -> None:
        """Say nothing."""

    def step_ended(self, name: str) -> None:
        """Say nothing."""

    def progress(self, rows_read: int, rows_written: int, bytes_read: int, fraction: float | None) -> None:
        """Say nothing."""


def never() -> bool:
    """A load that nobody cancels."""
    return False


@dataclass(frozen=True)
class Context:
    """The surroundings of one load.

    ``data_root`` is where relative paths begin; ``allowed_roots`` are the folders that files may lie in (it need not
    repeat ``data_root``); ``warehouse`` is the instance's own DuckDB file; ``temp`` takes what does not fit in memory.
    ``lock_timeout`` is in seconds: how long to wait for a DuckDB file that someone else has open. Less free than
    ``keep_free_percent`` of a disk lets kept earlier contents of tables go; 0 does not look.
    """

    data_root: Path
    allowed_roots: tuple[Path, ...]
    warehouse: Path
    temp: Path
    reporter: Reporter
    cancelled: Callable[[], bool] = never
    allow_private_addresses: bool = False
    memory_limit_mb: int = 192
    threads: int = min(4, os.cpu_count() or 1)
    lock_timeout: float = 60.0
    keep_free_percent: float = 0.0
