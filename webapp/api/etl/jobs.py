"""Contract 001's jobs: define, look, change, delete, start, and when they will start by themselves."""

import uuid
from typing import Annotated

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from webapp import guard
from webapp.api.bodies import answer, check, read_body, read_json
from webapp.api.etl.blueprint import door, path_id
from webapp.api.etl.bodies import read_job_change, read_new_job
from webapp.api.etl.words import show_job, show_job_in_full, show_run
from webapp.api.fields import Line
from webapp.dates import utcnow
from webapp.jobs import operations as jobs
from webapp.jobs.schedules import Schedule, describe, next_times
from webapp.jobs.sync.operations import get_sync
from webapp.jobs.sync.plans import Wish, check_wish
from webapp.runs import operations as runs


class SchedulePreview(BaseModel):
    """A schedule that somebody thinks about."""

    model_config = ConfigDict(extra="forbid")

    schedule: Line | None
    timezone: Line = "UTC"
    count: Annotated[int, Field(ge=1, le=50, strict=True)] = 5


class ChosenStreams(BaseModel):
    """The streams of a sync job that shall be moved now, by their names with their namespaces."""

    streams: Annotated[list[Line], Field(min_length=1, max_length=10_000)]


@door.get("/jobs")
def list_jobs() -> Response:
    """All jobs of the visitor's projects, oldest first, a bare array."""
    return answer([show_job(job) for job in jobs.list_jobs(guard.actor())])


@door.post("/jobs")
def create_job() -> Response:
    """The new job without its tasks; 200 for a body in contract 001's words, 201 for one in contract 003's."""
    draft, kind, in_icecube_words = read_new_job()
    job = jobs.create_job(guard.actor(), draft, kind=kind)
    return answer(show_job(job), 201 if in_icecube_words else 200)


@door.get("/jobs/<job_id>")
def get_job(job_id: str) -> Response:
    """The job with its tasks and its next times."""
    return answer(show_job_in_full(jobs.get_job(guard.actor(), path_id(job_id, name="job_id"))))


@door.put("/jobs/<job_id>")
@door.patch("/jobs/<job_id>", endpoint="patch_job")
def update_job(job_id: str) -> Response:
    """200 with the changed job; what the body leaves out stays as it is."""
    found = path_id(job_id, name="job_id")
    return answer(show_job_in_full(jobs.update_job(guard.actor(), found, read_job_change())))


@door.delete("/jobs/<job_id>")
def delete_job(job_id: str) -> Response:
    """200; the job is gone, with its runs and its rocket. 409 while a run is under way."""
    found = path_id(job_id, name="job_id")
    name = jobs.delete_job(guard.actor(), found)
    return answer({"message": f"Job {name} deleted", "job_id": found, "id": found})


@door.post("/jobs/<job_id>/run")
def run_job(job_id: str) -> Response:
    """200 with the run, which is queued; of a sync job with only the `streams` that the body names, if it does."""
    found = path_id(job_id, name="job_id")
    wish = _wish(found) if request.mimetype == "application/json" and request.get_data(cache=True) else None
    return answer(show_run(runs.start_run(guard.actor(), found, wish=wish)))


def _wish(job_id: uuid.UUID) -> Wish | None:
    """What the body asks for besides a plain run; bodies that name no streams mean nothing, as ever."""
    body = read_json()
    if not isinstance(body, dict) or "streams" not in body:
        return None
    wish = Wish(streams=tuple(check(ChosenStreams, body, where="body").streams))
    check_wish(get_sync(guard.actor(), job_id), wish)
    return wish


@door.get("/jobs/<job_id>/schedule")
def get_schedule(job_id: str) -> Response:
    """How the job's schedule is understood, and the next five times at which it starts: none for one switched off."""
    job = jobs.get_job(guard.actor(), path_id(job_id, name="job_id"))
    understood = jobs.check_schedule(job.schedule, job.timezone)
    return answer({**_describe(understood), "is_active": job.is_enabled, "next_runs": jobs.upcoming(job)})


@door.post("/schedules/preview")
def preview_schedule() -> Response:
    """How this schedule would be understood, and when it would start a job."""
    body = read_body(SchedulePreview)
    understood = jobs.check_schedule(body.schedule, body.timezone)
    return answer({**_describe(understood), "next_runs": next_times(understood, utcnow(), body.count)})


def _describe(schedule: Schedule) -> dict[str, object]:
    return {
        "schedule": schedule.text,
        "timezone": schedule.timezone,
        "description": describe(schedule),
        "notes": schedule.notes,
    }
