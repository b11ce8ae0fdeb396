"""The pages of jobs: the list, the form, the page of one job, and a look at its rows."""

import uuid
from dataclasses import replace
from typing import Annotated, Any

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from webapp import events
from webapp.accounts.pages import local_path
from webapp.dates import utcnow
from webapp.engine.errors import EngineError
from webapp.engine.preview import preview_table
from webapp.errors import Conflict, Invalid, NotFound
from webapp.guard import actor
from webapp.jobs import operations as jobs
from webapp.jobs.external.pages import shown_log
from webapp.jobs.forms import JobForm, blame, find_mistakes, form_of
from webapp.jobs.models import Job, JobKind
from webapp.jobs.schedules import describe, next_times
from webapp.jobs.task_form import (
    TaskDraftForm,
    as_drafts,
    blank_task,
    draw_tasks,
    name_errors,
    read_tasks,
    rearrange,
    tasks_of_job,
)
from webapp.jobs.zones import zones
from webapp.rockets.operations import rocket_of_job
from webapp.runs import job_lines, screen
from webapp.runs import operations as runs
from webapp.runs.browse import RunFilter, browse_runs
from webapp.runs.job_lines import PAGE, JobFilter, JobState, browse_jobs
from webapp.runs.marks import last_marks

door = Blueprint("jobs", __name__)

RUNS_SHOWN = 15
ROWS_SHOWN = 50
PREVIEW_WAIT_SECONDS = 1.5  # for a file that a load has open; then the page says so


def wire(app: Flask) -> None:
    """Attach the pages."""
    app.register_blueprint(door)


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


class JobsAddress(BaseModel):
    """What the address of the list may say; an empty choice of a form means all."""

    q: Annotated[str, Field(max_length=200)] = ""
    state: Annotated[JobState | None, BeforeValidator(_blank_is_none)] = None
    before: Annotated[int | None, BeforeValidator(_blank_is_none), Field(ge=0, le=2**62)] = None


@door.get("/jobs")
def index() -> ResponseReturnValue:
    """The jobs, newest first; what they are narrowed to stands in the address."""
    try:
        address = JobsAddress.model_validate(request.args.to_dict())
    except ValidationError:
        return redirect(url_for("jobs.index"), 303)
    seen = events.latest_id()
    wanted = JobFilter(address.q.strip(), address.state, address.before)
    lines = browse_jobs(actor(), wanted, limit=PAGE + 1)
    return render_template(
        "jobs/index.html",
        lines=lines[:PAGE],
        has_more=len(lines) > PAGE,
        wanted=wanted,
        states=list(JobState),
        seen=seen,
    )


# --- one job ----------------------------------------------------------------------------------------------------------


@door.get("/jobs/<uuid:job_id>")
def show(job_id: uuid.UUID) -> ResponseReturnValue:
    """One job: when it starts, what it moves, how its runs went."""
    seen = events.latest_id()
    job = jobs.get_job(actor(), job_id)
    (line,) = job_lines.lines_of([job])
    return render_template(
        "jobs/show.html",
        job=job,
        line=line,
        marks=last_marks([job.id], count=screen.TREND_LENGTH).get(job.id, []),
        tasks=jobs.shown_tasks(job),
        lines=browse_runs(actor(), RunFilter(job_id=job.id), limit=RUNS_SHOWN),
        rocket=rocket_of_job(job.id),
        seen=seen,
        **_extras(job),
    )


def _extras(job: Job) -> dict[str, Any]:
    """What only jobs of this kind have on their page."""
    from webapp.jobs.sync.pages import shown_streams  # which itself needs this module

    if job.kind is JobKind.EXTERNAL:
        return shown_log(job)
    return shown_streams(job.id) if job.kind is JobKind.SYNC else {}


@door.post("/jobs/<uuid:job_id>/run")
def run(job_id: uuid.UUID) -> ResponseReturnValue:
    """Start the job now; leads to the run."""
    return redirect(url_for("runs.show", run_id=runs.start_run(actor(), job_id).id), 303)


@door.post("/jobs/<uuid:job_id>/pause")
def pause(job_id: uuid.UUID) -> ResponseReturnValue:
    """Switch the job off."""
    jobs.set_enabled(actor(), job_id, enabled=False)
    return _back(job_id)


@door.post("/jobs/<uuid:job_id>/resume")
def resume(job_id: uuid.UUID) -> ResponseReturnValue:
    """Switch the job on."""
    jobs.set_enabled(actor(), job_id, enabled=True)
    return _back(job_id)


def _back(job_id: uuid.UUID) -> ResponseReturnValue:
    """To the page that the button was on."""
    back = request.form.get("back")
    return redirect(local_path(back) if back else url_for("jobs.show", job_id=job_id), 303)


@door.route("/jobs/<uuid:job_id>/delete", methods=["GET", "POST"])
def delete(job_id: uuid.UUID) -> ResponseReturnValue:
    """Ask whether the job shall go, by its name when it has runs; then delete it."""
    job = jobs.get_job(actor(), job_id)
    has_runs = bool(runs.list_runs(actor(), job_id=job.id, limit=1))
    problem = ""
    if request.method == "POST":
        try:
            if not has_runs or request.form.get("name", "").strip() == job.name:
                flash(f"The job {jobs.delete_job(actor(), job_id)} is deleted.", "success")
                return redirect(url_for("jobs.index"), 303)
            problem = "This is not its name."
        except Conflict as error:
            problem = error.message
    page = render_template("jobs/delete.html", job=job, has_runs=has_runs, problem=problem)
    return page, 422 if problem else 200


@door.get("/jobs/<uuid:job_id>/rows")
def rows(job_id: uuid.UUID) -> ResponseReturnValue:
    """The first rows of the table that a task of the job loads, as they are now."""
    job = jobs.get_job(actor(), job_id)
    number = request.args.get("task", 1, type=int)
    task = next((task for task in job.tasks if task.position == number), None)
    if task is None:
        raise NotFound("This job has no such task.")
    preview, problem = None, None
    try:
        context = replace(jobs.door_context(), lock_timeout=PREVIEW_WAIT_SECONDS)
        preview = preview_table(task.loader, context, limit=ROWS_SHOWN)
    except EngineError as error:
        problem = error
    return render_template("jobs/rows.html", job=job, task=task, preview=preview, problem=problem)


# --- the form ---------------------------------------------------------------------------------------------------------


@door.route("/jobs/new", methods=["GET", "POST"])
def new() -> ResponseReturnValue:
    """The form of a new job."""
    return _edit(None)


@door.route("/jobs/<uuid:job_id>/edit", methods=["GET", "POST"])
def edit(job_id: uuid.UUID) -> ResponseReturnValue:
    """The form of a job as it is."""
    job = jobs.get_job(actor(), job_id)
    if job.kind is JobKind.SYNC:
        return redirect(url_for("syncs.edit", job_id=job.id), 303)
    if job.kind is JobKind.EXTERNAL:
        return redirect(url_for("external.edit", job_id=job.id), 303)
    return _edit(job)


def _edit(job: Job | None) -> ResponseReturnValue:
    form = form_of(job)
    stored = job.tasks if job else []
    if not form.is_submitted():
        return _form_page(form, job, tasks_of_job(stored) if job else [blank_task()])
    tasks = read_tasks(request.form)
    if verb := request.form.get("do"):
        return _form_page(form, job, rearrange(tasks, verb))
    drafts = as_drafts(tasks, stored)
    errors = find_mistakes(form, tasks, drafts)
    if not errors and not form.errors:
        try:
            draft = form.draft(drafts)
            saved = jobs.update_job(actor(), job.id, draft) if job else jobs.create_job(actor(), draft)
            return redirect(url_for("jobs.show", job_id=saved.id), 303)
        except Invalid as error:
            blame(form, error)
            errors = name_errors(error.details.get("errors", ()), tasks)
    return _form_page(form, job, tasks, errors), 422


def _form_page(
    form: JobForm, job: Job | None, tasks: list[TaskDraftForm], errors: dict[str, list[str]] | None = None
) -> str:
    return render_template(
        "jobs/form.html",
        form=form,
        job=job,
        tasks=draw_tasks(tasks, errors or {}),
        errors=errors or {},
        zones=zones(),
        **departures(form.schedule.data, form.timezone.data),
    )


@door.post("/jobs/tasks")
def redraw_tasks() -> str:
    """The tasks of a form that is being filled in, after one of its buttons or a change of type."""
    tasks = rearrange(read_tasks(request.form), request.form.get("do", ""))
    return render_template("jobs/_tasks.html", tasks=draw_tasks(tasks, {}), errors={})


@door.get("/jobs/schedule")
def preview_schedule() -> str:
    """When a schedule that is being typed would start."""
    asked = request.args
    return render_template("jobs/_schedule.html", **departures(asked.get("schedule"), asked.get("timezone")))


def departures(text: str | None, timezone: str | None) -> dict[str, Any]:
    """When a schedule would start, in words and instants, or what is wrong with it: what `_schedule.html` shows."""
    try:
        schedule = jobs.check_schedule(text, (timezone or "UTC").strip())
    except Invalid as error:
        return {"departures": [], "said": "", "notes": (), "problem": error.message}
    times = next_times(schedule, utcnow(), 5)
    return {"departures": times, "said": describe(schedule), "notes": schedule.notes, "problem": ""}
