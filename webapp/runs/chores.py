"""Work that the clock asks for: each worker takes its turn, whoever comes first does it."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from flask import Flask

from webapp import events
from webapp.accounts.operations import prune_accounts, settings
from webapp.db import db
from webapp.runs.models import Run
from webapp.runs.recovery import recover_lost_runs
from webapp.runs.scheduler import start_due_runs
from webapp.runs.states import RunState
from webapp.wake import CLOCK

KEEP_TEMP_SECONDS = 3600.0


@dataclass(frozen=True)
class Chore:
    """A step of clock work. `run` is one unit of work and may say when it wants to be called next; at the latest it
    is called again after `every` seconds, and at once when one of `channels` is signalled. One that `judges_workers`
    by their silence is not called just after the database was away, when all of them were silent.
    """

    name: str
    run: Callable[[], datetime | None]
    every: float
    channels: frozenset[str] = frozenset()
    judges_workers: bool = False


def add_chore(app: Flask, chore: Chore) -> None:
    """Let the workers of this application do this too."""
    chores_of(app).append(chore)


def chores_of(app: Flask) -> list[Chore]:
    """All chores of the application, in the order in which they were added."""
    chores: list[Chore] = app.extensions.setdefault("chores", [])
    return chores


def wire(app: Flask) -> None:
    """The chores of this room."""
    add_chore(app, Chore("recover lost runs", _recover, every=2.0, judges_workers=True))
    add_chore(app, Chore("start due runs", start_due_runs, every=30.0, channels=frozenset({CLOCK})))
    add_chore(app, Chore("forget what is old", _forget, every=600.0))


def _recover() -> None:
    recover_lost_runs()


def _forget() -> None:
    events.prune(keep_days=settings().keep_events_days)
    prune_accounts()
    sweep_temp(settings().hohmann_home / "tmp")


def sweep_temp(folder: Path) -> None:
    """Remove what runs put aside that ended together with their machine."""
    query = sa.select(Run.id).where(Run.state == RunState.RUNNING)
    under_way = {str(run_id) for run_id in db.session.scalars(query)}
    for path in folder.glob("*-*-*-*-*"):
        if path.name not in under_way and time.time() - path.stat().st_mtime > KEEP_TEMP_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
