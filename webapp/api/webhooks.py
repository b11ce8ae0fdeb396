"""The JSON doors of outgoing webhooks: make, change, try, and look at what was sent."""

import uuid
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field

from webapp import guard
from webapp.api.bodies import answer, parse_uuid, read_body, read_query
from webapp.api.fields import Flag, Line, Name, WholeNumber
from webapp.webhooks import operations as webhooks
from webapp.webhooks.models import Delivery, Topic, Webhook
from webapp.webhooks.operations import WebhookDraft

door = Blueprint("webhooks_api", __name__, url_prefix="/api/v1/webhooks")

Address = Annotated[Line, Field(min_length=1, max_length=2000)]


class WebhookChange(BaseModel):
    """Some facts of a webhook."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    url: Address | None = None
    topics: Annotated[list[Topic], Field(min_length=1)] | None = None
    after_failures: WholeNumber | None = None
    no_show_seconds: WholeNumber | None = None
    is_enabled: Flag | None = None

    @property
    def draft(self) -> WebhookDraft:
        """What is wanted."""
        return WebhookDraft(**self.model_dump(exclude={"job_id"}))


class NewWebhook(WebhookChange):
    """A webhook of one job, or of all in the project."""

    name: Name
    url: Address
    topics: Annotated[list[Topic], Field(min_length=1)]
    job_id: uuid.UUID | None = None


class DeliveriesQuery(BaseModel):
    """How many messages are wanted."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50


class WebhooksQuery(BaseModel):
    """The webhooks of which job are wanted; without one, all of the visitor's projects."""

    job_id: uuid.UUID | None = None


@door.get("")
def list_webhooks() -> Response:
    """The webhooks of the visitor's projects, oldest first, without their secrets."""
    found = webhooks.list_webhooks(guard.actor(), job_id=read_query(WebhooksQuery).job_id)
    return answer([show_webhook(hook) for hook in found])


@door.post("")
def create_webhook() -> Response:
    """201 with the webhook and the secret that signs its messages, shown this once."""
    body = read_body(NewWebhook)
    hook, secret = webhooks.create_webhook(guard.actor(), body.draft, job_id=body.job_id)
    return answer({**show_webhook(hook), "secret": secret}, 201)


@door.get("/<webhook_id>")
def get_webhook(webhook_id: str) -> Response:
    """The webhook without its secret."""
    return answer(show_webhook(webhooks.get_webhook(guard.actor(), _id(webhook_id))))


@door.patch("/<webhook_id>")
def update_webhook(webhook_id: str) -> Response:
    """200 with the changed webhook; what the body leaves out stays as it is."""
    found = _id(webhook_id)
    return answer(show_webhook(webhooks.update_webhook(guard.actor(), found, read_body(WebhookChange).draft)))


@door.delete("/<webhook_id>")
def delete_webhook(webhook_id: str) -> Response:
    """204; the webhook is gone, with what was sent to it."""
    webhooks.delete_webhook(guard.actor(), _id(webhook_id))
    return Response(status=204)


@door.post("/<webhook_id>/test")
def send_test(webhook_id: str) -> Response:
    """202 with a ping that is on its way; the list of deliveries says how it went."""
    return answer(show_delivery(webhooks.send_test(guard.actor(), _id(webhook_id))), 202)


@door.get("/<webhook_id>/deliveries")
def list_deliveries(webhook_id: str) -> Response:
    """What was sent and how it went, newest first; kept for 30 days."""
    found, query = _id(webhook_id), read_query(DeliveriesQuery)
    deliveries = webhooks.list_deliveries(guard.actor(), found, limit=query.limit)
    return answer([show_delivery(delivery) for delivery in deliveries])


@door.post("/<webhook_id>/deliveries/<delivery_id>/again")
def send_again(webhook_id: str, delivery_id: str) -> Response:
    """202; the message is sent once more, with the same `webhook-id`."""
    delivery = parse_uuid(delivery_id, what="Delivery")
    return answer(show_delivery(webhooks.send_again(guard.actor(), _id(webhook_id), delivery)), 202)


def _id(text: str) -> uuid.UUID:
    return parse_uuid(text, what="Webhook")


def show_webhook(hook: Webhook) -> dict[str, Any]:
    """A webhook without its secret."""
    return {
        "id": hook.id,
        "name": hook.name,
        "url": hook.url,
        "job_id": hook.job_id,
        "topics": hook.topics,
        "after_failures": hook.after_failures,
        "no_show_seconds": hook.no_show_seconds,
        "is_enabled": hook.is_enabled,
        "off_because": hook.off_because,
        "created_at": hook.created_at,
        "updated_at": hook.updated_at,
    }


def show_delivery(delivery: Delivery) -> dict[str, Any]:
    """A message: what was sent, and how it went."""
    return {
        "id": delivery.id,
        "topic": delivery.topic,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "due_at": delivery.due_at,
        "delivered_at": delivery.delivered_at,
        "status": delivery.status,
        "error": delivery.error,
        "answer": delivery.answer,
        "body": delivery.body,
        "created_at": delivery.created_at,
    }
