"""Contract 001's jobs and runs, which contract 003 shares, and what sync jobs have beyond contract 002."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from webapp.api import sync
from webapp.api.etl import bodies, jobs, runs
from webapp.api.fields import Line
from webapp.api.openapi.told import Answer, Chapter, Told
from webapp.jobs.models import ExecutorChoice, JobKind, Missed, Overlap
from webapp.runs.states import RunState

JOB = {
    "job_name": "Sales", "schedule": "0 6 * * *", "is_active": True,
    "tasks": [
        {
            "extractor_config": {"type": "csv", "path": "sales.csv"},
            "loader_config": {"type": "warehouse", "table_name": "sales"},
        }
    ],
}  # fmt: skip


class JobShown(Answer):
    """A job without its tasks, under the names of both contracts."""

    job_id: uuid.UUID
    id: uuid.UUID
    job_name: str
    name: str
    description: str | None
    schedule: str
    timezone: str
    is_active: bool
    enabled: bool
    job_type: JobKind
    config: dict[str, Any]
    overlap: Overlap
    missed: Missed
    executor: ExecutorChoice
    concurrency_limit: int
    max_attempts: int
    retry_delay_seconds: float
    timeout_seconds: float | None
    no_progress_seconds: float | None
    next_run_at: datetime | None
    created_by: uuid.UUID | None
    created_at: datetime
    updated_at: datetime


class JobInFull(JobShown):
    """A job with its tasks and the next times at which it starts."""

    tasks: list[dict[str, Any]]
    next_runs: list[datetime]
    schedule_notes: list[str]


class JobDeleted(Answer):
    """What was deleted."""

    message: str
    job_id: uuid.UUID
    id: uuid.UUID


class RunShown(Answer):
    """A run. `status` is in contract 001's words, `state` tells cancelled from failed."""

    run_id: uuid.UUID
    id: uuid.UUID
    number: int
    job_id: uuid.UUID
    status: Literal["queued", "running", "success", "failed"]
    state: RunState
    triggered_by: str
    triggered_by_name: str | None
    scheduled_for: datetime | None
    retry_of: uuid.UUID | None
    attempt: int
    max_attempts: int
    available_at: datetime
    cancel_requested_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    rows_read: int | None
    rows_written: int | None
    rows_found: int | None
    bytes_read: int | None
    fraction: float | None
    doubt: str | None
    executor: str | None
    error_message: str | None
    error_origin: str | None
    error_kind: str | None
    error_fix: str | None
    cpu_seconds: float | None
    peak_memory_mb: float | None
    log_lines: int
    airflow_dag_run_id: str | None
    created_at: datetime
    updated_at: datetime


class StepShown(Answer):
    """A step of a run; of a sync job, a stream with its receipt in `facts`."""

    task: int
    name: str
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    facts: dict[str, Any] | None


class AttemptShown(Answer):
    """An attempt of a run."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error_message: str | None


class RunInFull(RunShown):
    """A run with its steps and attempts, and what it waits for."""

    waits_for: str | None
    steps: list[StepShown]
    attempts: list[AttemptShown]


class LineShown(Answer):
    """A line of a log."""

    number: int
    at: str
    level: str
    step: str | None
    message: str
    attempt: int


class Log(Answer):
    """Lines of a log; `last` is the `since` of the next question."""

    lines: list[LineShown]
    last: int


class ScheduleShown(Answer):
    """How a schedule is understood."""

    schedule: str
    timezone: str
    description: str
    notes: list[str]
    next_runs: list[datetime]


class ScheduleOfJob(ScheduleShown):
    """How a job's schedule is understood."""

    is_active: bool


class StartBody(BaseModel):
    """Which streams of a sync job shall be moved; other jobs want no body."""

    model_config = ConfigDict(extra="allow")

    streams: Annotated[list[Line], Field(min_length=1, max_length=10_000)] | None = None


class StreamShown(Answer):
    """A stream of a sync job, with its state and its last receipt."""

    stream: str
    namespace: str
    name: str
    sync_mode: str
    cursor_field: str | None
    append_mode: bool
    destination: str
    epoch: int
    state: dict[str, Any] | None
    receipt: dict[str, Any] | None
    run_id: uuid.UUID | None
    updated_at: datetime | None


class Streams(Answer):
    """The streams of a sync job."""

    streams: list[StreamShown]


class StreamReset(Answer):
    """A stream that will be read anew."""

    stream: str
    epoch: int
    state: dict[str, Any] | None


class Generation(Answer):
    """Content that the parachute can bring back."""

    stream: str
    generation: str
    replaced_at: datetime
    run_id: uuid.UUID
    run_number: int
    rows: int | None
    state: dict[str, Any] | None


class Generations(Answer):
    """What the parachute can bring back, newest first."""

    generations: list[Generation]


class FlightPlan(Answer):
    """What an edit would do, heaviest first."""

    plan: list[dict[str, Any]]


CHAPTERS = (
    Chapter(
        "Jobs",
        "Contract 001's jobs, which contract 003 shares. A body in its words (`name`, `enabled`) is taken too.",
        {
            "etl_api.list_jobs": Told(list[JobShown]),
            "etl_api.create_job": Told(
                JobShown, body=bodies.EtlJob | bodies.IceCubeJob, also={201: JobShown}, refuses=(409,), example=JOB
            ),
            "etl_api.get_job": Told(JobInFull),
            "etl_api.update_job": Told(JobInFull, body=bodies.JobChange, refuses=(409,), example=JOB),
            "etl_api.patch_job": Told(
                JobInFull, body=bodies.JobChange, refuses=(409,), example={"is_active": False}
            ),
            "etl_api.delete_job": Told(JobDeleted, refuses=(409,)),
            "etl_api.run_job": Told(RunShown, body=StartBody, body_is_optional=True, refuses=(409,)),
            "etl_api.get_schedule": Told(ScheduleOfJob),
            "etl_api.preview_schedule": Told(
                ScheduleShown, body=jobs.SchedulePreview,
                example={"schedule": "0 6 * * *", "timezone": "Europe/Berlin", "count": 3},
            ),
        },
    ),
    Chapter(
        "Runs",
        "Contract 001's runs: one execution of a job each.",
        {
            "etl_api.list_runs": Told(list[RunShown], query=runs.AllRunsQuery),
            "etl_api.list_runs_of_job": Told(list[RunShown], query=runs.RunsQuery),
            "etl_api.get_run": Told(RunInFull),
            "etl_api.cancel_run": Told(RunShown, also={202: RunShown}, refuses=(409,)),
            "etl_api.retry_run": Told(
                RunShown, body=runs.Retry, body_is_optional=True, refuses=(409,), example={"from_failed_step": True}
            ),
            "etl_api.read_log": Told(Log, query=runs.LogQuery, media=("application/json", "text/plain")),
        },
    ),
    Chapter(
        "Sync jobs",
        "What sync jobs have beyond contract 002: states, receipts, the parachute, the flight plan.",
        {
            "sync_api.list_streams": Told(Streams),
            "sync_api.reset_stream": Told(
                StreamReset, body=sync.StreamBody, refuses=(409,), example={"stream": "public.users"}
            ),
            "sync_api.refresh_stream": Told(
                RunShown, 202, body=sync.StreamBody, refuses=(409,), example={"stream": "public.users"}
            ),
            "sync_api.list_generations": Told(Generations),
            "sync_api.pull_parachute": Told(
                RunShown, 202, body=sync.ParachuteBody, refuses=(409,),
                example={"stream": "public.users", "generation": "2026-01-02T03:04:05Z"},
            ),
            "sync_api.show_flight_plan": Told(
                FlightPlan, body=sync.EditBody, refuses=(409,), example={"frequency": "0 6 * * *"}
            ),
        },
    ),
)  # fmt: skip
