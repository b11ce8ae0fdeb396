"""The pages of outgoing webhooks: the list, the form, one webhook with what was sent to it, a part of a job's page."""

import uuid
from datetime import timedelta
from typing import Any

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from webapp.accounts.pages import blame
from webapp.dates import utcnow
from webapp.errors import Conflict, Invalid
from webapp.guard import actor
from webapp.jobs.operations import get_job
from webapp.webhooks import operations as webhooks
from webapp.webhooks.forms import MEANINGS, WebhookForm
from webapp.webhooks.models import Delivery, DeliveryState, Webhook

door = Blueprint("webhooks", __name__)
SOON = timedelta(seconds=60)


def wire(app: Flask) -> None:
    """Attach the pages."""
    app.register_blueprint(door)


@door.get("/settings/webhooks")
def index() -> ResponseReturnValue:
    """The webhooks of the visitor's projects, or those that are told of the job that the address names."""
    job_id = request.args.get("job", type=uuid.UUID)
    job = get_job(actor(), job_id) if job_id else None
    hooks = webhooks.list_listeners(actor(), job.id) if job else webhooks.list_webhooks(actor())
    return render_template("webhooks/index.html", job=job, **_lines(hooks))


@door.route("/settings/webhooks/new", methods=["GET", "POST"])
def new() -> ResponseReturnValue:
    """The form of a new webhook, of one job when the address names it; then its page, with the secret this once."""
    form, job_id = WebhookForm(), request.args.get("job", type=uuid.UUID)
    job = get_job(actor(), job_id) if job_id else None
    if form.validate_on_submit():
        try:
            hook, secret = webhooks.create_webhook(actor(), form.draft(), job_id=job.id if job else None)
            return render_template("webhooks/show.html", secret=secret, **_facts(hook)), 201
        except Invalid as error:
            blame(form, error)
    return render_template("webhooks/form.html", form=form, hook=None, job=job), 422 if form.errors else 200


@door.get("/settings/webhooks/<uuid:webhook_id>")
def show(webhook_id: uuid.UUID) -> str:
    """One webhook: what it is told, and what was sent to it."""
    return render_template("webhooks/show.html", secret="", **_facts(webhooks.get_webhook(actor(), webhook_id)))


@door.get("/settings/webhooks/<uuid:webhook_id>/deliveries")
def show_deliveries(webhook_id: uuid.UUID) -> str:
    """What changes by itself on the page of a webhook."""
    return render_template("webhooks/_now.html", **_facts(webhooks.get_webhook(actor(), webhook_id)))


@door.route("/settings/webhooks/<uuid:webhook_id>/edit", methods=["GET", "POST"])
def edit(webhook_id: uuid.UUID) -> ResponseReturnValue:
    """The form of a webhook as it is."""
    hook = webhooks.get_webhook(actor(), webhook_id)
    form = WebhookForm(obj=hook)
    if form.validate_on_submit():
        try:
            webhooks.update_webhook(actor(), hook.id, form.draft())
            flash("Saved.", "success")
            return _back(hook.id)
        except Invalid as error:
            blame(form, error)
    return render_template("webhooks/form.html", form=form, hook=hook, job=None), 422 if form.errors else 200


@door.post("/settings/webhooks/<uuid:webhook_id>/switch")
def switch(webhook_id: uuid.UUID) -> ResponseReturnValue:
    """Switch the webhook on or off."""
    is_enabled = request.form.get("is_enabled") == "1"
    webhooks.update_webhook(actor(), webhook_id, webhooks.WebhookDraft(is_enabled=is_enabled))
    return _back(webhook_id)


@door.route("/settings/webhooks/<uuid:webhook_id>/delete", methods=["GET", "POST"])
def delete(webhook_id: uuid.UUID) -> ResponseReturnValue:
    """Ask whether the webhook shall go; then forget it."""
    hook = webhooks.get_webhook(actor(), webhook_id)
    if request.method == "GET":
        return render_template("webhooks/delete.html", hook=hook)
    name = hook.name
    webhooks.delete_webhook(actor(), webhook_id)
    flash(f"The webhook {name} is deleted.", "success")
    return redirect(url_for("webhooks.index"), 303)


@door.post("/settings/webhooks/<uuid:webhook_id>/test")
def send_test(webhook_id: uuid.UUID) -> ResponseReturnValue:
    """Send a test; the page says how it went."""
    webhooks.send_test(actor(), webhook_id)
    flash("A test is on its way; below you see how it goes.", "success")
    return _back(webhook_id)


@door.post("/settings/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/again")
def send_again(webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> ResponseReturnValue:
    """Send a message once more."""
    try:
        webhooks.send_again(actor(), webhook_id, delivery_id)
        flash("It is sent once more.", "success")
    except Conflict as error:
        flash(error.message, "warning")
    return _back(webhook_id)


@door.get("/jobs/<uuid:job_id>/webhooks")
def show_of_job(job_id: uuid.UUID) -> str:
    """Who is told of a job, as a part of its page."""
    hooks = webhooks.list_listeners(actor(), job_id)
    return render_template("webhooks/_of_job.html", job_id=job_id, **_lines(hooks))


def _back(webhook_id: uuid.UUID) -> ResponseReturnValue:
    return redirect(url_for("webhooks.show", webhook_id=webhook_id), 303)


def _lines(hooks: list[Webhook]) -> dict[str, Any]:
    """What a list of webhooks shows."""
    return {
        "hooks": hooks,
        "latest": webhooks.latest_deliveries(hooks),
        "jobs": webhooks.names_of_jobs(hooks),
    }


def _facts(hook: Webhook) -> dict[str, Any]:
    """What the page of a webhook shows; it looks often while a message is about to be sent."""
    deliveries = webhooks.list_deliveries(actor(), hook.id)
    return {
        "hook": hook,
        "job_name": webhooks.names_of_jobs([hook]).get(hook.job_id) if hook.job_id else None,
        "deliveries": deliveries,
        "meanings": MEANINGS,
        "look_seconds": 2 if any(_goes_soon(delivery) for delivery in deliveries) else 10,
    }


def _goes_soon(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.WAITING and delivery.due_at < utcnow() + SOON
