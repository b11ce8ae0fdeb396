"""Keeps processes alive: forks them from one that has imported everything, restarts what dies, ends all together.

Nothing is polled: the supervisor sleeps until a signal comes (a child ended, stop) or a delayed restart is due.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
QUICK_DEATH_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0

log = logging.getLogger("hohmann.stack")


@dataclass
class Service:
    """One process that shall always run. `pid` is 0 while it does not."""

    name: str
    run: Callable[[], None]
    pid: int = 0
    started_at: float = 0.0
    quick_deaths: int = 0
    due_at: float = 0.0

    def note_death(self, now: float) -> None:
        """It ended: restart at once, but later and later when it keeps dying within a second."""
        quick = now - self.started_at < QUICK_DEATH_SECONDS
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        delay = min(FIRST_DELAY_SECONDS * 2 ** (self.quick_deaths - 1), LONGEST_DELAY_SECONDS) if quick else 0.0
        self.pid, self.due_at = 0, now + delay


class Supervisor:
    """Runs services until SIGTERM, SIGINT or SIGHUP; then nothing of them is left `stop_seconds` later."""

    def __init__(self, services: list[Service], *, stop_seconds: float) -> None:
        self.services = services
        self.stop_seconds = stop_seconds
        self._pid = os.getpid()

    def run(self) -> int:
        """Start everything, and return the exit code when all of it has ended."""
        # Blocked, and taken by sigtimedwait: a signal that comes between two looks is not lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {signal.SIGCHLD})
        call_prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a dying child leaves behind comes to us, to be ended too
        while True:
            self._start_due()
            if self._wait(self._seconds_to_next_start()) in STOP_SIGNALS:
                break
            self._reap()
        self._stop()
        return 0

    def _start_due(self) -> None:
        now = time.monotonic()
        for service in self.services:
            if not service.pid and service.due_at <= now:
                self._start(service, now)

    def _start(self, service: Service, now: float) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        service.started_at = now
        pid = os.fork()
        if pid == 0:
            self._become(service)
        service.pid = pid

    def _become(self, service: Service) -> None:
        """What the forked child does: run the service and exit, whatever happens."""
        code = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which ends the others in order
            for number in STOP_SIGNALS | {signal.SIGCHLD}:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            die_with_parent(self._pid)
            service.run()
            code = 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 1
        except BaseException:  # the outermost edge of a process: what escapes here must be seen, and must not unwind on
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _seconds_to_next_start(self) -> float | None:
        due = [service.due_at for service in self.services if not service.pid]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _wait(self, seconds: float | None) -> int | None:
        awaited = STOP_SIGNALS | {signal.SIGCHLD}
        if seconds is None:
            return signal.sigwaitinfo(awaited).si_signo
        found = signal.sigtimedwait(awaited, seconds)
        return found.si_signo if found else None

    def _reap(self) -> bool:
        """Take note of all children that ended; returns whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            for service in self.services:
                if service.pid == pid:
                    log.warning("%s (process %s) ended: %s", service.name, pid, describe_exit(status))
                    service.note_death(time.monotonic())

    def _stop(self) -> None:
        end = time.monotonic() + self.stop_seconds
        signalled: set[int] = set()
        while self._end_children(signalled) and (left := end - time.monotonic()) > 0:
            self._wait(min(left, 0.5))  # a grandchild that is handed to us raises no signal
        while children := descendants(self._pid):
            for pid in children:
                send(pid, signal.SIGKILL)
            self._wait(0.05)
            self._reap_quietly()

    def _end_children(self, signalled: set[int]) -> bool:
        """Ask every child that was not asked before to end; returns whether any is left."""
        left = self._reap_quietly()
        for pid in children_of(self._pid) - signalled:
            send(pid, signal.SIGTERM)
            signalled.add(pid)
        return left

    def _reap_quietly(self) -> bool:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True


def call_prctl(option: int, value: int) -> None:
    """Linux's prctl; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int, *, with_signal: int = signal.SIGTERM) -> None:
    """Ask the kernel to end this process when its parent ends, even by kill -9."""
    call_prctl(PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def describe_exit(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def send(pid: int, number: int) -> None:
    """Send a signal; a process that is gone already is no fault."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def children_of(parent: int) -> set[int]:
    """The processes whose parent this is, zombies left out."""
    return {pid for pid, its_parent in _parents().items() if its_parent == parent}


def descendants(root: int) -> set[int]:
    """All processes below this one, zombies left out."""
    parents = _parents()
    found: set[int] = set()
    new = {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; what follows the last one is in fixed order: state, parent.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = int(parent)
    return found
