"""What a project holds, in the words of its file: once with its secrets, for comparing, and once without."""

import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from webapp.connections.models import Connection, ConnectionRole
from webapp.db import db
from webapp.jobs.models import Job, JobKind
from webapp.jobs.sync.models import SyncDefinition
from webapp.portability.document import JobKey
from webapp.portability.left_out import leave_out
from webapp.webhooks.models import Webhook

KINDS = (JobKind.ETL, JobKind.SYNC, JobKind.EXTERNAL)
POLICIES = (
    "overlap", "missed", "concurrency_limit", "max_attempts", "retry_delay_seconds", "timeout_seconds",
    "no_progress_seconds", "executor",
)  # fmt: skip


def read_content(project_id: uuid.UUID) -> dict[str, Any]:
    """Everything that is exported, without secrets: by kind, then by name."""
    sources, destinations = (connections_of(project_id, role) for role in ConnectionRole)
    return {
        "sources": [leave_out_of(describe_connection(one)) for one in sources],
        "destinations": [leave_out_of(describe_connection(one)) for one in destinations],
        "jobs": [leave_out_of(describe_job(job)) for job in jobs_of(project_id)],
        "webhooks": [describe_webhook(hook, job) for hook, job in webhooks_of(project_id)],
    }


def leave_out_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry without the secrets of its configuration or its tasks."""
    return entry | {key: leave_out(entry[key]) for key in ("config", "tasks") if key in entry}


def connections_of(project_id: uuid.UUID, role: ConnectionRole) -> list[Connection]:
    """The living sources or destinations, by name."""
    query = sa.select(Connection).where(
        Connection.project_id == project_id, Connection.role == role, Connection.deleted_at.is_(None)
    )
    return sorted(db.session.scalars(query), key=lambda one: one.name)


def jobs_of(project_id: uuid.UUID) -> list[Job]:
    """The jobs but the sample mission, by kind and name, the older first of those that share both."""
    query = sa.select(Job).where(Job.project_id == project_id, Job.kind.in_(KINDS), ~Job.is_sample)
    return sorted(db.session.scalars(query), key=lambda job: (KINDS.index(job.kind), job.name, job.number))


def webhooks_of(project_id: uuid.UUID) -> list[tuple[Webhook, Job | None]]:
    """The webhooks with the job that each is told of, if it is told of one alone; by name, the older first."""
    query = sa.select(Webhook, Job).outerjoin(Job, Job.id == Webhook.job_id).where(Webhook.project_id == project_id)
    found = [(hook, job) for hook, job in db.session.execute(query) if job is None or not job.is_sample]
    return sorted(found, key=lambda pair: (pair[0].name, pair[0].number))


def numbered(keys: Iterable[Any]) -> list[tuple[Any, int]]:
    """Each key with how many like it came before."""
    seen: Counter[Any] = Counter()
    found = []
    for key in keys:
        found.append((key, seen[key]))
        seen[key] += 1
    return found


def keyed_jobs(jobs: Iterable[Job]) -> dict[JobKey, Job]:
    """The jobs by kind, name, and number among those that share both."""
    listed = list(jobs)
    keys = numbered((job.kind, job.name) for job in listed)
    return {(kind, name, at): job for ((kind, name), at), job in zip(keys, listed, strict=True)}


def describe_connection(connection: Connection) -> dict[str, Any]:
    """A source or destination, with its secrets."""
    return {
        "name": connection.name,
        "type": connection.type,
        "version": connection.version,
        "config": connection.config,
    }


def describe_job(job: Job) -> dict[str, Any]:
    """A job, with the secrets of its tasks."""
    plain = {
        "name": job.name,
        "kind": job.kind.value,
        "description": job.description or "",
        "enabled": job.is_enabled,
        "schedule": job.schedule,
        "timezone": job.timezone,
        **{name: _plain(getattr(job, name)) for name in POLICIES},
    }
    if job.kind is JobKind.ETL:
        return plain | {"tasks": [{"extractor": task.extractor, "loader": task.loader} for task in job.tasks]}
    if job.kind is JobKind.SYNC:
        return plain | _describe_sync(db.session.get_one(SyncDefinition, job.id))
    return plain


def _describe_sync(found: SyncDefinition) -> dict[str, Any]:
    return {
        "schedule": found.frequency,
        "source": found.source.name,
        "destination": found.destination.name,
        "streams": orjson.loads(found.streams) if found.streams.strip() else [],
    }


def _plain(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value


def describe_webhook(hook: Webhook, job: Job | None) -> dict[str, Any]:
    """A webhook; the key that signs its messages is no part of it."""
    told_of = {"job": {"name": job.name, "kind": job.kind.value}} if job else {}
    return {
        "name": hook.name,
        **told_of,
        "url": hook.url,
        "topics": list(hook.topics),
        "after_failures": hook.after_failures,
        "no_show_seconds": hook.no_show_seconds,
        "enabled": hook.is_enabled,
    }
