"""Contract 002's tasks: the history of a job, and what each run of it said."""

import uuid
from typing import Annotated

from flask import Response, request
from pydantic import BaseModel, Field

from webapp import guard
from webapp.api.bodies import read_body
from webapp.api.fields import Line
from webapp.api.olake.door import door, path_number, project_id
from webapp.api.olake.envelope import success
from webapp.api.olake.words import show_line, show_task
from webapp.errors import NotFound
from webapp.jobs.sync import operations as sync
from webapp.runs import operations as runs
from webapp.runs.models import Run

MAXIMUM_TASKS = 500
MAXIMUM_LINES = 10_000


class LogQuestion(BaseModel):
    """Whose log is wanted: the file path that the list of tasks gave."""

    file_path: Annotated[Line, Field(max_length=200)]


@door.get("/jobs/<number>/tasks")
def list_tasks(number: str) -> Response:
    """The job's runs, newest first."""
    found = sync.get_numbered(guard.actor(), project_id(), path_number(number, what="Job"))
    shown = runs.list_runs(guard.actor(), job_id=found.job_id, newest_first=True, limit=MAXIMUM_TASKS)
    return success([show_task(run) for run in shown])


@door.post("/jobs/<number>/tasks/<task>/logs")
def read_log(number: str, task: str) -> Response:
    """The lines of the run that the body's file path names; what stands in the address means nothing."""
    return success(_lines(_run(number, read_body(LogQuestion).file_path)))


@door.get("/jobs/<number>/task/<task>/logs")
@door.get("/jobs/<number>/tasks/<task>/logs")
def get_log(number: str, task: str) -> Response:
    """The lines of the run that the address names, under `task_logs`."""
    return success({"task_logs": _lines(_run(number, request.args.get("file_path") or task))})


def _run(number: str, name: str) -> Run:
    found = sync.get_numbered(guard.actor(), project_id(), path_number(number, what="Job"))
    try:
        run = runs.get_run(guard.actor(), uuid.UUID(name.strip().rstrip("/").rsplit("/", 1)[-1]))
    except ValueError:
        raise NotFound("Task not found") from None
    if run.job_id != found.job_id:
        raise NotFound("Task not found")
    return run


def _lines(run: Run) -> list[dict[str, str]]:
    return [show_line(line) for line in runs.read_log(run, limit=MAXIMUM_LINES, tail=True)]
