"""Outgoing webhooks."""

import uuid
from datetime import datetime

from webapp.api import webhooks
from webapp.api.openapi.told import Answer, Chapter, Told
from webapp.webhooks.models import DeliveryState, Topic

HOOK = {
    "name": "On call", "url": "https://hooks.example.org/hohmann", "topics": ["run.failed", "run.recovered"],
    "after_failures": 2,
}  # fmt: skip


class WebhookShown(Answer):
    """A webhook without its secret; `off_because` says why it was switched off, when nobody did it by hand."""

    id: uuid.UUID
    name: str
    url: str
    job_id: uuid.UUID | None
    topics: list[Topic]
    after_failures: int
    no_show_seconds: int
    is_enabled: bool
    off_because: str | None
    created_at: datetime
    updated_at: datetime


class NewWebhookShown(WebhookShown):
    """A webhook with its secret, which is shown this once."""

    secret: str


class DeliveryShown(Answer):
    """A message: its `body` as it was sent, and how the last attempt went."""

    id: uuid.UUID
    topic: Topic
    state: DeliveryState
    attempts: int
    due_at: datetime
    delivered_at: datetime | None
    status: int | None
    error: str | None
    answer: str | None
    body: str
    created_at: datetime


CHAPTER = Chapter(
    "Webhooks",
    "Messages to addresses of yours when runs start, end, recover or do not come, and when rockets move. They are "
    "signed as the Standard Webhooks specification has it.",
    {
        "webhooks_api.list_webhooks": Told(list[WebhookShown], query=webhooks.WebhooksQuery, refuses=(404,)),
        "webhooks_api.create_webhook": Told(
            NewWebhookShown, 201, body=webhooks.NewWebhook, refuses=(404,), example=HOOK
        ),
        "webhooks_api.get_webhook": Told(WebhookShown),
        "webhooks_api.update_webhook": Told(WebhookShown, body=webhooks.WebhookChange, example={"is_enabled": False}),
        "webhooks_api.delete_webhook": Told(None, 204),
        "webhooks_api.send_test": Told(DeliveryShown, 202),
        "webhooks_api.list_deliveries": Told(list[DeliveryShown], query=webhooks.DeliveriesQuery),
        "webhooks_api.send_again": Told(DeliveryShown, 202, refuses=(409,)),
    },
)
