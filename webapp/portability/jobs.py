"""Jobs of a file, brought in through the operations of their kind."""

import uuid
from typing import Any

import orjson

from webapp.connections import operations as connections
from webapp.connections.models import ConnectionRole
from webapp.errors import Invalid
from webapp.jobs import operations as jobs
from webapp.jobs.models import ExecutorChoice, Job, JobKind, Missed, Overlap
from webapp.jobs.operations import JobDraft, TaskDraft
from webapp.jobs.sync import operations as syncs
from webapp.jobs.sync.operations import SyncDraft
from webapp.portability.content import POLICIES, describe_job
from webapp.portability.document import JobEntry, place
from webapp.portability.left_out import fill_in, list_needed
from webapp.portability.plan import Import, Line, Verb, name_changes, same

#: What the rooms call a setting, and the file another way.
RENAMES = {
    "frequency": "schedule", "streams_config": "streams", "is_enabled": "enabled", "extractor_config": "extractor",
    "loader_config": "loader",
}  # fmt: skip
_ENUMS: dict[str, Any] = {"overlap": Overlap, "missed": Missed, "executor": ExecutorChoice}


def bring_in(under_way: Import, entry: JobEntry, at: int, found: Job | None) -> Job | None:
    """Make or change this job; None when that was refused."""
    if any((f"{role}s", getattr(entry, role)) in under_way.failed for role in ConnectionRole):
        under_way.failed.add(("jobs", entry.name))  # what is wrong is said of its source or destination
        return None
    loc = ("jobs", at)
    return under_way.attempt(loc, entry.name, RENAMES, lambda: _bring_in(under_way, entry, found, place(loc)))


def _bring_in(under_way: Import, entry: JobEntry, found: Job | None, where: str) -> Job:
    before = describe_job(found) if found else {}
    given = _wanted(entry, before)
    job = _save(under_way, entry.kind, given, found) if given or not found else found
    after = describe_job(job)
    changes = name_changes(before, after) if found else ()
    verb = Verb.CREATED if not found else Verb.CHANGED if changes else Verb.UNCHANGED
    needed = tuple(list_needed(after.get("tasks"), f"{where}.tasks"))
    under_way.add(Line(f"{job.kind} job", job.name, where, verb, changes, needed))
    return job


def _wanted(entry: JobEntry, before: dict[str, Any]) -> dict[str, Any]:
    """The settings of the file that differ from those of the job, all of them for a new one."""
    given = {key: value for key, value in entry.given.items() if key != "kind"}
    _refuse_strangers(entry.kind, given)
    if "tasks" in given:
        given["tasks"] = _with_secrets(given["tasks"], before.get("tasks", []))
    return {key: value for key, value in given.items() if not before or not same(before[key], value)}


def _refuse_strangers(kind: JobKind, given: dict[str, Any]) -> None:
    own = {JobKind.ETL: {"tasks"}, JobKind.SYNC: {"source", "destination", "streams"}}.get(kind, set())
    for name in ("tasks", "source", "destination", "streams"):
        if name in given and name not in own:
            raise Invalid(f"a job of the kind {kind} has no {name}.", field=name)


def _with_secrets(tasks: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            side: fill_in(task[side], before[at][side] if at < len(before) else None, leads_to=jobs.site_of)
            for side in ("extractor", "loader")
        }
        for at, task in enumerate(tasks)
    ]


def _save(under_way: Import, kind: JobKind, given: dict[str, Any], found: Job | None) -> Job:
    if kind is JobKind.SYNC:
        draft = _sync_draft(under_way, given)
        if found is None:
            return syncs.create_sync(under_way.actor, under_way.project_id, draft).job
        return syncs.update_sync(under_way.actor, found.id, draft).job
    plain = _plain_draft(given)
    if found is None:
        return jobs.create_job(under_way.actor, plain, kind=kind, project_id=under_way.project_id)
    return jobs.update_job(under_way.actor, found.id, plain)


def _plain_draft(given: dict[str, Any]) -> JobDraft:
    tasks = given.get("tasks")
    return JobDraft(
        name=given.get("name"),
        schedule=given.get("schedule"),
        is_enabled=given.get("enabled"),
        tasks=None if tasks is None else tuple(TaskDraft(task["extractor"], task["loader"]) for task in tasks),
        **_policy(given),
    )


def _policy(given: dict[str, Any]) -> dict[str, Any]:
    """What all kinds of jobs have beside name, schedule and switch."""
    names = [name for name in ("description", "timezone", *POLICIES) if name in given]
    return {name: _ENUMS[name](given[name]) if name in _ENUMS else given[name] for name in names}


def _sync_draft(under_way: Import, given: dict[str, Any]) -> SyncDraft:
    streams = given.get("streams")
    return SyncDraft(
        name=given.get("name"),
        source_id=_end(under_way, ConnectionRole.SOURCE, given),
        destination_id=_end(under_way, ConnectionRole.DESTINATION, given),
        frequency=given.get("schedule"),
        streams=None if streams is None else orjson.dumps(streams).decode(),
        is_enabled=given.get("enabled"),
        policy=JobDraft(**_policy(given)),
    )


def _end(under_way: Import, role: ConnectionRole, given: dict[str, Any]) -> uuid.UUID | None:
    name = given.get(role.value)
    if name is None:
        return None
    found = connections.find_by_name(under_way.actor, role, name, project_id=under_way.project_id)
    if found is None:
        raise Invalid(f"there is no {role} {name!r}, neither here nor in the file.", field=role.value)
    return found.id
