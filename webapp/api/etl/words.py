"""Jobs and runs as clients of contracts 001 and 003 read them: each field under both names."""

from collections.abc import Mapping
from typing import Any

from webapp.api.words import STATUS_WORDS, Contract
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job
from webapp.runs.listing import facts_of
from webapp.runs.models import Run

STATUS = STATUS_WORDS[Contract.ETL]


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
        "executor": job.executor,
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


def show_run(run: Run) -> dict[str, Any]:
    """A run."""
    return show_facts(facts_of(run))


def show_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a list, in the words of both contracts."""
    return {
        "run_id": facts["id"],
        "id": facts["id"],
        "number": facts["number"],
        "job_id": facts["job_id"],
        "status": STATUS[facts["state"]],
        "state": facts["state"],
        "triggered_by": facts["trigger"],
        "triggered_by_name": facts["triggered_by_name"],
        "scheduled_for": facts["scheduled_for"],
        "retry_of": facts["retry_of"],
        "attempt": facts["attempt"],
        "max_attempts": facts["max_attempts"],
        "available_at": facts["available_at"],
        "cancel_requested_at": facts["cancel_requested_at"],
        "started_at": facts["started_at"],
        "finished_at": facts["finished_at"],
        "completed_at": facts["finished_at"],
        "duration_seconds": facts["seconds"],
        "rows_read": facts["rows_read"],
        "rows_written": facts["rows_written"],
        "rows_found": facts["rows_found"],
        "bytes_read": facts["bytes_read"],
        "fraction": facts["fraction"],
        "doubt": facts["doubt"],
        "error_message": facts["error_message"],
        "error_origin": facts["error_origin"],
        "error_kind": facts["error_kind"],
        "error_fix": facts["error_fix"],
        "cpu_seconds": facts["cpu_seconds"],
        "peak_memory_mb": facts["peak_memory_mb"],
        "log_lines": facts["log_lines"],
        "executor": facts["executor"],
        "airflow_dag_run_id": facts["dag_run_id"],
        "created_at": facts["created_at"],
        "updated_at": facts["updated_at"],
    }
