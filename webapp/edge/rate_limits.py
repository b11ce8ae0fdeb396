"""How often one visitor may use the JSON doors: RATE_LIMIT for a known one, RATE_LIMIT_STRANGERS for an address.

Windows are fixed and counted in memory that all processes of this machine share. Each host counts for itself. Libraries
for this share their counts through a server (Redis, memcached), which an embedded instance does not have.
"""

import fcntl
import hashlib
import mmap
import os
import re
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, current_app, g, request

from webapp import refusals
from webapp.accounts.access import Actor
from webapp.config import ConfigError, Settings
from webapp.errors import TooMany

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_TEXT = re.compile(r"(\d{1,9})\s*(?:/|per)\s*(second|minute|hour|day)")
_SLOT = struct.Struct("<QQQ")  # the visitor's hash, the window's number, the count
SLOTS = 4096
NEIGHBOURS = 8
FREE_OF_LIMITS = frozenset({"health.health", "health.live", "health.ready", "health.metrics", "static"})


@dataclass(frozen=True)
class Limit:
    """So many calls in so many seconds."""

    calls: int
    seconds: int


@dataclass(frozen=True)
class Standing:
    """How a visitor stands: calls that are left, and in how many seconds the window ends."""

    limit: Limit
    used: int
    resets_in: int


def parse_limit(text: str, *, name: str) -> Limit | None:
    """The limit that a setting such as `600/minute` means; None when it is empty or 0. Raises ConfigError."""
    if text in {"", "0"}:
        return None
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise ConfigError(name, f"{text!r} cannot be used: write it like 600/minute, or 0 for no limit")
    return Limit(int(found[1]), SECONDS[found[2]])


class Counters:
    """Counts of visitors in their present windows, in a file that all processes of this machine map.

    A visitor has its place among eight neighbours; when all are taken, the one that was seen in the oldest window goes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(folder / "rate-limits", os.O_RDWR | os.O_CREAT, 0o600)
        size = SLOTS * _SLOT.size
        if os.fstat(self._handle).st_size < size:
            os.ftruncate(self._handle, size)
        self._memory = mmap.mmap(self._handle, size)
        self._threads = threading.Lock()  # a file lock does not part the threads of one process

    def count(self, visitor: str, limit: Limit, *, now: float) -> Standing:
        """One call more of this visitor."""
        window = int(now // limit.seconds)
        key = (
            int.from_bytes(
                hashlib.blake2b(f"{visitor} {limit.calls} {limit.seconds}".encode(), digest_size=8).digest(), "little"
            )
            or 1
        )
        with self._threads:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                used = self._raise(key, window)
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        return Standing(limit, used, max(1, int((window + 1) * limit.seconds - now + 0.999)))

    def _raise(self, key: int, window: int) -> int:
        first = key % (SLOTS // NEIGHBOURS) * NEIGHBOURS
        slots = [_SLOT.unpack_from(self._memory, (first + step) * _SLOT.size) for step in range(NEIGHBOURS)]
        step = next((step for step, slot in enumerate(slots) if slot[0] == key), None)
        if step is None:
            step = min(range(NEIGHBOURS), key=lambda number: (slots[number][0] != 0, slots[number][1]))
        known, seen, count = slots[step]
        count = count + 1 if (known, seen) == (key, window) else 1
        _SLOT.pack_into(self._memory, (first + step) * _SLOT.size, key, window, count)
        return count


@dataclass(frozen=True)
class RateLimits:
    """The two limits of an instance and its counters."""

    known: Limit | None
    strangers: Limit | None
    counters: Counters


def wire(app: Flask) -> None:
    """Read the settings, and tell visitors how they stand. Raises ConfigError."""
    settings: Settings = app.extensions["settings"]
    app.extensions["rate_limits"] = RateLimits(
        parse_limit(settings.rate_limit, name="RATE_LIMIT"),
        parse_limit(settings.rate_limit_strangers, name="RATE_LIMIT_STRANGERS"),
        Counters(settings.run_folder),
    )
    app.after_request(_tell)


def count_visit(actor: Actor | None) -> None:
    """Count this request of a JSON door. Raises TooMany above the limit."""
    if request.endpoint in FREE_OF_LIMITS or not refusals.speaks_json():
        return
    limits: RateLimits = current_app.extensions["rate_limits"]
    limit = limits.known if actor else limits.strangers
    if limit is None:
        return
    standing = limits.counters.count(_name(actor), limit, now=time.time())
    g.standing = standing
    if standing.used > limit.calls:
        raise TooMany(
            f"More than {limit.calls} calls in {limit.seconds} s. Ask again in {standing.resets_in} s.",
            retry_after=standing.resets_in,
            limit=limit.calls,
        )


def _name(actor: Actor | None) -> str:
    if actor is None:
        return f"address {request.remote_addr}"
    return f"token {actor.token_id}" if actor.token_id else f"user {actor.user_id}"


def _tell(response: Response) -> Response:
    standing: Standing | None = g.get("standing")
    if standing is not None:
        response.headers["X-RateLimit-Limit"] = str(standing.limit.calls)
        response.headers["X-RateLimit-Remaining"] = str(max(0, standing.limit.calls - standing.used))
        response.headers["X-RateLimit-Reset"] = str(standing.resets_in)
    return response
