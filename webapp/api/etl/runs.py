"""Contract 001's runs: look, stop, run again, and read what they said."""

import uuid
from typing import Annotated, Literal

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from webapp import guard
from webapp.api.bodies import answer, read_body, read_query
from webapp.api.etl.blueprint import door, path_id
from webapp.api.etl.words import show_facts, show_run
from webapp.api.fields import Flag
from webapp.api.paging import point_to_next
from webapp.api.words import Contract, states_called
from webapp.errors import Invalid
from webapp.jobs import operations as jobs
from webapp.runs import listing
from webapp.runs import operations as runs
from webapp.runs.operations import LogLine
from webapp.runs.states import RunState

MAXIMUM_CURSOR = 2**62


class RunsQuery(BaseModel):
    """Which runs are wanted; without `limit` all of them are listed."""

    limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    cursor: Annotated[int, Field(ge=0, le=MAXIMUM_CURSOR)] | None = None
    status: str | None = None


class AllRunsQuery(RunsQuery):
    """Which runs of all jobs are wanted."""

    job_id: uuid.UUID | None = None


class LogQuery(BaseModel):
    """Which lines are wanted: numbered above `since`, at least this bad, holding the text."""

    since: Annotated[int, Field(ge=0, le=MAXIMUM_CURSOR)] = 0
    level: Literal["debug", "info", "warning", "error"] = "debug"
    search: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    attempt: Annotated[int, Field(ge=1, le=1000)] | None = None
    tail: bool = False
    format: Literal["json", "text"] = "json"


class Retry(BaseModel):
    """Whether the run begins again at the task that failed."""

    model_config = ConfigDict(extra="forbid")

    from_failed_step: Flag = False


@door.get("/runs")
def list_runs() -> Response:
    """The runs of the visitor's projects, oldest first, a bare array; in pages when `limit` is given."""
    query = read_query(AllRunsQuery)
    return _page(query, query.job_id)


@door.get("/jobs/<job_id>/runs")
def list_runs_of_job(job_id: str) -> Response:
    """The runs of one job, oldest first, a bare array; in pages when `limit` is given."""
    job = jobs.get_job(guard.actor(), path_id(job_id, name="job_id"))
    return _page(read_query(RunsQuery), job.id)


@door.get("/runs/<run_id>")
def get_run(run_id: str) -> Response:
    """The run with its steps and attempts, and what it waits for."""
    run = runs.get_run(guard.actor(), path_id(run_id, name="run_id"))
    steps = [
        {
            "task": step.task,
            "name": step.name,
            "started_at": step.started_at,
            "finished_at": step.finished_at,
            "outcome": step.outcome,
            "facts": step.facts,
        }
        for step in runs.steps_of(run)
    ]
    attempts = [
        {
            "attempt": attempt.attempt,
            "started_at": attempt.started_at,
            "finished_at": attempt.finished_at,
            "outcome": attempt.outcome,
            "error_message": attempt.error_message,
        }
        for attempt in runs.attempts_of(run)
    ]
    return answer({**show_run(run), "waits_for": runs.why_it_waits(run), "steps": steps, "attempts": attempts})


@door.post("/runs/<run_id>/cancel")
def cancel_run(run_id: str) -> Response:
    """202 with the run, which is being stopped; 200 when it has ended with this. 409 when it had ended before."""
    run = runs.request_cancel(guard.actor(), path_id(run_id, name="run_id"))
    return answer(show_run(run), 200 if run.is_finished else 202)


@door.post("/runs/<run_id>/retry")
def retry_run(run_id: str) -> Response:
    """200 with the new run; with `from_failed_step` it begins at the task that failed. 409 while the old one runs."""
    found = path_id(run_id, name="run_id")
    body = read_body(Retry) if request.get_data(cache=True) else Retry()
    return answer(show_run(runs.retry_run(guard.actor(), found, from_failed_step=body.from_failed_step)))


@door.get("/runs/<run_id>/logs")
def read_log(run_id: str) -> Response:
    """The lines of the run's log as objects, or as a text file with `format=text`."""
    run = runs.get_run(guard.actor(), path_id(run_id, name="run_id"))
    query = read_query(LogQuery)
    lines = runs.read_log(
        run,
        after=query.since,
        limit=query.limit,
        level=query.level,
        search=query.search,
        attempt=query.attempt,
        tail=query.tail,
    )
    return _as_text(run.number, lines) if query.format == "text" else _as_json(lines, query.since)


def _page(query: RunsQuery, job_id: uuid.UUID | None) -> Response:
    rows = listing.page_of_runs(
        guard.actor(), job_id=job_id, states=_states(query.status), cursor=query.cursor, limit=query.limit
    )
    is_full = query.limit is not None and len(rows) == query.limit
    return point_to_next(answer([show_facts(row) for row in rows]), rows[-1]["number"] if is_full else None)


def _states(word: str | None) -> tuple[RunState, ...] | None:
    """The states of a status in contract 001's words, or of a canonical one, which tells cancelled from failed."""
    if word is None:
        return None
    found = states_called(word, Contract.ETL) or tuple(state for state in RunState if state == word)
    if not found:
        words = "queued, running, success, failed, cancelled"
        raise Invalid(f"status: must be one of {words}.", field="status", value=word[:50], where="query")
    return found


def _as_json(lines: list[LogLine], since: int) -> Response:
    shown = [
        {
            "number": line.number,
            "at": line.at,
            "level": line.level,
            "step": line.step,
            "message": line.message,
            "attempt": line.attempt,
        }
        for line in lines
    ]
    return answer({"lines": shown, "last": lines[-1].number if lines else since})


def _said(line: LogLine) -> str:
    return f"{line.step}: {line.message}" if line.step else line.message


def _as_text(number: int, lines: list[LogLine]) -> Response:
    text = "".join(f"{line.at} {line.level.upper():7} {_said(line)}\n" for line in lines)
    headers = {"Content-Disposition": f'attachment; filename="run-{number}.log"'}
    return Response(text, mimetype="text/plain", headers=headers)
