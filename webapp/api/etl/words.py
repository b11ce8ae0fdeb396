"""Jobs and runs as clients of contracts 001 and 003 read them: each field under both names."""

from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from webapp.api.words import STATUS_WORDS, Contract
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job
from webapp.runs.models import Trigger
from webapp.runs.states import RunState

STATUS = STATUS_WORDS[Contract.ETL]


class RunColumns(Protocol):
    """The columns of a run that are shown; a row of a listing has them, and so has the model."""

    id: UUID
    number: int
    job_id: UUID
    state: RunState
    trigger: Trigger
    triggered_by_name: str
    scheduled_for: datetime | None
    retry_of: UUID | None
    available_at: datetime
    attempt: int
    max_attempts: int
    cancel_requested_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    rows_read: int
    rows_written: int
    rows_found: int | None
    bytes_read: int
    fraction: float | None
    doubt: str | None
    error_message: str | None
    error_origin: str | None
    error_kind: str | None
    error_fix: str | None
    cpu_seconds: float | None
    peak_memory_mb: float | None
    log_lines: int
    created_at: datetime
    updated_at: datetime


def show_job(job: Job) -> dict[str, Any]:
    """The definition without its tasks."""
    return {
        "job_id": job.id,
        "id": job.id,
        "job_name": job.name,
        "name": job.name,
        "description": job.description or None,
        "schedule": job.schedule,
        "timezone": job.timezone,
        "is_active": job.is_enabled,
        "enabled": job.is_enabled,
        "job_type": job.kind,
        "config": {},
        "overlap": job.overlap,
        "missed": job.missed,
        "concurrency_limit": job.concurrency_limit,
        "max_attempts": job.max_attempts,
        "retry_delay_seconds": job.retry_delay_seconds,
        "timeout_seconds": job.timeout_seconds,
        "no_progress_seconds": job.no_progress_seconds,
        "next_run_at": job.next_run_at,
        "created_by": job.created_by,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


def show_job_in_full(job: Job) -> dict[str, Any]:
    """The definition with its tasks, the next times at which it starts, and what to know about its schedule."""
    return {
        **show_job(job),
        "tasks": jobs.shown_tasks(job),
        "next_runs": jobs.upcoming(job),
        "schedule_notes": jobs.schedule_notes(job),
    }


def show_run(run: RunColumns) -> dict[str, Any]:
    """A run, or a row of the list of runs."""
    seconds = (run.finished_at - run.started_at).total_seconds() if run.started_at and run.finished_at else None
    return {
        "run_id": run.id,
        "id": run.id,
        "number": run.number,
        "job_id": run.job_id,
        "status": STATUS[run.state],
        "state": run.state,
        "triggered_by": run.trigger,
        "triggered_by_name": run.triggered_by_name,
        "scheduled_for": run.scheduled_for,
        "retry_of": run.retry_of,
        "attempt": run.attempt,
        "max_attempts": run.max_attempts,
        "available_at": run.available_at,
        "cancel_requested_at": run.cancel_requested_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "completed_at": run.finished_at,
        "duration_seconds": seconds,
        "rows_read": run.rows_read,
        "rows_written": run.rows_written,
        "rows_found": run.rows_found,
        "bytes_read": run.bytes_read,
        "fraction": run.fraction,
        "doubt": run.doubt,
        "error_message": run.error_message,
        "error_origin": run.error_origin,
        "error_kind": run.error_kind,
        "error_fix": run.error_fix,
        "cpu_seconds": run.cpu_seconds,
        "peak_memory_mb": run.peak_memory_mb,
        "log_lines": run.log_lines,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
    }
