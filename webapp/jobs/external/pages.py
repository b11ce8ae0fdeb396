"""The pages of external jobs: the form, the log of statuses, and the buttons that report."""

import uuid
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from wtforms import StringField, TextAreaField, validators

from webapp.db import db
from webapp.errors import Conflict, Invalid
from webapp.events import Event
from webapp.guard import actor
from webapp.jobs import operations as jobs
from webapp.jobs.models import Job, JobKind
from webapp.jobs.operations import MAXIMUM_DESCRIPTION, JobDraft
from webapp.live import renderers_of
from webapp.runs.states import RunState
from webapp.runs.statuses import operations as statuses
from webapp.runs.statuses.log import newest_entries

door = Blueprint("external", __name__, url_prefix="/jobs")

STATUSES_SHOWN = 30
REPORTED = {"pending": RunState.QUEUED, "running": RunState.RUNNING, "completed": RunState.SUCCEEDED,
            "failed": RunState.FAILED}  # fmt: skip


def wire(app: Flask) -> None:
    """Attach the pages, and keep open logs up to date."""
    app.register_blueprint(door)
    renderers_of(app).register("status.", _page_of_job, _show_log)
    renderers_of(app).register("run.moved", _page_of_run, _show_log, group_by=_job_of)


class ExternalForm(FlaskForm):  # type: ignore[misc]
    """What an external job is called."""

    name = StringField("Name", [validators.DataRequired("A job needs a name."), validators.Length(max=255)])
    description = TextAreaField("Description", [validators.Length(max=MAXIMUM_DESCRIPTION)])

    @property
    def draft(self) -> JobDraft:
        """What the operations take."""
        return JobDraft(name=self.name.data, description=self.description.data or "")


@door.route("/external/new", methods=["GET", "POST"])
def new() -> ResponseReturnValue:
    """The form of a new external job."""
    return _edit(None)


@door.route("/<uuid:job_id>/external", methods=["GET", "POST"])
def edit(job_id: uuid.UUID) -> ResponseReturnValue:
    """The form of an external job as it is."""
    job = jobs.get_job(actor(), job_id)
    if job.kind is not JobKind.EXTERNAL:
        return redirect(url_for("jobs.edit", job_id=job.id), 303)
    return _edit(job)


def _edit(job: Job | None) -> ResponseReturnValue:
    form = ExternalForm(obj=job)
    if form.validate_on_submit():
        try:
            saved = (
                jobs.update_job(actor(), job.id, form.draft)
                if job
                else jobs.create_job(actor(), form.draft, kind=JobKind.EXTERNAL)
            )
            return redirect(url_for("jobs.show", job_id=saved.id), 303)
        except Invalid as error:
            bound = form.description if error.field == "description" else form.name
            bound.errors = [*bound.errors, error.message]
    page = render_template("external/form.html", form=form, job=job)
    return page, 422 if form.is_submitted() else 200


@door.post("/<uuid:job_id>/report")
def report(job_id: uuid.UUID) -> ResponseReturnValue:
    """Report a status of the job by hand."""
    state = REPORTED.get(request.form.get("status", ""))
    if state is None:
        flash("Choose pending, running, completed or failed.", "error")
    else:
        try:
            statuses.report_status(actor(), job_id, state)
        except Conflict as error:
            flash(error.message, "error")
    return redirect(url_for("jobs.show", job_id=job_id), 303)


def shown_log(job: Job) -> dict[str, Any]:
    """What the page of an external job shows of its statuses, newest first."""
    entries = newest_entries([job.id], count=STATUSES_SHOWN).get(job.id, [])
    return {"statuses": entries[::-1], "statuses_shown": STATUSES_SHOWN, "reported": REPORTED}


# --- open pages -------------------------------------------------------------------------------------------------------


def _page_of_job(event: Event) -> tuple[str, ...]:
    return (f"job:{event.subject_id}",)


def _page_of_run(event: Event) -> tuple[str, ...]:
    return (f"job:{event.payload['job_id']}",)


def _job_of(event: Event) -> object:
    return event.payload["job_id"]


def _show_log(events: list[Event]) -> str:
    job = db.session.scalar(sa.select(Job).where(Job.id == uuid.UUID(events[-1].payload["job_id"])))
    if job is None or job.kind is not JobKind.EXTERNAL:
        return ""
    return render_template("external/_log.html", **shown_log(job))
