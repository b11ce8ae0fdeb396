"""What our own JSON adds for sync jobs: streams with their states and receipts, the parachute, the flight plan."""

import uuid
from dataclasses import asdict
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field

from webapp import guard
from webapp.api.bodies import answer, read_body
from webapp.api.etl.blueprint import path_id
from webapp.api.etl.words import show_run
from webapp.api.fields import Flag, Line, Name
from webapp.jobs.sync import states
from webapp.jobs.sync.edits import plan_edit
from webapp.jobs.sync.operations import SyncDraft, get_sync
from webapp.jobs.sync.plans import Wish, check_wish
from webapp.runs import operations as runs
from webapp.runs import parachute

door = Blueprint("sync_api", __name__, url_prefix="/api/v1/jobs/<job_id>")

Label = Annotated[Line, Field(min_length=1, max_length=1025)]


class StreamBody(BaseModel):
    """One stream, by its name with its namespace: `public.users`."""

    model_config = ConfigDict(extra="forbid")

    stream: Label


class ParachuteBody(StreamBody):
    """Which earlier content of the stream's table shall come back."""

    generation: Label


class EditBody(BaseModel):
    """An edit that somebody thinks about; what is absent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    source_id: uuid.UUID | None = None
    destination_id: uuid.UUID | None = None
    frequency: Line | None = None
    streams_config: Any = None
    activate: Flag | None = None


@door.get("/streams")
def list_streams(job_id: str) -> Response:
    """The selected streams, each with its state and what the last run said of it."""
    found = path_id(job_id, name="job_id")
    return answer({"streams": states.show_streams(guard.actor(), found)})


@door.post("/streams/reset")
def reset_stream(job_id: str) -> Response:
    """200; the next run reads all of the stream."""
    found, body = path_id(job_id, name="job_id"), read_body(StreamBody)
    row = states.reset_stream(guard.actor(), found, body.stream)
    return answer({"stream": row.label, "epoch": row.epoch, "state": row.state})


@door.post("/streams/refresh")
def refresh_stream(job_id: str) -> Response:
    """202 with the run, which reads all of this stream and no other."""
    found, body = path_id(job_id, name="job_id"), read_body(StreamBody)
    wish = Wish(streams=(body.stream,), refresh=True)
    check_wish(get_sync(guard.actor(), found), wish)
    return answer(show_run(runs.start_run(guard.actor(), found, wish=wish)), 202)


@door.get("/generations")
def list_generations(job_id: str) -> Response:
    """What the parachute can bring back, newest first."""
    kept = parachute.generations_of(guard.actor(), path_id(job_id, name="job_id"))
    return answer({"generations": [asdict(item) for item in kept]})


@door.post("/parachute")
def pull_parachute(job_id: str) -> Response:
    """202 with the run that brings the generation back, in one step."""
    found, body = path_id(job_id, name="job_id"), read_body(ParachuteBody)
    run = parachute.restore_stream(guard.actor(), found, stream=body.stream, generation=body.generation)
    return answer(show_run(run), 202)


@door.post("/flight-plan")
def show_flight_plan(job_id: str) -> Response:
    """What the edit would do, heaviest first; nothing is changed."""
    found, body = path_id(job_id, name="job_id"), read_body(EditBody)
    draft = SyncDraft(
        body.name, body.source_id, body.destination_id, body.frequency, body.streams_config, body.activate
    )
    return answer({"plan": [line.to_json() for line in plan_edit(guard.actor(), found, draft)]})
