"""Looks an instance over and says in plain words what is well, what is not, and what to do: `flask doctor`."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy.exc

from webapp import db as database
from webapp import schema
from webapp.accounts import operations as accounts
from webapp.config import Settings
from webapp.runs import operations as runs

OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 1_000_000_000
ASSETS = Path(__file__).resolve().parent.parent / "static" / "vendor" / "manifest.json"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `fix` is empty when it is well."""

    subject: str
    text: str
    fix: str = ""

    @property
    def is_well(self) -> bool:
        return not self.fix


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one after the other. Needs an application context."""
    for look in (_version, _permission, _disk, _port, _assets):
        yield look(settings)
    yield from _database(settings)
    if settings.airflow_url:
        yield from _airflow(settings)


def _version(_settings: Settings) -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("version", f"Python {running} is too old.", "Install Python 3.11 or newer, then: make setup")
    return Finding("version", f"Python {running}")


def _permission(settings: Settings) -> Finding:
    home = settings.hohmann_home
    if not os.access(home, os.W_OK | os.X_OK):
        return Finding("permission", f"{home} cannot be written.", f"Let this user write it: chown -R $USER {home}")
    for file in (home / "keys").glob("*"):
        if file.stat().st_mode & 0o077:
            return Finding("permission", f"Others can read the key {file}.", f"Shut it: chmod 600 {file}")
    return Finding("permission", f"{home} is writable, its keys are private")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.hohmann_home).free
    text = f"{free / 1e9:.1f} GB free under {settings.hohmann_home}"
    if free < LITTLE_DISK:
        return Finding("disk", text, "Make room: loads that do not fit fail, and keep their old tables.")
    return Finding("disk", text)


def _port(settings: Settings) -> Finding:
    lock = settings.run_folder / "stack.lock"
    pid = lock.read_text().strip() if lock.exists() else ""
    if pid and Path(f"/proc/{pid}").exists():
        return Finding("port", f"The stack runs (process {pid}) at {settings.base_url}")
    with socket.socket(socket.AF_INET6 if ":" in settings.bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind, settings.port))
        except OSError as error:
            fix = f"Choose another port: PORT={settings.port + 1} make run"
            return Finding("port", f"{settings.bind}:{settings.port} cannot be used: {error.strerror}.", fix)
    return Finding("port", f"{settings.port} is free; the stack does not run", "Start it: make run")


def _assets(_settings: Settings) -> Finding:
    if not ASSETS.exists():
        return Finding("pages", "The front-end files were not built.", "Build them: make setup")
    return Finding("pages", "The front-end files are built")


def _database(settings: Settings) -> Iterator[Finding]:
    kind = "PostgreSQL" if settings.database_url else "SQLite"
    try:
        present = schema.present_version()
    except sqlalchemy.exc.OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        fix = "Start it, or correct DATABASE_URL" if settings.database_url else "Look at the disk and the permissions"
        yield Finding("database", f"{kind} does not answer: {reason}", fix)
        return
    if present != schema.newest_version():
        text = f"{kind} is at version {present or 'none'}, the code needs {schema.newest_version()}."
        yield Finding("database", text, "Bring it up to date: make run does it, or: flask db upgrade")
        return
    yield Finding("database", f"{kind} answers and is up to date ({present})")
    with database.reading():
        yield _owner(settings)
        yield _workers()


def _owner(settings: Settings) -> Finding:
    if accounts.owner_exists():
        return Finding("owner", "This instance has its owner")
    return Finding(
        "owner", "Nobody owns this instance yet.", f"Open the link of: flask owner-link ({settings.base_url})"
    )


def _workers() -> Finding:
    state = runs.look_at_queue()
    queue = f"{state.queued} runs wait, {state.running} run"
    if not state.workers_alive:
        return Finding(
            "worker", f"No worker is alive; {queue}.", "Start the stack: make run (or the Procfile's worker)"
        )
    return Finding("worker", f"{state.workers_alive} alive with {state.slots} places; {queue}")


def _airflow(settings: Settings) -> Iterator[Finding]:
    from webapp.orchestrators.airflow.rest import Airflow, AirflowAway, AirflowRefused

    airflow = Airflow(settings)
    for dag in (settings.airflow_rocket_dag, settings.airflow_run_dag):
        try:
            problem = airflow.why_queued(dag)
        except (AirflowAway, AirflowRefused) as error:
            problem = str(error)
        fix = "See docs/airflow.md; until then flights wait, and say why." if problem else ""
        yield Finding("airflow", problem or f"Airflow answers at {settings.airflow_url} and has the DAG {dag}", fix)


def report(settings: Settings, say: Callable[[str], None]) -> bool:
    """Say all findings; returns whether everything is well."""
    all_well = True
    for finding in examine(settings):
        all_well = all_well and finding.is_well
        say(f"{'ok   ' if finding.is_well else 'FAULT'} {finding.subject:<10} {finding.text}")
        if finding.fix:
            say(f"{'':16} -> {finding.fix}")
    return all_well
