"""Contract 002's jobs: look, make, change, put away, switch, start and stop."""

import re
import uuid
from typing import Annotated, Any

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from webapp import db as database
from webapp import guard
from webapp.accounts.access import Actor
from webapp.api.bodies import read_body
from webapp.api.fields import Flag, Line, Name
from webapp.api.olake.connections import ConnectionBody
from webapp.api.olake.door import MAXIMUM_NUMBER, door, path_number, project_id
from webapp.api.olake.envelope import success
from webapp.api.olake.words import show_definition, show_listed
from webapp.connections import operations as connections
from webapp.connections.models import ConnectionRole
from webapp.errors import Conflict, NotAllowed
from webapp.jobs import operations as jobs
from webapp.jobs.sync import operations as sync
from webapp.jobs.sync.models import SyncDefinition
from webapp.jobs.sync.operations import SyncDraft
from webapp.runs import operations as runs
from webapp.runs.marks import last_marks
from webapp.runs.states import ACTIVE_STATES

_NARROWED = re.compile(r'(source_id|dest_id)=(?:"|%22)?(\d{1,18})(?:"|%22)?')

Frequency = Annotated[Line, StringConstraints(max_length=200)]


class JobBody(BaseModel):
    """A sync job; its source and its destination are made or changed with it."""

    model_config = ConfigDict(extra="ignore")

    name: Name
    source: ConnectionBody
    destination: ConnectionBody
    frequency: Frequency = ""
    streams_config: Any = None
    activate: Flag | None = None

    def draft(self) -> SyncDraft:
        """The job that is wanted, after its ends have been put in place. Raises Invalid, Conflict."""
        ends = [_put(ConnectionRole.SOURCE, self.source), _put(ConnectionRole.DESTINATION, self.destination)]
        return SyncDraft(self.name, ends[0], ends[1], self.frequency, self.streams_config, self.activate)


class Activation(BaseModel):
    """Whether the job's schedule is on."""

    activate: Flag


class NameQuestion(BaseModel):
    """A name that somebody thinks about."""

    job_name: Annotated[Line, Field(max_length=255)]


def _put(role: ConnectionRole, body: ConnectionBody) -> uuid.UUID:
    return connections.put_connection(guard.actor(), role, body.draft, project_id=project_id()).id


@door.get("/jobs")
def list_jobs() -> Response:
    """The project's sync jobs, newest first; `source_id` and `dest_id` narrow them."""
    return _listed(request.args.get("source_id"), request.args.get("dest_id"))


@door.get("/jobs/<text>")
def get_job(text: str) -> Response:
    """One job by its number; or the list, narrowed in the contract's own odd form: `/jobs/dest_id="3"`."""
    narrowed = _NARROWED.fullmatch(text)
    if narrowed:
        by_source = narrowed[1] == "source_id"
        return _listed(narrowed[2] if by_source else None, None if by_source else narrowed[2])
    found = sync.get_numbered(guard.actor(), project_id(), path_number(text, what="Job"))
    return success(_shown([found])[0])


def _listed(source: str | None, destination: str | None) -> Response:
    wanted = [_number(source), _number(destination)]
    return success(_shown(sync.list_syncs(guard.actor(), project_id(), source=wanted[0], destination=wanted[1])))


def _number(text: str | None) -> int | None:
    """The number of a source or destination; none has a number that is not one."""
    plain = (text or "").strip('"')
    if not plain:
        return None
    return int(plain) if plain.isascii() and plain.isdigit() and int(plain[:20]) <= MAXIMUM_NUMBER else -1


def _shown(found: list[SyncDefinition]) -> list[dict[str, Any]]:
    last = last_marks([item.job_id for item in found], count=1)
    names = sync.usernames(found)
    return [show_listed(item, last.get(item.job_id, []), names) for item in found]


@door.post("/jobs")
def create_job() -> Response:
    """200 with the job, which is switched on; its source and destination are made, or changed when they exist."""
    return success(show_definition(sync.create_sync(guard.actor(), project_id(), read_body(JobBody).draft())))


@door.put("/jobs/<number>")
def update_job(number: str) -> Response:
    """200 with the changed job."""
    found = _job(number)
    return success(show_definition(sync.update_sync(guard.actor(), found.job_id, read_body(JobBody).draft())))


@door.delete("/jobs/<number>")
def delete_job(number: str) -> Response:
    """200 with its name; the job is gone, with its runs. 409 while one is under way."""
    return success({"name": jobs.delete_job(guard.actor(), _job(number).job_id)})


@door.post("/jobs/check-unique")
def check_unique() -> Response:
    """Whether a new job could have this name."""
    return success({"unique": sync.is_name_free(project_id(), read_body(NameQuestion).job_name)})


@door.post("/jobs/<number>/sync")
def sync_job(number: str) -> Response:
    """200; a run is queued."""
    runs.start_run(guard.actor(), _job(number).job_id)
    return success()


@door.post("/jobs/<number>/activate")
def activate_job(number: str) -> Response:
    """200 with what was sent."""
    wanted = read_body(Activation).activate
    jobs.set_enabled(guard.actor(), _job(number).job_id, enabled=wanted)
    return success({"activate": wanted})


@door.post("/jobs/<number>/cancel")
def cancel_job(number: str) -> Response:
    """200; every run of the job that waits or is under way is being stopped. 409 when there is none."""
    return success({"message": _cancel(number)})


@door.get("/jobs/<number>/cancel", endpoint="cancel_job_by_get")
def cancel_job_by_get(number: str) -> Response:
    """The same, as the client of contract 002 asks for it: by GET, so never on behalf of another site's page."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") == "cross-site":
        raise NotAllowed("Another site may not stop a job.")
    actor, project = guard.actor(), project_id()
    database.let_go()
    with database.unit_of_work():
        message = _cancel_runs(actor, project, number)
    return success({"message": message})


def _cancel(number: str) -> str:
    return _cancel_runs(guard.actor(), project_id(), number)


def _cancel_runs(actor: Actor, project: uuid.UUID, number: str) -> str:
    found = sync.get_numbered(actor, project, path_number(number, what="Job"))
    active = [run for state in ACTIVE_STATES for run in runs.list_runs(actor, job_id=found.job_id, state=state)]
    if not active:
        raise Conflict("No run of this job is under way.", code="NOTHING_RUNS")
    for run in sorted(active, key=lambda run: run.number):
        runs.request_cancel(actor, run.id)
    return "The sync is being stopped."


def _job(number: str) -> SyncDefinition:
    return sync.get_numbered(guard.actor(), project_id(), path_number(number, what="Job"))
