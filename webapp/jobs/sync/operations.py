"""Everything that can be asked of or done to sync jobs. What all jobs have is in `webapp.jobs.operations`."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import sqlalchemy as sa

from webapp.accounts.access import Actor
from webapp.accounts.models import Project, User
from webapp.connections.configs import endpoint
from webapp.connections.models import Connection, ConnectionRole
from webapp.connections.uses import JobUse, connection_changed, connection_deleted, provide_jobs
from webapp.db import db
from webapp.engine.connectors.duckdb.spec import WAREHOUSE
from webapp.engine.errors import EngineError, Origin
from webapp.engine.paths import allowed_path
from webapp.errors import Conflict, Invalid, NotFound
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job, JobKind
from webapp.jobs.operations import JobDraft
from webapp.jobs.routes import LONGEST, NOWHERE
from webapp.jobs.schedules import MANUAL
from webapp.jobs.sync.catalog import Catalog, check_catalog, check_ends_add_up, read_catalog
from webapp.jobs.sync.models import SyncDefinition

LONGEST_DOCUMENT = 32 * 1024 * 1024


@dataclass(frozen=True)
class SyncDraft:
    """A sync job as somebody wants it; what is None is left as it is. `streams` is JSON, or a text that holds it.

    `policy` says what all jobs have: time zone, retries, time limits, overlap, missed starts.
    """

    name: str | None = None
    source_id: uuid.UUID | None = None
    destination_id: uuid.UUID | None = None
    frequency: str | None = None
    streams: Any = None
    is_enabled: bool | None = None
    policy: JobDraft | None = None

    @property
    def plain(self) -> JobDraft:
        """The part of it that every job has, but the schedule."""
        return replace(self.policy or JobDraft(), name=self.name, is_enabled=self.is_enabled)


# --- looking ----------------------------------------------------------------------------------------------------------


def syncs_visible_to(actor: Actor) -> sa.Select[SyncDefinition]:
    """The sync jobs of the actor's projects."""
    return sa.select(SyncDefinition).join(SyncDefinition.job).where(Job.project_id.in_(actor.project_ids))


def list_syncs(
    actor: Actor, project_id: uuid.UUID, *, source: int | None = None, destination: int | None = None
) -> list[SyncDefinition]:
    """The project's sync jobs, newest first; only those of the source or destination with this number, if asked."""
    query = syncs_visible_to(actor).where(Job.project_id == project_id).order_by(Job.number.desc())
    if source is not None:
        query = query.where(SyncDefinition.source_id.in_(_numbered(source, ConnectionRole.SOURCE)))
    if destination is not None:
        query = query.where(SyncDefinition.destination_id.in_(_numbered(destination, ConnectionRole.DESTINATION)))
    return list(db.session.scalars(query))


def _numbered(number: int, role: ConnectionRole) -> sa.Select[uuid.UUID]:
    return sa.select(Connection.id).where(Connection.number == number, Connection.role == role)


def get_sync(actor: Actor, job_id: uuid.UUID) -> SyncDefinition:
    """The sync job. Raises NotFound, also for a stranger."""
    found = db.session.scalar(syncs_visible_to(actor).where(Job.id == job_id))
    if found is None:
        raise NotFound("Job not found")
    return found


def get_numbered(actor: Actor, project_id: uuid.UUID, number: int) -> SyncDefinition:
    """The project's sync job with this number. Raises NotFound."""
    query = syncs_visible_to(actor).where(Job.project_id == project_id, Job.number == number)
    found = db.session.scalar(query)
    if found is None:
        raise NotFound("Job not found")
    return found


def jobs_using(connection_id: uuid.UUID) -> list[SyncDefinition]:
    """The sync jobs that read from or write to this connection, oldest first."""
    uses = sa.or_(SyncDefinition.source_id == connection_id, SyncDefinition.destination_id == connection_id)
    return list(db.session.scalars(sa.select(SyncDefinition).join(SyncDefinition.job).where(uses).order_by(Job.number)))


def usernames(found: Iterable[SyncDefinition]) -> dict[uuid.UUID | None, str]:
    """The names of the people who made or changed these jobs, by user id."""
    ids = {user for item in found for user in (item.job.created_by, item.updated_by) if user}
    rows = db.session.execute(sa.select(User.id, User.username).where(User.id.in_(ids))) if ids else ()
    return {row.id: row.username for row in rows}


def is_name_free(project_id: uuid.UUID, name: str, *, besides: uuid.UUID | None = None) -> bool:
    """Whether no (other) sync job of the project has this name."""
    query = sa.select(Job.id).where(Job.project_id == project_id, Job.kind == JobKind.SYNC, Job.name == name.strip())
    return all(found == besides for found in db.session.scalars(query))


def route_of(job: Job) -> tuple[str, str]:
    """From which source to which destination, by their names."""
    found = db.session.get(SyncDefinition, job.id)
    return (found.source.name[:LONGEST], found.destination.name[:LONGEST]) if found else (NOWHERE, NOWHERE)


# --- changing ---------------------------------------------------------------------------------------------------------


def create_sync(actor: Actor, project_id: uuid.UUID, draft: SyncDraft) -> SyncDefinition:
    """Define a sync job, switched on unless the draft says otherwise. Raises Invalid, Conflict, NotFound."""
    if draft.name is None or draft.source_id is None or draft.destination_id is None:
        raise Invalid("A sync job needs a name, a source and a destination.", field="name")
    _check_name_is_free(project_id, draft.name)
    text, catalog = _read_streams(draft.streams)
    job = _with_frequency(
        lambda plain: jobs.create_job(actor, plain, kind=JobKind.SYNC, project_id=project_id),
        draft,
    )
    found = SyncDefinition(job_id=job.id, streams=text, frequency=draft.frequency or "", updated_by=actor.user_id)
    found.job = job
    _apply_ends(found, draft, project_id)
    check_ends_add_up(catalog, found.source.type, found.destination.type)
    _check_two_files(found)
    db.session.add(found)
    db.session.flush()
    jobs.job_changed.tell(job)  # its rocket was built before anybody could know the route
    return found


def update_sync(actor: Actor, job_id: uuid.UUID, draft: SyncDraft) -> SyncDefinition:
    """Change what the draft names; a run under way keeps the definition it began with. Raises as `create_sync`."""
    job = jobs.hold_to_change(actor, job_id)
    found = get_sync(actor, job_id)
    _apply_ends(found, draft, job.project_id)
    if draft.streams is None:
        catalog = read_catalog(found.streams)
    else:
        found.streams, catalog = _read_streams(draft.streams)
    check_ends_add_up(catalog, found.source.type, found.destination.type)
    _check_two_files(found)
    if draft.frequency is not None:
        found.frequency = draft.frequency.strip()
    found.updated_by = actor.user_id
    moved = db.session.is_modified(found)
    db.session.flush()
    was = job.version
    _with_frequency(
        lambda plain: jobs.update_job(actor, job_id, plain),
        draft,
    )
    if moved and job.version == was:
        jobs.touch(job)
    return found


def _with_frequency(do: Any, draft: SyncDraft) -> Job:
    """Do it with the schedule that the frequency means; what is wrong with it is said of `frequency`."""
    plain = draft.plain
    if draft.frequency is not None:
        plain = replace(plain, schedule=draft.frequency.strip() or MANUAL)
    try:
        found: Job = do(plain)
    except Invalid as error:
        if error.field == "schedule":
            error.field = "frequency"
        raise
    return found


def _apply_ends(found: SyncDefinition, draft: SyncDraft, project_id: uuid.UUID) -> None:
    if draft.source_id is not None:
        found.source = _end(project_id, draft.source_id, ConnectionRole.SOURCE)
    if draft.destination_id is not None:
        found.destination = _end(project_id, draft.destination_id, ConnectionRole.DESTINATION)
    changed = draft.source_id is not None or draft.destination_id is not None
    if changed and found.source.version != found.destination.version:
        raise Invalid(
            f"version: the source is of version {found.source.version}, the destination of "
            f"{found.destination.version}; a job needs the same version at both ends.",
            field="version",
        )


def _check_two_files(found: SyncDefinition) -> None:
    """Raise Invalid for a DuckDB file that would be synced into itself: a load needs its file alone."""
    if file := _file_of_both(found):
        raise Invalid(
            f"destination: it is the file that the source reads, {file}. Choose another file as the destination, "
            "or copy tables within the file by SQL.",
            field="destination",
        )


def _file_of_both(found: SyncDefinition) -> str | None:
    """The DuckDB file at both ends, as the source calls it; None when they are two files, or no files."""
    if found.source.type != "duckdb" or found.destination.type != "duckdb":
        return None
    around = jobs.door_context()
    ends = (found.source, found.destination)
    source, destination = (endpoint(end.role, end.type, end.config) for end in ends)
    try:
        read = allowed_path(source, around, origin=Origin.SOURCE)
        written = (
            around.warehouse.resolve()
            if destination == WAREHOUSE
            else allowed_path(destination, around, origin=Origin.DESTINATION)
        )
    except EngineError:
        return None  # a path that may not be used is refused by the connection's own test
    return source if read == written else None


def _end(project_id: uuid.UUID, connection_id: uuid.UUID, role: ConnectionRole) -> Connection:
    query = sa.select(Connection).where(
        Connection.id == connection_id,
        Connection.project_id == project_id,
        Connection.role == role,
        Connection.deleted_at.is_(None),
    )
    found = db.session.scalar(query)
    if found is None:
        raise NotFound(f"{role.value.capitalize()} not found")
    return found


def _read_streams(value: Any) -> tuple[str, Catalog]:
    """The document as it is kept (the text that was sent, or the JSON value as text), and what it says.

    Raises Invalid.
    """
    text = value if isinstance(value, str) else orjson.dumps(value if value is not None else []).decode()
    if len(text) > LONGEST_DOCUMENT or "\x00" in text:
        raise Invalid("streams_config: the document is too large, or holds a null character.", field="streams_config")
    catalog = read_catalog(text)
    check_catalog(catalog)
    return text or "[]", catalog


def _check_name_is_free(project_id: uuid.UUID, name: str, *, besides: uuid.UUID | None = None) -> None:
    # One at a time: two who look at once would both find the name free.
    db.session.execute(sa.select(Project.id).where(Project.id == project_id).with_for_update())
    if not is_name_free(project_id, name, besides=besides):
        raise Conflict(f"There is a sync job called {name.strip()!r} already.", code="NAME_TAKEN", field="name")


# --- what the room hears ----------------------------------------------------------------------------------------------


def keep_sound(job: Job) -> None:
    """A sync job that changed, through whichever door, keeps a name of its own, living ends and its frequency."""
    if job.kind is not JobKind.SYNC:
        return
    _check_name_is_free(job.project_id, job.name, besides=job.id)
    found = db.session.get(SyncDefinition, job.id)
    if found is None:
        return
    gone = [end for end in (found.source, found.destination) if end.deleted_at is not None]
    if job.is_enabled and gone:
        raise Conflict(
            f"The {gone[0].role.value} {gone[0].name} was deleted; choose another one first.", code="CONNECTION_DELETED"
        )
    if jobs.check_schedule(found.frequency.strip() or MANUAL, job.timezone).text != job.schedule:
        found.frequency = "" if job.schedule == MANUAL else job.schedule


def ground_jobs_of(connection: Connection) -> None:
    """The jobs of a connection that is deleted stay, switched off."""
    for found in jobs_using(connection.id):
        jobs.switch_off(found.job)


def keep_two_files(connection: Connection) -> None:
    """A connection that changed leaves the jobs that use it two files at their ends. Raises Invalid."""
    for found in jobs_using(connection.id) if connection.type == "duckdb" else ():
        if file := _file_of_both(found):
            raise Invalid(
                f"path: the job {found.job.name} would sync {file} into itself. Choose another file, or give the job "
                "another connection first.",
                field="config.path",
            )


def uses_of(connections: Sequence[Connection]) -> dict[uuid.UUID, list[JobUse]]:
    """The sync jobs at these connections, by connection id, oldest first."""
    ids = {connection.id for connection in connections}
    found: dict[uuid.UUID, list[JobUse]] = {connection_id: [] for connection_id in ids}
    at_either = sa.or_(SyncDefinition.source_id.in_(ids), SyncDefinition.destination_id.in_(ids))
    query = sa.select(SyncDefinition).join(SyncDefinition.job).where(at_either).order_by(Job.number)
    for row in db.session.scalars(query):
        for end, other in ((row.source, row.destination), (row.destination, row.source)):
            if end.id in ids:
                job = row.job
                found[end.id].append(JobUse(job.id, job.number, job.name, job.is_enabled, other.name, other.type))
    return found


jobs.job_changed.listen(keep_sound)
connection_changed.listen(keep_two_files)
connection_deleted.listen(ground_jobs_of)
provide_jobs(uses_of)
