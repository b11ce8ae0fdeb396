"""Everything that can be asked of or done to a job's definition."""

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from flask import current_app
from pydantic import ValidationError
from sqlalchemy.orm import lazyload
from sqlalchemy.orm.attributes import set_committed_value

from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.config import Role, Settings
from webapp.dates import rfc3339, utcnow
from webapp.db import db, wake_at_commit
from webapp.engine.context import Context, Silence
from webapp.engine.errors import EngineError
from webapp.engine.specs import parse_extractor, parse_loader
from webapp.errors import Invalid, NotFound
from webapp.jobs.models import ExecutorChoice, Job, JobKind, Missed, Overlap, Task
from webapp.jobs.schedules import MANUAL, Schedule, ScheduleError, next_time, next_times, parse_schedule
from webapp.notices import Notice
from webapp.prepared import Prepared, adopt, table_of
from webapp.secrets import mask, unmask
from webapp.wake import CLOCK

MAXIMUM_TASKS = 200
MAXIMUM_DESCRIPTION = 10_000
_SITE = re.compile(r"[^:/?#]*://[^/?#\\]*")  # scheme, host and port

job_created: Notice[Job] = Notice()
job_changed: Notice[Job] = Notice()
#: Asked before a job is deleted: a listener that knows why it may not go raises Conflict.
job_may_go: Notice[Job] = Notice()
job_about_to_go: Notice[Job] = Notice()


@dataclass(frozen=True)
class TaskDraft:
    """A task as somebody wants it."""

    extractor: Mapping[str, Any]
    loader: Mapping[str, Any]


@dataclass(frozen=True)
class JobDraft:
    """A job as somebody wants it; what is None is left as it is, or as the default says for a new job."""

    name: str | None = None
    description: str | None = None
    schedule: str | None = None
    timezone: str | None = None
    is_enabled: bool | None = None
    overlap: Overlap | None = None
    missed: Missed | None = None
    concurrency_limit: int | None = None
    max_attempts: int | None = None
    retry_delay_seconds: float | None = None
    timeout_seconds: float | None = None
    no_progress_seconds: float | None = None
    executor: ExecutorChoice | None = None
    tasks: tuple[TaskDraft, ...] | None = field(default=None)


LIMITS: dict[str, tuple[float, float]] = {
    "concurrency_limit": (1, 100),
    "max_attempts": (1, 20),
    "retry_delay_seconds": (0, 86_400),
    "timeout_seconds": (1, 7 * 86_400),
    "no_progress_seconds": (5, 86_400),
}


def jobs_visible_to(actor: Actor) -> sa.Select[Job]:
    """The jobs that the actor may see: those of the actor's projects."""
    return _of_projects(actor.project_ids)


def _of_projects(projects: Any) -> sa.Select[Job]:
    return sa.select(Job).where(Job.project_id.in_(projects))


def list_jobs(actor: Actor, *, newest_first: bool = False) -> list[Job]:
    """All jobs that the actor may see, oldest first unless asked otherwise; their tasks are read when they are used."""
    order = Job.number.desc() if newest_first else Job.number
    return list(db.session.scalars(jobs_visible_to(actor).order_by(order).options(lazyload(Job.tasks))))


def get_job(actor: Actor, job_id: uuid.UUID) -> Job:
    """The job. Raises NotFound, also for a stranger."""
    job = db.session.scalar(jobs_visible_to(actor).where(Job.id == job_id))
    if job is None:
        raise NotFound("Job not found")
    return job


_JOB, _TASK = table_of(Job), table_of(Task)
_HELD = Prepared(  # every start of a run asks it
    sa.select(_JOB, _TASK)
    .outerjoin_from(_JOB, _TASK, _TASK.c.job_id == _JOB.c.id)
    .where(_JOB.c.id == sa.bindparam("job"))
    .order_by(_TASK.c.position)
    .with_for_update(of=_JOB, read=True, key_share=True)
)
_WIDTH = len(_JOB.columns)


def hold_job(actor: Actor, job_id: uuid.UUID) -> Job:
    """The job as it is defined now, kept from being changed or deleted until the unit of work ends. Raises NotFound."""
    rows = _HELD.rows(db.session(), {"job": job_id})
    known = dict(zip(_JOB.columns.keys(), rows[0], strict=False)) if rows else {}
    if known.get("project_id") not in actor.project_ids:
        raise NotFound("Job not found")
    job = adopt(db.session(), Job, known)
    tasks = [dict(zip(_TASK.columns.keys(), row[_WIDTH:], strict=True)) for row in rows]
    set_committed_value(job, "tasks", [adopt(db.session(), Task, task) for task in tasks if task["number"] is not None])
    return job


def create_job(
    actor: Actor,
    draft: JobDraft,
    *,
    kind: JobKind = JobKind.ETL,
    is_sample: bool = False,
    project_id: uuid.UUID | None = None,
) -> Job:
    """Define a job. Raises Invalid that names the field; its rocket is made with it."""
    project_id = project_id or actor.default_project_id
    actor.require(Role.OPERATOR, project_id, Scope.JOBS_WRITE, what="Project")
    job = Job(project_id=project_id, created_by=actor.user_id, kind=kind, name="", is_sample=is_sample, **_defaults())
    if draft.name is None:
        raise Invalid("A job needs a name.", field="name")
    _apply(job, draft)
    db.session.add(job)
    db.session.flush()  # listeners need its id
    events.record("job.created", **_subject(job))
    job_created.tell(job)
    return job


def _defaults() -> dict[str, Any]:
    return {
        "schedule": "@manual",
        "timezone": "UTC",
        "is_enabled": True,
        "overlap": Overlap.QUEUE,
        "missed": Missed.ONE,
        "concurrency_limit": 1,
        "max_attempts": 3,
        "retry_delay_seconds": 5.0,
        "timeout_seconds": 6 * 3600.0,
        "no_progress_seconds": 900.0,
        "executor": ExecutorChoice.DEFAULT,
    }


def update_job(actor: Actor, job_id: uuid.UUID, draft: JobDraft, *, is_saved_anyway: bool = False) -> Job:
    """Change what the draft names; runs under way keep the definition they began with. Raises Invalid, NotFound.

    A draft that changes nothing leaves the job as it was, unless it `is_saved_anyway`.
    """
    job = hold_to_change(actor, job_id)
    _apply(job, draft)
    if is_saved_anyway or db.session.is_modified(job) or draft.tasks is not None:
        touch(job)
    return job


def touch(job: Job) -> None:
    """The job's definition changed: a new version of it, told to whoever listens."""
    job.updated_at = utcnow()
    db.session.flush()  # a stale version is noticed here, before anything is announced
    events.record("job.changed", **_subject(job))
    job_changed.tell(job)


def set_enabled(actor: Actor, job_id: uuid.UUID, *, enabled: bool) -> Job:
    """Switch a job's schedule on or off; doing it twice changes nothing."""
    return update_job(actor, job_id, JobDraft(is_enabled=enabled))


def delete_job(actor: Actor, job_id: uuid.UUID) -> str:
    """Delete a job with its runs and its rocket; returns its name. Raises Conflict while a run is under way."""
    job = hold_to_change(actor, job_id)
    job_may_go.tell(job)
    job_about_to_go.tell(job)
    events.record("job.deleted", **_subject(job))
    db.session.delete(job)
    wake_at_commit(CLOCK)
    return job.name


def switch_off(job: Job) -> None:
    """Switch a job's schedule off because it cannot fly any more, whoever caused that."""
    if not job.is_enabled:
        return
    _apply_schedule(job, JobDraft(is_enabled=False))
    touch(job)


def hold_to_change(actor: Actor, job_id: uuid.UUID, *, scope: Scope = Scope.JOBS_WRITE) -> Job:
    """The job, kept from everybody else until the unit of work ends. Raises NotFound, NotAllowed."""
    query = jobs_visible_to(actor).where(Job.id == job_id).with_for_update(of=Job)
    job = db.session.scalar(query.execution_options(populate_existing=True))  # it may have been read without the lock
    if job is None:
        raise NotFound("Job not found")
    actor.require(Role.OPERATOR, job.project_id, scope, what="Job")
    return job


def _apply(job: Job, draft: JobDraft) -> None:
    if draft.name is not None:
        job.name = _check_name(draft.name)
    if draft.description is not None:
        job.description = _check_description(draft.description)
    _apply_limits(job, draft)
    if draft.tasks is not None:
        _apply_tasks(job, draft.tasks)
    _apply_schedule(job, draft)


def _apply_limits(job: Job, draft: JobDraft) -> None:
    if draft.executor is not None and draft.executor is not job.executor:
        job.executor = _check_executor(draft.executor)
    for item in fields(draft):
        value = getattr(draft, item.name)
        if item.name in LIMITS and value is not None:
            low, high = LIMITS[item.name]
            if not low <= value <= high:
                raise Invalid(f"Must be between {low:g} and {high:g}.", field=item.name, value=value)
        if value is not None and item.name in {*LIMITS, "overlap", "missed"}:
            setattr(job, item.name, value)


def _check_executor(choice: ExecutorChoice) -> ExecutorChoice:
    settings: Settings = current_app.extensions["settings"]
    if choice is ExecutorChoice.AIRFLOW and not settings.airflow_url:
        raise Invalid("Airflow cannot execute it: AIRFLOW_URL is not set.", field="executor", value=choice.value)
    return choice


def _apply_schedule(job: Job, draft: JobDraft) -> None:
    timing_changed = draft.schedule is not None or draft.timezone is not None or draft.is_enabled is not None
    if draft.is_enabled is not None:
        job.is_enabled = draft.is_enabled
    if not timing_changed:
        return
    schedule = check_schedule(
        draft.schedule if draft.schedule is not None else job.schedule, draft.timezone or job.timezone
    )
    if job.kind is JobKind.EXTERNAL and schedule.text != MANUAL:
        raise Invalid("A job that is run elsewhere has no schedule here.", field="schedule", value=draft.schedule)
    job.schedule, job.timezone = schedule.text, schedule.timezone
    job.next_run_at = next_time(schedule, utcnow()) if job.is_enabled else None
    wake_at_commit(CLOCK)


def check_schedule(text: str | None, timezone: str) -> Schedule:
    """The schedule. Raises Invalid that names schedule or timezone and says what is wrong."""
    try:
        return parse_schedule(text, timezone)
    except ScheduleError as error:
        about_zone = error.field == "timezone"
        raise Invalid(
            str(error),
            field="timezone" if about_zone else "schedule",
            value=timezone if about_zone else text,
            part=error.field,
            position=error.position,
            fix=error.fix,
        ) from error


def upcoming(job: Job, *, count: int = 5) -> list[datetime]:
    """The next instants at which the job will start, none for a manual or switched-off one."""
    if not job.is_enabled:
        return []
    return next_times(parse_schedule(job.schedule, job.timezone), utcnow(), count)


def schedule_notes(job: Job) -> tuple[str, ...]:
    """What a reader of the job's schedule should know, in plain words."""
    return parse_schedule(job.schedule, job.timezone).notes


def _check_name(name: str) -> str:
    text = name.strip()
    if not text or len(text) > 255 or not text.isprintable():
        raise Invalid("A job's name has 1 to 255 printable characters.", field="name", value=name[:255])
    return text


def _check_description(text: str) -> str:
    if len(text) > MAXIMUM_DESCRIPTION or "\x00" in text:
        raise Invalid(f"A description has at most {MAXIMUM_DESCRIPTION} characters of text.", field="description")
    return text


def _apply_tasks(job: Job, drafts: tuple[TaskDraft, ...]) -> None:
    if drafts and job.kind is not JobKind.ETL:
        raise Invalid(f"A job of the kind {job.kind} has no tasks.", field="tasks")
    if len(drafts) > MAXIMUM_TASKS:
        raise Invalid(f"A job has at most {MAXIMUM_TASKS} tasks.", field="tasks")
    before = list(job.tasks)
    for at, draft in enumerate(drafts):
        old = before[at] if at < len(before) else None
        extractor = keep_secrets(draft.extractor, old.extractor if old else {})
        loader = keep_secrets(draft.loader, old.loader if old else {})
        check_task(at, extractor, loader)
        if old is None:
            job.tasks.append(Task(position=at + 1, extractor=extractor, loader=loader))
        elif (old.extractor, old.loader) != (extractor, loader):
            old.extractor, old.loader = extractor, loader
    del job.tasks[len(drafts) :]


def keep_secrets(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which masks that came back are the stored secrets again; they are cleared for another host."""
    kept: dict[str, Any] = unmask(new, old if site_of(new) == site_of(old) else {})
    return kept


def site_of(config: Mapping[str, Any]) -> str:
    """Scheme, host and port that an extractor or a loader speaks to, "" for one that speaks to none."""
    found = _SITE.match(str(config.get("url", "")))
    return found[0] if found else ""


def check_task(at: int, extractor: Mapping[str, Any], loader: Mapping[str, Any]) -> None:
    """Raise Invalid that lists each wrong field of the task at this index, as `tasks.<at>.extractor_config.<field>`."""
    from webapp.engine.tasks import check_paths

    problems: list[dict[str, Any]] = []
    for side, parse, config in (
        ("extractor_config", parse_extractor, extractor),
        ("loader_config", parse_loader, loader),
    ):
        try:
            parse(config)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            problems += [_problem(["body", "tasks", at, side], config, item) for item in found]
    if not problems:
        try:
            check_paths(extractor, loader, door_context())
        except EngineError as error:
            side, name = ("loader_config", "db_path") if error.origin == "destination" else ("extractor_config", "path")
            loc = ["body", "tasks", at, side, error.facts.get("field", name)]
            problems.append({"type": "value_error", "loc": loc, "msg": error.message, "input": None})
    if problems:
        where = ".".join(str(part) for part in problems[0]["loc"][1:])
        raise Invalid(f"{where}: {problems[0]['msg']}", errors=problems)


def _problem(place: list[str | int], config: Any, item: Any) -> dict[str, Any]:
    shown = item.get("input")
    plain = shown if isinstance(shown, int | float | None) else None
    loc = [*place, *_without_tags(config, item["loc"])]
    return {"type": item["type"], "loc": loc, "msg": item["msg"], "input": plain}


def _without_tags(config: Any, loc: tuple[str | int, ...]) -> Iterator[str | int]:
    """The place as its writer knows it: Pydantic also names the type that it took a part for, which is no key of it."""
    for part in loc:
        if isinstance(config, Mapping):
            if part not in config and part == config.get("type"):
                continue
            config = config.get(part)
        yield part


def door_context() -> Context:
    """What the engine may touch, for checks at the door: same rules as in a run, but nobody listens."""
    settings: Settings = current_app.extensions["settings"]
    return Context(
        data_root=settings.data_folder,
        allowed_roots=(settings.data_folder, *settings.data_roots),
        warehouse=settings.warehouse,
        temp=settings.hohmann_home / "tmp",
        reporter=Silence(),
        allow_private_addresses=settings.hohmann_allow_private_addresses,
    )


def shown_tasks(job: Job) -> list[dict[str, Any]]:
    """The tasks as they may be shown: secrets masked."""
    return [
        {
            "task_id": str(task.id),
            "job_id": str(task.job_id),
            "task_order": task.position,
            "extractor_config": mask(task.extractor),
            "loader_config": mask(task.loader),
            "created_at": rfc3339(task.created_at),
            "updated_at": rfc3339(task.updated_at),
        }
        for task in job.tasks
    ]


def _subject(job: Job) -> dict[str, Any]:
    return {
        "project_id": job.project_id,
        "user_id": job.created_by,
        "subject_id": job.id,
        "payload": {"name": job.name, "enabled": job.is_enabled},
    }
