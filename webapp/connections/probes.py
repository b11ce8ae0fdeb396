"""Asks a system through a child process (`webapp.engine.probe`): drivers, and what breaks in them, stay out of the web.

No transaction may be open while a probe runs: systems take as long as they like.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from flask import current_app

from webapp.config import Settings
from webapp.connections.models import ConnectionRole
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.errors import Unavailable
from webapp.redaction import environment_for_others

MOST_AT_ONCE = 6
WAIT_SECONDS = 10.0
BEAT_SECONDS = 2.0
CHECK_SECONDS = 60.0
DISCOVER_SECONDS = 900.0
PREVIEW_SECONDS = 45.0
LOCK_SECONDS = 10.0
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_places = BoundedSemaphore(MOST_AT_ONCE)


@dataclass(frozen=True)
class Question:
    """What a probe is asked: `check`, `discover` or `preview`, of which connector, with what besides."""

    verb: str
    role: ConnectionRole
    type: str
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> bytes:
        """The request as the probe reads it."""
        facts = {"verb": self.verb, "role": self.role, "type": self.type, "config": self.config}
        return json.dumps({**facts, "context": self.context, **self.more}).encode() + b"\n"

    @property
    def origin(self) -> Origin:
        """Whose fault a failure is when nothing better is known."""
        return Origin.SOURCE if self.role is ConnectionRole.SOURCE else Origin.DESTINATION


def context_facts(settings: Settings) -> dict[str, Any]:
    """What a probe may touch on this instance."""
    return {
        "data_root": str(settings.data_folder),
        "allowed_roots": [str(root) for root in (settings.data_folder, *settings.data_roots)],
        "warehouse": str(settings.warehouse),
        "temp": str(settings.hohmann_home / "tmp"),
        "allow_private_addresses": settings.hohmann_allow_private_addresses,
        "memory_limit_mb": settings.engine_memory_mb,
        "lock_timeout": LOCK_SECONDS,
    }


def question(verb: str, role: ConnectionRole, type_: str, config: Mapping[str, Any], **more: Any) -> Question:
    """What to ask a probe, on the present instance."""
    settings: Settings = current_app.extensions["settings"]
    return Question(verb, role, type_, config, context_facts(settings), more)


def ask(asked: Question, *, seconds: float) -> Generator[dict[str, Any]]:
    """The probe's answers as they come, `done` last; an empty one every few seconds while there is none.

    Raises EngineError: what the probe says, or that it took too long, or that it died. Raises Unavailable when too many
    probes run. Closing the iterator ends the probe.
    """
    with _place(), _probe(asked) as process:
        for said in _lines(process, time.monotonic() + seconds, asked):
            if problem := said.get("error"):
                raise EngineError(
                    problem["message"],
                    origin=Origin(problem["origin"]),
                    kind=Kind(problem["kind"]),
                    fix=problem["fix"] or None,
                )
            yield said
            if "done" in said:
                return
        raise EngineError(
            "the process that looked at the system died", origin=asked.origin, kind=Kind.SYSTEM, fix="Try again."
        )


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise Unavailable("Many connections are being looked at just now. Try again in a moment.")
    try:
        yield
    finally:
        _places.release()


@contextmanager
def _probe(asked: Question) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "webapp.engine.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_CHECKOUT,
        env=environment_for_others(),
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process.stdin, asked.line)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _write(pipe: Any, line: bytes) -> None:
    left = memoryview(line)
    try:
        while left:
            left = left[pipe.write(left) :]
    except BrokenPipeError:
        pass  # it died at once, which its answers will show


def _lines(process: subprocess.Popen[bytes], end: float, asked: Question) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    pipe, rest = process.stdout.fileno(), b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise _too_long(asked)
        if not poll.poll(min(left, BEAT_SECONDS) * 1000):
            yield {}
            continue
        piece = os.read(pipe, 1 << 16)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(json.loads, lines)


def _too_long(asked: Question) -> EngineError:
    return EngineError(
        "the system did not answer in time",
        origin=asked.origin,
        kind=Kind.TRANSIENT,
        fix="Check that it is up and can be reached from this server, then try again.",
    )
