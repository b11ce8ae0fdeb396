"""Work that the clock asks for: each worker takes its turn, whoever comes first does it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import Flask

from webapp import events
from webapp.accounts.operations import prune_accounts, settings
from webapp.runs.queue import recover_lost_runs
from webapp.runs.scheduler import start_due_runs
from webapp.wake import CLOCK


@dataclass(frozen=True)
class Chore:
    """A step of clock work. `run` is one unit of work and may say when it wants to be called next; at the latest it
    is called again after `every` seconds, and at once when one of `channels` is signalled. After one that
    `looks_at_queue` the worker looks for runs to claim.
    """

    name: str
    run: Callable[[], datetime | None]
    every: float
    channels: frozenset[str] = frozenset()


def add_chore(app: Flask, chore: Chore) -> None:
    """Let the workers of this application do this too."""
    chores_of(app).append(chore)


def chores_of(app: Flask) -> list[Chore]:
    """All chores of the application, in the order in which they were added."""
    chores: list[Chore] = app.extensions.setdefault("chores", [])
    return chores


def wire(app: Flask) -> None:
    """The chores of this room."""
    add_chore(app, Chore("recover lost runs", _recover, every=2.0))
    add_chore(app, Chore("start due runs", start_due_runs, every=30.0, channels=frozenset({CLOCK})))
    add_chore(app, Chore("forget what is old", _forget, every=600.0))


def _recover() -> None:
    recover_lost_runs()


def _forget() -> None:
    events.prune(keep_days=settings().keep_events_days)
    prune_accounts()
