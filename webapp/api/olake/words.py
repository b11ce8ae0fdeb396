"""Sync jobs and their runs as clients of contract 002 read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from webapp.api.olake.connections import show_connection
from webapp.api.words import STATUS_WORDS, Contract
from webapp.dates import rfc3339, utcnow
from webapp.jobs.sync.models import SyncDefinition
from webapp.runs.marks import Mark
from webapp.runs.models import Run
from webapp.runs.operations import LogLine
from webapp.runs.states import RunState

STATUS = STATUS_WORDS[Contract.OLAKE]


def show_definition(found: SyncDefinition) -> dict[str, Any]:
    """The job as its creation and its change answer it."""
    return {
        "id": found.job.number,
        "name": found.job.name,
        "source": {"id": found.source.number, **show_connection(found.source)},
        "destination": {"id": found.destination.number, **show_connection(found.destination)},
        "frequency": found.frequency,
        "streams_config": found.streams,
        "activate": found.job.is_enabled,
    }


def show_listed(found: SyncDefinition, marks: Sequence[Mark], names: Mapping[Any, str]) -> dict[str, Any]:
    """The job in a list; clients take an empty last run for a run, so one that never was is left out."""
    flown: dict[str, Any] = {}
    for mark in marks[-1:]:
        flown = {"last_run_time": rfc3339(mark.at), "last_run_state": STATUS[RunState(mark.status)]}
    return {
        **show_definition(found),
        "job_id": found.job_id,
        "created_at": rfc3339(found.job.created_at),
        "updated_at": rfc3339(found.job.updated_at),
        "created_by": names.get(found.job.created_by, ""),
        "updated_by": names.get(found.updated_by, ""),
        **flown,
    }


def show_task(run: Run) -> dict[str, Any]:
    """A run as a row of a job's history; its file path is how clients ask for its log."""
    seconds = run.seconds
    if seconds is None and run.started_at is not None:
        seconds = (utcnow() - run.started_at).total_seconds()
    return {
        "id": str(run.id),
        "start_time": rfc3339(run.started_at or run.created_at),
        "runtime": f"{round(seconds or 0)}s",
        "status": STATUS[run.state],
        "file_path": str(run.id),
    }


def show_line(line: LogLine) -> dict[str, str]:
    """A line of a log."""
    message = f"{line.step}: {line.message}" if line.step else line.message
    return {"level": line.level, "time": line.at, "message": message}
