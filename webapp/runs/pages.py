"""The pages of runs: the list, and the page of one run with its log."""

import uuid
from collections.abc import Iterator
from typing import Annotated

from flask import Blueprint, Flask, Response, flash, redirect, render_template, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from webapp import events
from webapp.db import reading
from webapp.errors import Conflict, NotFound
from webapp.guard import actor
from webapp.jobs import operations as jobs
from webapp.live import renderers_of
from webapp.runs import feed, logs, samples, screen
from webapp.runs import operations as runs
from webapp.runs.browse import PAGE, RunFilter, browse_runs
from webapp.runs.compare import flatten
from webapp.runs.models import Trigger
from webapp.runs.operations import LEVELS
from webapp.runs.states import RunState
from webapp.runs.statuses import log

door = Blueprint("runs", __name__)

MAXIMUM_NUMBER = 2**62
STREAMS_SHOWN = 100


def wire(app: Flask) -> None:
    """Attach the pages and what keeps them up to date."""
    app.register_blueprint(door)
    runs.run_news.listen(samples.keep_samples)
    log.wire()
    renderers = renderers_of(app)
    renderers.register("run.logged", feed.log_of, feed.show_log)
    renderers.register("run.", feed.page_of, feed.show_run)
    renderers.register("run.", feed.lists_of_runs, feed.show_row)
    renderers.register("run.moved", feed.lists_of_jobs, feed.show_job)
    renderers.register("job.changed", feed.lists_of_jobs, feed.show_job)
    renderers.register("job.changed", feed.page_of_job, feed.show_edited_job)
    renderers.register("job.created", feed.lists_of_jobs, feed.show_new_job)
    renderers.register("job.deleted", feed.lists_of_jobs, feed.show_deleted_job)


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


Number = Annotated[int | None, BeforeValidator(_blank_is_none), Field(ge=0, le=MAXIMUM_NUMBER)]


class RunsAddress(BaseModel):
    """What the address of the list may say; an empty choice of a form means all."""

    state: Annotated[RunState | None, BeforeValidator(_blank_is_none)] = None
    job: Annotated[uuid.UUID | None, BeforeValidator(_blank_is_none)] = None
    trigger: Annotated[Trigger | None, BeforeValidator(_blank_is_none)] = None
    before: Number = None


class RunAddress(BaseModel):
    """What the address of a run's page may say: which lines of its log, and which attempt."""

    q: Annotated[str, Field(max_length=200)] = ""
    level: Annotated[str, Field(pattern="|".join(f"^{level}$" for level in LEVELS))] = "debug"
    step: Annotated[str, Field(max_length=120)] = ""
    attempt: Number = None
    line: Number = None
    after: Number = None
    before: Number = None


@door.get("/runs")
def index() -> ResponseReturnValue:
    """All runs, newest first; what they are narrowed to stands in the address."""
    try:
        address = RunsAddress.model_validate(request.args.to_dict())
    except ValidationError:
        return redirect(url_for("runs.index"), 303)
    seen = events.latest_id()
    wanted = RunFilter(address.state, address.job, address.trigger, address.before)
    lines = browse_runs(actor(), wanted, limit=PAGE + 1)
    return render_template(
        "runs/index.html",
        lines=lines[:PAGE],
        has_more=len(lines) > PAGE,
        wanted=wanted,
        job=jobs.get_job(actor(), wanted.job_id) if wanted.job_id else None,
        states=list(RunState),
        triggers=list(Trigger),
        seen=seen,
    )


@door.get("/runs/<uuid:run_id>")
def show(run_id: uuid.UUID) -> ResponseReturnValue:
    """One run: what happened, is it my fault, what now; and its log."""
    try:
        address = RunAddress.model_validate(request.args.to_dict())
    except ValidationError:
        return redirect(url_for("runs.show", run_id=run_id), 303)
    seen = events.latest_id()
    run = runs.get_run(actor(), run_id)
    query = logs.LogQuery(**address.model_dump())
    picture = screen.look_at_picture(run, attempt=address.attempt)
    return render_template(
        "runs/show.html",
        run=run,
        job_name=screen.job_name_of(run),
        now=screen.look_at_now(run),
        picture=picture,
        past=screen.look_at_past(run),
        window=logs.read_window(run, query),
        query=query,
        configuration=list(flatten(runs.shown_spec(run))),
        trigger=runs.describe_trigger(run),
        seen=seen,
    )


@door.get("/runs/<uuid:run_id>/waits")
def show_waits(run_id: uuid.UUID) -> ResponseReturnValue:
    """What the run waits for: a fragment that its page asks for while it is queued. Nothing once it moves."""
    run = runs.get_run(actor(), run_id)
    if run.state is not RunState.QUEUED:
        return "", 204
    return render_template("runs/_waits.html", now=screen.look_at_now(run))


@door.get("/runs/<uuid:run_id>/streams")
def show_streams(run_id: uuid.UUID) -> ResponseReturnValue:
    """All streams of a sync run, by name and status."""
    run = runs.get_run(actor(), run_id)
    flight = screen.look_at_picture(run).flight
    if flight is None:
        raise NotFound("This run moves no streams.")
    q, status = request.args.get("q", "").strip()[:200], request.args.get("status", "")
    page = max(1, request.args.get("page", 1, type=int))
    found = [line for line in flight.every if q.casefold() in line.name.casefold() and status in ("", line.status)]
    return render_template(
        "runs/streams.html",
        run=run,
        job_name=screen.job_name_of(run),
        flight=flight,
        lines=found[(page - 1) * STREAMS_SHOWN : page * STREAMS_SHOWN],
        found=len(found),
        page=page,
        pages=max(1, -(-len(found) // STREAMS_SHOWN)),
        q=q,
        status=status,
    )


@door.get("/runs/<uuid:run_id>/log.txt")
def download_log(run_id: uuid.UUID) -> Response:
    """The whole log as a text file, sent as it is read."""
    run = runs.get_run(actor(), run_id)
    name = f"run-{run.number}.log"
    return Response(
        stream_with_context(_log_as_text(run.id)),
        mimetype="text/plain",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _log_as_text(run_id: uuid.UUID) -> Iterator[str]:
    with reading():
        yield from logs.log_as_text(run_id)


@door.post("/runs/<uuid:run_id>/abort")
def abort(run_id: uuid.UUID) -> ResponseReturnValue:
    """Stop the run; one that has ended meanwhile is left as it is."""
    try:
        runs.request_cancel(actor(), run_id)
    except Conflict as error:
        flash(error.message, "warning")
    return redirect(url_for("runs.show", run_id=run_id), 303)


@door.post("/runs/<uuid:run_id>/again")
def again(run_id: uuid.UUID) -> ResponseReturnValue:
    """Run the job again, from the task that failed when the form says so; leads to the new run."""
    try:
        run = runs.retry_run(actor(), run_id, from_failed_step=request.form.get("from") == "failed")
    except Conflict as error:
        flash(error.message, "warning")
        return redirect(url_for("runs.show", run_id=run_id), 303)
    return redirect(url_for("runs.show", run_id=run.id), 303)
