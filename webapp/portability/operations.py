"""A project out into one file, and in again: what is of the same name is changed, what is new is made, nothing goes."""

import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.accounts.access import Actor, Scope
from webapp.accounts.models import Project
from webapp.config import Role
from webapp.connections.models import ConnectionRole
from webapp.db import db
from webapp.errors import Invalid
from webapp.jobs.models import JobKind
from webapp.portability import connections, jobs, webhooks
from webapp.portability.content import jobs_of, keyed_jobs, numbered, read_content, webhooks_of
from webapp.portability.document import ProjectFile, read_file, refusal, write_file
from webapp.portability.plan import Import, Outcome
from webapp.portability.yaml_text import LARGEST_FILE


def in_project(actor: Actor, name: str) -> Actor:
    """The actor in the project of this slug or number; without a name in the first. Raises NotFound for a stranger."""
    return actor.within(accounts.project_called(actor, name)) if name else actor


def export_project(actor: Actor) -> bytes:
    """The actor's project as a file, without secrets; the same content gives the same bytes."""
    data = write_file(read_content(actor.default_project_id))
    if len(data) > LARGEST_FILE:
        raise Invalid(f"This project is larger than a file may be ({LARGEST_FILE // 1024**2} MiB); use flask backup.")
    return data


def plan_import(actor: Actor, data: bytes) -> Outcome:
    """What importing the file would do. Nothing is changed: it is done, looked at, and undone.

    Raises Invalid that names each wrong place, NotAllowed.
    """
    try:
        return _carry_out(actor, read_file(data))
    finally:
        database.abandon(db.session())


def import_project(actor: Actor, data: bytes) -> Outcome:
    """Import the file into the actor's project, in the present unit of work. Raises as `plan_import`."""
    return _carry_out(actor, read_file(data))


def project_to_change(actor: Actor) -> uuid.UUID:
    """The project that a file of the actor's comes into. Raises NotAllowed."""
    project_id = actor.default_project_id
    actor.require(Role.OPERATOR, project_id, Scope.JOBS_WRITE, what="Project")
    return project_id


def may_import(actor: Actor) -> bool:
    """Whether a file of the actor's may come into its project: for showing the form, never for deciding."""
    return any(actor.has(Role.OPERATOR, project_id, Scope.JOBS_WRITE) for project_id in actor.project_ids[:1])


def _carry_out(actor: Actor, file: ProjectFile) -> Outcome:
    project_id = project_to_change(actor)
    # One import at a time: two that look at once would both make what is missing.
    db.session.execute(sa.select(Project.id).where(Project.id == project_id).with_for_update())
    under_way = Import(actor, project_id)
    _refuse_repeats(under_way, file)
    for role, entries in ((ConnectionRole.SOURCE, file.sources), (ConnectionRole.DESTINATION, file.destinations)):
        for at, connection in enumerate(entries):
            connections.bring_in(under_way, role, connection, at)
    known = keyed_jobs(jobs_of(project_id))
    brought = {}
    for at, (job, (key, nth)) in enumerate(_pair(file.jobs, lambda one: (one.kind, one.name))):
        brought[*key, nth] = jobs.bring_in(under_way, job, at, known.get((*key, nth)))
    hooks = webhooks_by_key(project_id)
    for at, (hook, (key, nth)) in enumerate(_pair(file.webhooks, webhooks.key_of)):
        webhooks.bring_in(under_way, hook, at, hooks.get((key, nth)), {**known, **brought})
    if under_way.problems:
        raise refusal(under_way.problems)
    return under_way.outcome


def webhooks_by_key(project_id: uuid.UUID) -> dict[Any, Any]:
    """The webhooks by name, job, and number among those that share both."""
    found = webhooks_of(project_id)
    keys = numbered((hook.name, (job.kind, job.name) if job else None) for hook, job in found)
    return dict(zip(keys, (hook for hook, _ in found), strict=True))


def _pair(entries: list[Any], key: Callable[[Any], Any]) -> list[tuple[Any, tuple[Any, int]]]:
    return list(zip(entries, numbered(map(key, entries)), strict=True))


def _refuse_repeats(under_way: Import, file: ProjectFile) -> None:
    """Names that must be one of a kind: those of sources, of destinations, of sync jobs."""
    syncs = [job.name if job.kind is JobKind.SYNC else None for job in file.jobs]
    for part, names in (
        ("sources", [one.name for one in file.sources]),
        ("destinations", [one.name for one in file.destinations]),
        ("jobs", syncs),
    ):
        for at, (name, before) in enumerate(numbered(names)):
            if name is not None and before:
                under_way.problems.append(((part, at, "name"), f"{name!r} is in the file twice."))
