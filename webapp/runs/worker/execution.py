"""What happens inside a child process: one run at a time, all of it told to the worker through a pipe."""

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from webapp.config import Settings
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError
from webapp.observe import redact
from webapp.runs.queue import Lease, Outcome, Step
from webapp.secrets import secret_values

log = logging.getLogger("hohmann.run")

LONGEST_LINE = 8_000
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Line:
    """A log line on its way to the worker."""

    at: str
    level: str
    step: str
    message: str


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    rows_read: int
    rows_written: int
    bytes_read: int
    fraction: float | None


Message = Line | Step | Progress | Outcome


class Telephone:
    """Tells the worker what happens. The engine's Reporter for one run; safe to use from several threads."""

    def __init__(self, pipe: Connection, lease: Lease) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._secrets = secret_values(lease.spec)
        self._steps: dict[str, Step] = {}
        self._last_step: Step | None = None
        self._position = 0
        self.task = lease.first_task
        self.done_before = (0, 0, 0)  # rows read, rows written, bytes read by the tasks that are finished
        self.tasks = max(1, len(lease.spec.get("tasks", [])))

    def send(self, message: Message) -> None:
        """Pass a message on; a worker that is gone takes this process with it, so a broken pipe is no news."""
        with self._lock:
            self._pipe.send(message)

    def log(self, level: str, message: str) -> None:
        """A line for the run's log, without secrets, cut at LONGEST_LINE characters."""
        text = message
        for secret in self._secrets:
            text = text.replace(secret, "[struck out]")
        step = next(reversed(self._steps), "")
        known = level if level in {"debug", "info", "warning", "error"} else "info"
        self.send(Line(_now().isoformat(), known, step, redact(text)[:LONGEST_LINE]))

    def step_started(self, name: str) -> None:
        """A step begins."""
        self._position += 1
        step = Step(self._position, self.task, name, _now())
        self._steps[name] = step
        self.send(step)

    def step_ended(self, name: str, outcome: str = "succeeded", facts: dict[str, Any] | None = None) -> None:
        """A step ended."""
        step = self._steps.pop(name, None)
        if step is not None:
            self._last_step = replace(step, finished_at=_now(), outcome=outcome, facts=facts or {})
            self.send(self._last_step)

    def note_facts(self, facts: dict[str, Any]) -> None:
        """What the present task came to belongs to its last step."""
        if self._last_step is not None and self._last_step.task == self.task:
            self.send(replace(self._last_step, facts=facts))

    def fail_open_steps(self, outcome: str) -> None:
        """End what is still open in this way."""
        for name in list(self._steps):
            self.step_ended(name, outcome)

    def progress(self, rows_read: int, rows_written: int, bytes_read: int, fraction: float | None) -> None:
        """How far the present task is; the worker is told how far the whole run is."""
        before = self.done_before
        whole = None if fraction is None else (self.task - 1 + min(max(fraction, 0.0), 1.0)) / self.tasks
        self.send(Progress(before[0] + rows_read, before[1] + rows_written, before[2] + bytes_read, whole))


def _now() -> datetime:
    return datetime.now(UTC)


class StopFlag:
    """Set by the signal with which the worker asks the present run to stop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        signal.signal(signal.SIGUSR1, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()

    def is_set(self) -> bool:
        """Whether the run has to stop."""
        return self._event.is_set()

    def clear(self) -> None:
        """A new run begins."""
        self._event.clear()


def live_as_child(pipe: Connection, settings: Settings) -> None:
    """The life of a child: take a lease, execute it, tell how it ended, again, until the worker closes the pipe."""
    stop = StopFlag()
    while True:
        try:
            lease: Lease = pipe.recv()
        except (EOFError, OSError):
            return
        stop.clear()
        _reset_peak_memory()
        outcome = execute(lease, Telephone(pipe, lease), settings, stop.is_set)
        pipe.send(outcome)


def execute(lease: Lease, telephone: Telephone, settings: Settings, cancelled: Callable[[], bool]) -> Outcome:
    """Execute one run and say how it ended; nothing is raised, because there is nobody to catch it."""
    before = _cpu_seconds()
    telephone.log(
        "info", f"Attempt {lease.attempt} of {lease.spec.get('job_name', 'the job')} begins in process {os.getpid()}."
    )
    try:
        outcome = _EXECUTORS[lease.spec["kind"]](lease, telephone, settings, cancelled)
    except Cancelled as error:
        outcome = Outcome("cancelled", message=error.message)
    except EngineError as error:
        outcome = _failure(error)
    except MemoryError:
        outcome = Outcome(
            "failed", message="The run needed more memory than there is.", origin="platform", kind="system"
        )
    except Exception as error:  # the outermost edge of the child: whatever it is, the run must not end without a reason
        log.exception("run %s failed unexpectedly", lease.run_id)
        message = f"{type(error).__name__}: {error}"
        outcome = Outcome("failed", message=redact(message), origin="platform", kind="system")
    telephone.fail_open_steps(outcome.name)
    if outcome.name == "failed" and outcome.message:
        telephone.log("error", outcome.message)
    return replace(outcome, cpu_seconds=round(_cpu_seconds() - before, 3), peak_memory_mb=_peak_memory_mb())


def _failure(error: EngineError) -> Outcome:
    return Outcome(
        "failed",
        message=redact(error.message),
        origin=error.origin.value,
        kind=error.kind.value,
        fix=error.fix,
        permanent=error.permanent,
    )


def _execute_etl(lease: Lease, telephone: Telephone, settings: Settings, cancelled: Callable[[], bool]) -> Outcome:
    """Contract 001: the tasks in order; the first failure stops the run."""
    tasks = lease.spec.get("tasks", [])
    if not tasks:
        return Outcome("succeeded")
    from webapp.engine.tasks import run_task

    context = run_context(settings, telephone, cancelled, lease)
    totals = Outcome("succeeded", rows_found=0)
    for number, task in enumerate(tasks, start=1):
        if number < lease.first_task:
            continue
        telephone.task = number
        telephone.done_before = (totals.rows_read, totals.rows_written, totals.bytes_read)
        receipt = run_task(task["extractor"], task["loader"], context)
        totals = _add(totals, receipt, number)
        telephone.note_facts(_facts(receipt))
        telephone.log("info", _sentence(number, len(tasks), receipt))
    return totals


def _add(totals: Outcome, receipt: Any, number: int) -> Outcome:
    doubts = [totals.doubt, f"Task {number}: {receipt.doubt}" if receipt.doubt else None]
    return replace(
        totals,
        rows_read=totals.rows_read + receipt.rows_read,
        rows_written=totals.rows_written + receipt.rows_written,
        rows_found=(totals.rows_found or 0) + receipt.rows_found,
        bytes_read=totals.bytes_read + receipt.bytes_read,
        doubt=" ".join(doubt for doubt in doubts if doubt) or None,
    )


def _facts(receipt: Any) -> dict[str, Any]:
    """What the run page says of a task, and compares with the last good run."""
    return {
        "rows_read": receipt.rows_read,
        "rows_written": receipt.rows_written,
        "rows_found": receipt.rows_found,
        "bytes_read": receipt.bytes_read,
        "schema": [list(column) for column in receipt.schema],
        "schema_changes": receipt.schema_changes,
        "doubt": receipt.doubt,
    }


def _sentence(number: int, count: int, receipt: Any) -> str:
    changes = "".join(f" Schema: {change}." for change in receipt.schema_changes)
    rows = (
        f"{receipt.rows_read:,} rows read, {receipt.rows_written:,} written, {receipt.rows_found:,} in the table now."
    )
    return f"Task {number} of {count} landed: {rows}{changes}"


def run_context(settings: Settings, telephone: Telephone, cancelled: Callable[[], bool], lease: Lease) -> Context:
    """What the engine may touch and whom it tells, for one run."""
    temp = settings.hohmann_home / "tmp" / str(lease.run_id)
    return Context(
        data_root=settings.data_folder,
        allowed_roots=(settings.data_folder, *settings.data_roots),
        warehouse=settings.warehouse,
        temp=temp,
        reporter=telephone,
        cancelled=cancelled,
        allow_private_addresses=settings.hohmann_allow_private_addresses,
        memory_limit_mb=settings.engine_memory_mb,
    )


_EXECUTORS: Mapping[str, Callable[[Lease, Telephone, Settings, Callable[[], bool]], Outcome]] = {"etl": _execute_etl}


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reset_peak_memory() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is resident now


def _peak_memory_mb() -> float:
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def resident_mb(pid: int) -> float:
    """The resident memory of a process in MB, 0 where that cannot be read."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
