"""What clients of contracts 001 and 003 send about jobs, as Pydantic models, and what the job room makes of it."""

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Strict, StringConstraints

from webapp.api.bodies import check, read_json
from webapp.api.fields import Flag, Line, Name, Prose, WholeNumber
from webapp.errors import Invalid
from webapp.jobs.models import ExecutorChoice, JobKind, Missed, Overlap
from webapp.jobs.operations import MAXIMUM_DESCRIPTION, JobDraft, TaskDraft
from webapp.jobs.schedules import MANUAL

Seconds = Annotated[float, Strict()]
Description = Annotated[Prose, StringConstraints(max_length=MAXIMUM_DESCRIPTION)]

#: What answers carry and nobody can change; a client may send a whole job back.
READ_ONLY = frozenset(
    {"id", "job_id", "created_at", "updated_at", "created_by", "config", "next_run_at", "next_runs", "schedule_notes"}
    | {"schedule_text", "version", "workspace_id", "cluster_id"}
)


class TaskBody(BaseModel):
    """One task: which extractor and which loader. What is inside them, the engine checks."""

    extractor_config: dict[str, Any]
    loader_config: dict[str, Any]


class Options(BaseModel):
    """What a job may carry in either contract's body beyond the contract."""

    timezone: Name | None = None
    overlap: Overlap | None = None
    missed: Missed | None = None
    concurrency_limit: WholeNumber | None = None
    max_attempts: WholeNumber | None = None
    retry_delay_seconds: Seconds | None = None
    timeout_seconds: Seconds | None = None
    no_progress_seconds: Seconds | None = None
    executor: ExecutorChoice | None = None
    job_type: JobKind = JobKind.ETL


class EtlJob(Options):
    """A new job in contract 001's words."""

    job_name: Name
    description: Description | None = None
    schedule: Line
    is_active: Flag
    tasks: list[TaskBody]


class IceCubeJob(Options):
    """A new job in contract 003's words; no schedule means by hand only."""

    name: Name
    description: Description | None = None
    schedule: Line | None = None
    enabled: Flag = Field(True, validation_alias=AliasChoices("enabled", "is_active"))
    tasks: list[TaskBody] = []


class JobChange(Options):
    """Some fields of a job, in either contract's words."""

    model_config = ConfigDict(extra="forbid")

    job_name: Name | None = None
    name: Name | None = None
    description: Description | None = None
    schedule: Line | None = None
    is_active: Flag | None = None
    enabled: Flag | None = None
    tasks: list[TaskBody] | None = None


def read_new_job() -> tuple[JobDraft, JobKind, bool]:
    """The job in the body, its kind, and whether it came in contract 003's words. Raises Invalid, 400, 415."""
    body = read_json()
    if isinstance(body, dict) and "name" in body and "job_name" not in body:
        new = check(IceCubeJob, body, where="body")
        return _draft(new, name=new.name, is_enabled=new.enabled, tasks=new.tasks), new.job_type, True
    etl = check(EtlJob, body, where="body")
    return _draft(etl, name=etl.job_name, is_enabled=etl.is_active, tasks=etl.tasks), etl.job_type, False


def read_job_change() -> JobDraft:
    """The change in the request's body; what is absent stays. Raises Invalid, 400, 415."""
    body = read_json()
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key not in READ_ONLY}
    change = check(JobChange, body, where="body")
    name = change.job_name if change.job_name is not None else change.name
    is_enabled = change.is_active if change.is_active is not None else change.enabled
    return _draft(change, name=name, is_enabled=is_enabled, tasks=change.tasks)


def _draft(body: Any, *, name: str | None, is_enabled: bool | None, tasks: list[TaskBody] | None) -> JobDraft:
    if body.job_type not in (JobKind.ETL, JobKind.EXTERNAL):
        raise Invalid(f"Jobs of the type {body.job_type} cannot be made here, only etl and external.", field="job_type")
    return JobDraft(
        name=name,
        description=(body.description or "") if "description" in body.model_fields_set else None,
        schedule=(body.schedule or MANUAL) if "schedule" in body.model_fields_set else None,
        timezone=body.timezone,
        is_enabled=is_enabled,
        overlap=body.overlap,
        missed=body.missed,
        concurrency_limit=body.concurrency_limit,
        max_attempts=body.max_attempts,
        retry_delay_seconds=body.retry_delay_seconds,
        timeout_seconds=body.timeout_seconds,
        no_progress_seconds=body.no_progress_seconds,
        executor=body.executor,
        tasks=None if tasks is None else tuple(TaskDraft(task.extractor_config, task.loader_config) for task in tasks),
    )
