"""Child processes: forked warm from the worker, each executes one run at a time and dies with the worker."""

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection, Pipe

from setproctitle import setproctitle

from webapp.config import Settings
from webapp.dates import utcnow
from webapp.redaction import OWN_SECRETS
from webapp.runs.messages import Lease, Outcome
from webapp.runs.worker.execution import LeaseHold, Message, live_as_child, private_mb, resident_mb

MOST_RUNS_OF_A_CHILD = 1_000
MOST_MESSAGES_AT_ONCE = 1_000  # of one child, so that the others are heard too
PR_SET_PDEATHSIG = 1
REST_SECONDS = 10.0
MOST_OF_ITS_OWN_MB = 6.0  # of memory that a child which rests may keep


@dataclass
class Flight:
    """A run that a child executes now."""

    lease: Lease
    started: float  # seconds of the monotonic clock
    progressed: float
    began: datetime
    stop_asked: float | None = None
    stop_reason: str | None = None

    def outcome_when_stopped(self) -> Outcome:
        """How a run ended that was made to end: cancelled by somebody, or failed at one of its limits."""
        reason = self.stop_reason or "stopped"
        if reason.startswith("cancelled"):
            return Outcome("cancelled", message=reason)
        return Outcome("failed", message=f"The run was stopped: {reason}.", origin="platform", kind="transient")


@dataclass
class Child:
    """One child process, its pipe, and the runs given to it: the first is under way, the others wait in its hands."""

    pid: int
    pipe: Connection
    runs_done: int = 0
    spoiled: bool = False
    flight: Flight | None = None
    waiting: deque[Lease] = field(default_factory=deque)
    last_used: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._ears = select.poll()  # kept: the pipe's own `poll` makes a selector each time
        self._ears.register(self.pipe, select.POLLIN)

    @property
    def is_idle(self) -> bool:
        """Whether it could take a run at once."""
        return self.flight is None and not self.waiting

    @property
    def leases(self) -> list[Lease]:
        """All that it has been given and has not ended."""
        return ([self.flight.lease] if self.flight else []) + list(self.waiting)

    def give(self, lease: Lease) -> None:
        """Hand it a run, to be executed now or after those it has."""
        self.waiting.append(lease)
        self.start_next()

    def start_next(self) -> None:
        """Begin the next run that waits here, if it is free. A child that is gone is noticed when its pipe closes."""
        if self.flight is None and self.waiting:
            lease = self.waiting.popleft()
            now = time.monotonic()
            self.flight = Flight(lease, started=now, progressed=now, began=utcnow())
            with contextlib.suppress(BrokenPipeError):
                # What `send` does, without the pickler that can also pass open files.
                self.pipe.send_bytes(pickle.dumps(lease, pickle.HIGHEST_PROTOCOL))

    def messages(self) -> tuple[list[Message], bool]:
        """What it has said since last time, and whether it is gone; its last words are not lost with it."""
        said: list[Message] = []
        try:
            while len(said) < MOST_MESSAGES_AT_ONCE and self._ears.poll(0):
                said.append(self.pipe.recv())
        except (EOFError, OSError):
            return said, True
        return said, False

    def ask_to_stop(self, reason: str) -> None:
        """Ask the present run to end by itself."""
        if self.flight and self.flight.stop_asked is None:
            self.flight.stop_asked, self.flight.stop_reason = time.monotonic(), reason
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """End it and all that it started, now, and wait until it has ended. What it had said can still be read."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class Crew:
    """The children of one worker, always as many as it has slots."""

    def __init__(
        self, settings: Settings, *, before_fork: Callable[[], None], before_child_lives: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._before_fork = before_fork
        self._before_child_lives = before_child_lives
        self.hold = LeaseHold()
        self.children = [self._fork() for _ in range(settings.worker_slots)]

    def replace(self, child: Child) -> Child:
        """A new child in the place of one that is gone or spoiled; runs that waited there move over."""
        child.kill()
        child.pipe.close()
        fresh = self._fork()
        fresh.waiting = child.waiting
        self.children[self.children.index(child)] = fresh
        fresh.start_next()
        return fresh

    def is_worn(self, child: Child) -> bool:
        """Whether a child should not take another run: it grew, it has done many, or something went wrong in it."""
        if child.spoiled or child.runs_done >= MOST_RUNS_OF_A_CHILD:
            return True
        return resident_mb(child.pid) > self._settings.run_memory_mb

    def fat_and_idle(self) -> list[Child]:
        """Children that have had nothing to do for a while and hold memory of their own: what a load used, its
        libraries keep. A fresh child shares nearly all of its memory with the worker.
        """
        now = time.monotonic()
        resting = [child for child in self.children if child.is_idle and child.runs_done]
        resting = [child for child in resting if now - child.last_used > REST_SECONDS]
        return [child for child in resting if private_mb(child.pid) > MOST_OF_ITS_OWN_MB]

    def kill_all(self) -> None:
        """End all children."""
        for child in self.children:
            child.kill()
            child.pipe.close()

    def _fork(self) -> Child:
        ours, theirs = Pipe()
        worker_pid = os.getpid()
        self._before_fork()
        pid = os.fork()
        if pid == 0:
            _become_child(worker_pid, self._before_child_lives)
            ours.close()
            status = 0
            try:
                live_as_child(theirs, self._settings, self.hold)
            except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError, SystemExit):
                status = 1
            finally:
                os._exit(status)  # no clean-up of what belongs to the worker
        theirs.close()
        return Child(pid, ours)


def _become_child(worker_pid: int, before_life: Callable[[], None]) -> None:
    os.setpgid(0, 0)
    die_with_parent(worker_pid)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    setproctitle("hohmann: run")
    for name in OWN_SECRETS:
        os.environ.pop(name, None)
    before_life()


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, so that no run goes on without its worker (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def import_what_children_need() -> None:
    """Heavy libraries are loaded once, here; forked children share their memory."""
    for name in ("duckdb", "pyarrow", "pyarrow.json", "webapp.engine.tasks", "webapp.engine.flow"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
