"""What the queue, its workers and the processes that execute runs say to each other.

Nothing here knows the database or Flask: a process on another machine that only moves data needs these words, too.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Totals:
    """Rows and bytes of several tasks together."""

    rows_read: int = 0
    rows_written: int = 0
    rows_found: int = 0
    bytes_read: int = 0


@dataclass(frozen=True)
class Lease:
    """The right to execute a run, and what to execute: the tasks from `first_task` on; `done` came of those before.

    `landed` are the receipts of the streams of a sync that landed in earlier attempts.
    """

    run_id: uuid.UUID
    job_id: uuid.UUID
    token: int
    attempt: int
    first_task: int
    spec: Mapping[str, Any]
    done: Totals = Totals()
    landed: Sequence[Mapping[str, Any]] = ()


@dataclass
class Step:
    """A step as a child reports it."""

    position: int
    task: int
    name: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: "succeeded", "failed", "cancelled" or "lost", and what is known of it."""

    name: str
    message: str | None = None
    origin: str | None = None
    kind: str | None = None
    fix: str | None = None
    permanent: bool = False
    rows_read: int = 0
    rows_written: int = 0
    rows_found: int | None = None
    bytes_read: int = 0
    doubt: str | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    began: datetime | None = None
