"""The pages of sync jobs: the form, the flight plan before an edit is saved, and the verbs of single streams."""

import hashlib
import uuid
from typing import Any

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from webapp.connections import operations as connections
from webapp.db import db
from webapp.errors import Conflict, Invalid, NotFound
from webapp.events import Event
from webapp.guard import actor
from webapp.jobs.forms import PolicyForm
from webapp.jobs.pages import departures
from webapp.jobs.sync import operations as syncs
from webapp.jobs.sync import states
from webapp.jobs.sync.edits import Line, Weight, plan_edit
from webapp.jobs.sync.form import SyncForm, draft_of, ends, form_of, read_form, rearrange, streams_part
from webapp.jobs.sync.models import SyncDefinition
from webapp.jobs.sync.operations import SyncDraft
from webapp.jobs.sync.plans import Wish
from webapp.jobs.zones import zones
from webapp.live import renderers_of
from webapp.runs import feed, parachute
from webapp.runs import operations as runs
from webapp.runs.states import FINAL_STATES, RunState

door = Blueprint("syncs", __name__, url_prefix="/syncs")

STREAMS_SHOWN = 100
KEPT_SHOWN = 20


def wire(app: Flask) -> None:
    """Attach the pages, and what keeps the page of a sync job up to date."""
    app.register_blueprint(door)
    renderers = renderers_of(app)
    renderers.register("run.moved", feed.page_of_job, _show_landing)
    renderers.register("job.stream_reset", feed.page_of_job, feed.show_edited_job)


def _show_landing(events: list[Event]) -> str:
    """A run that ended may have changed every stream of its job's page, and what can be brought back."""
    payload = events[-1].payload
    has_ended = RunState(payload["state"]) in FINAL_STATES
    is_sync = has_ended and db.session.get(SyncDefinition, uuid.UUID(payload["job_id"])) is not None
    return feed.REFRESH if is_sync else ""


@door.route("/new", methods=["GET", "POST"])
def new() -> ResponseReturnValue:
    """The form of a new sync job; the address may name its source and its destination."""
    return _edit(None)


@door.route("/<uuid:job_id>/edit", methods=["GET", "POST"])
def edit(job_id: uuid.UUID) -> ResponseReturnValue:
    """The form of a sync job as it is; what the edit will do is shown before it is saved."""
    return _edit(syncs.get_sync(actor(), job_id))


@door.post("/streams")
def redraw_streams() -> str:
    """The streams of a form that is being filled in, after one of its buttons, a search, or another source."""
    form = read_form(request.form)
    rearrange(actor(), form, request.form)
    return render_template("syncs/_streams.html", **streams_part(actor(), form))


def _edit(definition: SyncDefinition | None) -> ResponseReturnValue:
    job = definition.job if definition else None
    policy = PolicyForm(obj=job)
    policy.show(job)
    if request.method == "GET":
        return _page(form_of(definition), policy, definition)
    form = read_form(request.form)
    verb = request.form.get("do", "")
    if verb not in ("save", "confirm"):
        rearrange(actor(), form, request.form)
        return _page(form, policy, definition)
    draft = draft_of(actor(), form, policy, definition.streams if definition else None)
    if draft is not None:
        try:
            return _save(form, policy, definition, draft)
        except (Invalid, Conflict) as error:
            form.blame(error)
        except NotFound as error:
            form.errors["source" if "Source" in error.message else "destination"] = error.message
    return _page(form, policy, definition), 422


def _save(
    form: SyncForm, policy: PolicyForm, definition: SyncDefinition | None, draft: SyncDraft
) -> ResponseReturnValue:
    if definition is None:
        assert draft.source_id is not None
        project_id = connections.get_connection(actor(), draft.source_id).project_id
        saved = syncs.create_sync(actor(), project_id, draft)
        return redirect(url_for("jobs.show", job_id=saved.job_id), 303)
    job_id = definition.job_id
    is_confirmed = request.form.get("do") == "confirm"
    lines = plan_edit(actor(), job_id, draft)
    asks_name = any(line.weight is Weight.DESTROYS for line in lines)
    problem = _objection(lines, definition.job.name if asks_name else None) if is_confirmed else ""
    if any(line.kind != "connection shared" for line in lines) and (problem or not is_confirmed):
        page = render_template(
            "syncs/plan.html",
            job=definition.job,
            sync=form,
            policy=policy,
            lines=lines,
            digest=_digest(lines),
            asks_name=asks_name,
            problem=problem,
        )
        return page, 422 if problem else 200
    syncs.update_sync(actor(), job_id, draft)
    return redirect(url_for("jobs.show", job_id=job_id), 303)


def _objection(lines: list[Line], name: str | None) -> str:
    """Why what was confirmed cannot be done yet."""
    if request.form.get("digest") != _digest(lines):
        return "The job has changed meanwhile: this is what the edit will do now."
    if name is not None and request.form.get("job_name", "").strip() != name:
        return "This is not its name."
    return ""


def _digest(lines: list[Line]) -> str:
    return hashlib.sha256("\n".join(sorted(line.text for line in lines)).encode()).hexdigest()[:16]


def _page(form: SyncForm, policy: PolicyForm, definition: SyncDefinition | None) -> str:
    return render_template(
        "syncs/form.html",
        job=definition.job if definition else None,
        policy=policy,
        zones=zones(),
        **ends(actor()),
        **streams_part(actor(), form),
        **departures(form.schedule, policy.timezone.data),
    )


# --- the verbs of streams ---------------------------------------------------------------------------------------------


@door.post("/<uuid:job_id>/streams")
def streams(job_id: uuid.UUID) -> ResponseReturnValue:
    """Run the chosen streams, read them again from the start, or forget how far they have come."""
    chosen = tuple(dict.fromkeys(request.form.getlist("stream")))
    if not chosen:
        flash("Choose at least one stream first.", "warning")
        return _to_job(job_id)
    try:
        if request.form.get("do") == "reset":
            for label in chosen:
                states.reset_stream(actor(), job_id, label)
            flash(f"{_counted(chosen)} will be read from the start by the next run.", "success")
            return _to_job(job_id)
        wish = Wish(chosen, refresh=request.form.get("do") == "refresh")
        return redirect(url_for("runs.show", run_id=runs.start_run(actor(), job_id, wish=wish).id), 303)
    except (Invalid, Conflict) as error:
        flash(error.message, "error")
        return _to_job(job_id)


@door.post("/<uuid:job_id>/restore")
def restore(job_id: uuid.UUID) -> ResponseReturnValue:
    """Bring back what a stream's table was before a run; leads to the run that does it."""
    stream, generation = request.form.get("stream", ""), request.form.get("generation", "")
    try:
        run = parachute.restore_stream(actor(), job_id, stream=stream, generation=generation)
    except (Invalid, Conflict) as error:
        flash(error.message, "error")
        return _to_job(job_id)
    return redirect(url_for("runs.show", run_id=run.id), 303)


def _counted(labels: tuple[str, ...]) -> str:
    return labels[0] if len(labels) == 1 else f"{len(labels)} streams"


def _to_job(job_id: uuid.UUID) -> ResponseReturnValue:
    return redirect(url_for("jobs.show", job_id=job_id), 303)


def shown_streams(job_id: uuid.UUID) -> dict[str, Any]:
    """What the page of a sync job shows of its streams: one page of them, and what can be brought back."""
    q = request.args.get("q", "").strip()[:200]
    page = max(1, request.args.get("page", 1, type=int))
    every = states.show_streams(actor(), job_id)
    found = [one for one in every if q.casefold() in one["stream"].casefold()]
    return {
        "sync": syncs.get_sync(actor(), job_id),
        "streams": found[(page - 1) * STREAMS_SHOWN : page * STREAMS_SHOWN],
        "streams_in_all": len(every),
        "streams_found": len(found),
        "streams_page": page,
        "streams_pages": max(1, -(-len(found) // STREAMS_SHOWN)),
        "q": q,
        "kept": parachute.generations_of(actor(), job_id, limit=KEPT_SHOWN),
    }
