"""What happens inside a child process: one run at a time, all of it told to the worker through a pipe."""

import contextlib
import logging
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from webapp.config import Settings
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.redaction import redact, secret_values
from webapp.runs.messages import Lease, Outcome, Step

log = logging.getLogger("hohmann.run")

LONGEST_LINE = 8_000
LONGEST_STEP = 120
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


class Pipe(Protocol):
    """What carries messages to whoever holds the lease."""

    def send(self, message: Message, /) -> None:
        """Take a message along."""
        ...


class Telephone:
    """Tells the worker what happens. The engine's Reporter for one run; safe to use from several threads."""

    def __init__(self, pipe: Pipe, lease: Lease) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._secrets = _secret_texts(lease.spec)
        self._steps: dict[str, Step] = {}
        self._streams: dict[str, Step] = {}
        self._last_step: Step | None = None
        self._position = 0
        self.task = lease.first_task
        self.done_before = (lease.done.rows_read, lease.done.rows_written, lease.done.bytes_read)
        self.tasks = max(1, len(lease.spec.get("tasks", [])))

    def send(self, message: Message) -> None:
        """Pass a message on; a worker that is gone takes this process with it, so a broken pipe is no news."""
        with self._lock:
            self._pipe.send(message)

    def clean(self, text: str) -> str:
        """The text without secrets, cut at LONGEST_LINE characters, and without what no database takes."""
        for secret in self._secrets:
            text = text.replace(secret, "[struck out]")
        text = text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
        return redact(text)[:LONGEST_LINE]

    def log(self, level: str, message: str) -> None:
        """A line for the run's log, cleaned."""
        step = next(reversed(self._steps), "")
        known = level if level in {"debug", "info", "warning", "error"} else "info"
        self.send(Line(_now().isoformat(), known, step, self.clean(message)))

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

    def tell_stream(self, name: str, facts: dict[str, Any], outcome: str | None = None) -> None:
        """A stream of a sync is this far: a step of its own beside others; it ends with its outcome."""
        step = self._streams.get(name)
        if step is None:
            self._position += 1
            step = self._streams[name] = Step(self._position, self.task, name[:LONGEST_STEP], _now())
        ended = replace(step, facts=facts, outcome=outcome, finished_at=_now() if outcome else None)
        self._streams[name] = ended
        self.send(ended)

    def fail_open_steps(self, outcome: str) -> None:
        """End what is still open in this way."""
        for name in list(self._steps):
            self.step_ended(name, outcome)
        for name, step in list(self._streams.items()):
            if step.outcome is None:
                self.tell_stream(name, step.facts, outcome)

    def progress(self, rows_read: int, rows_written: int, bytes_read: int, fraction: float | None) -> None:
        """How far the present task is; the worker is told how far the whole run is."""
        before = self.done_before
        whole = None if fraction is None else (self.task - 1 + min(max(fraction, 0.0), 1.0)) / self.tasks
        self.send(Progress(before[0] + rows_read, before[1] + rows_written, before[2] + bytes_read, whole))


def _now() -> datetime:
    return datetime.now(UTC)


def _secret_texts(spec: Mapping[str, Any]) -> list[str]:
    """The secrets of a definition, longest first; of `Bearer abc` also `abc`, which a server may send back."""
    secrets = secret_values(spec)
    parts = {part for secret in secrets for part in secret.split() if len(part) > 7}
    return sorted(secrets | parts, key=len, reverse=True)


class LeaseHold:
    """Until when a worker's leases are good, in memory that it shares with its children.

    A worker that is cut off from the database, or stopped, cannot prolong its leases, and another may take its runs
    over. A child asks here before each step and before it commits; while the time is over it waits, until the worker
    has prolonged the leases, or has learnt that one is lost and ends the child.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def prolong(self, until: float) -> None:
        """The leases are good until this instant of the monotonic clock, which all processes of a machine share."""
        struct.pack_into("d", self._memory, 0, until)

    def is_good(self) -> bool:
        """Whether no other worker can have taken the runs over."""
        good_until: float = struct.unpack_from("d", self._memory, 0)[0]
        return time.monotonic() < good_until

    def wait(self, stop: Callable[[], bool]) -> bool:
        """Wait while the leases are in doubt; returns whether the run has to stop."""
        while not stop():
            if self.is_good():
                return False
            time.sleep(0.05)
        return True


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


def live_as_child(pipe: Connection, settings: Settings, hold: LeaseHold) -> None:
    """The life of a child: take a lease, execute it, tell how it ended, again, until the worker closes the pipe."""
    stop = StopFlag()
    while True:
        try:
            lease: Lease = pipe.recv()
        except (EOFError, OSError):
            return
        stop.clear()
        reset_peak_memory()
        outcome = execute(lease, Telephone(pipe, lease), settings, lambda: hold.wait(stop.is_set))
        pipe.send(outcome)


def execute(lease: Lease, telephone: Telephone, settings: Settings, cancelled: Callable[[], bool]) -> Outcome:
    """Execute one run and say how it ended; nothing is raised, because there is nobody to catch it."""
    before = _cpu_seconds()
    telephone.log(
        "info", f"Attempt {lease.attempt} of {lease.spec.get('job_name', 'the job')} begins in process {os.getpid()}."
    )
    try:
        outcome = _executor_of(lease)(lease, telephone, settings, cancelled)
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
        outcome = Outcome("failed", message=f"{type(error).__name__}: {error}", origin="platform", kind="system")
    finally:
        remove_temp(settings, lease)
    telephone.fail_open_steps(outcome.name)
    outcome = _cleaned(outcome, telephone)
    if outcome.name == "failed" and outcome.message:
        telephone.log("error", outcome.message)
    return replace(outcome, cpu_seconds=round(_cpu_seconds() - before, 3), peak_memory_mb=_peak_memory_mb())


def _executor_of(lease: Lease) -> "Executor":
    kind = str(lease.spec.get("kind"))
    executor = _EXECUTORS.get(kind)
    if executor is None:
        raise EngineError(
            f"This worker cannot execute a job of kind {kind!r}; it knows: {', '.join(_EXECUTORS)}.",
            origin=Origin.PLATFORM,
            fix="Start workers of the release that made the job.",
        )
    return executor


def _cleaned(outcome: Outcome, telephone: Telephone) -> Outcome:
    def clean(text: str | None) -> str | None:
        return telephone.clean(text) if text else None

    return replace(outcome, message=clean(outcome.message), fix=clean(outcome.fix), doubt=clean(outcome.doubt))


def remove_temp(settings: Settings, lease: Lease) -> None:
    """Take away what a run put aside while it moved data."""
    shutil.rmtree(_temp_of(settings, lease), ignore_errors=True)


def _temp_of(settings: Settings, lease: Lease) -> Path:
    return settings.hohmann_home / "tmp" / str(lease.run_id)


def _failure(error: EngineError) -> Outcome:
    return Outcome(
        "failed",
        message=error.message,
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
    totals = Outcome("succeeded", **asdict(lease.done))
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


def _execute_sync(lease: Lease, telephone: Telephone, settings: Settings, cancelled: Callable[[], bool]) -> Outcome:
    """Contract 002: the streams of a sync, each a step of its own."""
    from webapp.runs.worker.sync import execute_sync

    return execute_sync(lease, telephone, run_context(settings, telephone, cancelled, lease))


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
    return Context(
        data_root=settings.data_folder,
        allowed_roots=(settings.data_folder, *settings.data_roots),
        warehouse=settings.warehouse,
        temp=_temp_of(settings, lease),
        reporter=telephone,
        cancelled=cancelled,
        allow_private_addresses=settings.hohmann_allow_private_addresses,
        memory_limit_mb=settings.engine_memory_mb,
        keep_free_percent=settings.parachute_min_free_percent,
    )


Executor = Callable[[Lease, Telephone, Settings, Callable[[], bool]], Outcome]
_EXECUTORS: Mapping[str, Executor] = {"etl": _execute_etl, "sync": _execute_sync}


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def reset_peak_memory() -> None:
    """Let the peak of the memory be that of what comes now."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # some containers do not allow it; the peak is then that of all runs so far
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


def private_mb(pid: int) -> float:
    """The memory in MB that a process shares with no other, 0 where that cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
