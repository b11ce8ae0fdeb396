"""What can be asked and done about webhooks."""

import base64
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa

from webapp.accounts.access import Actor, Scope
from webapp.config import Role
from webapp.dates import utcnow
from webapp.db import db
from webapp.engine.addresses import checked_address
from webapp.engine.errors import EngineError, Kind
from webapp.errors import Conflict, Invalid, NotFound
from webapp.jobs.models import Job
from webapp.jobs.operations import get_job
from webapp.runs.operations import settings
from webapp.webhooks import notices
from webapp.webhooks.models import Delivery, DeliveryState, Topic, Webhook

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with, as the Standard Webhooks specification has it
CHOICES = tuple(topic for topic in Topic if topic is not Topic.PING)
MOST_FAILURES = 100
LONGEST_NO_SHOW = 7 * 86_400
LONGEST_NAME = 255
LONGEST_ADDRESS = 2000


@dataclass(frozen=True)
class WebhookDraft:
    """What is wanted; None leaves a value as it is."""

    name: str | None = None
    url: str | None = None
    topics: Sequence[Topic] | None = None
    after_failures: int | None = None
    no_show_seconds: int | None = None
    is_enabled: bool | None = None


def list_webhooks(actor: Actor, *, job_id: uuid.UUID | None = None) -> list[Webhook]:
    """The webhooks of the actor's projects, oldest first; of one job those that are told of it alone."""
    query = sa.select(Webhook).where(Webhook.project_id.in_(actor.project_ids)).order_by(Webhook.number)
    if job_id is not None:
        query = query.where(Webhook.job_id == get_job(actor, job_id).id)
    return list(db.session.scalars(query))


def list_listeners(actor: Actor, job_id: uuid.UUID) -> list[Webhook]:
    """The webhooks that are told of a job: of it alone, or of all in its project; oldest first. Raises NotFound."""
    job = get_job(actor, job_id)
    query = sa.select(Webhook).where(
        Webhook.project_id == job.project_id, sa.or_(Webhook.job_id.is_(None), Webhook.job_id == job.id)
    )
    return list(db.session.scalars(query.order_by(Webhook.number)))


def latest_deliveries(hooks: Sequence[Webhook]) -> dict[uuid.UUID, Delivery]:
    """The newest message to each webhook, by the webhook's id; none for those that were never told anything."""
    newest = sa.select(sa.func.max(Delivery.number)).group_by(Delivery.webhook_id)
    query = sa.select(Delivery).where(
        Delivery.number.in_(newest.where(Delivery.webhook_id.in_([hook.id for hook in hooks])))
    )
    return {delivery.webhook_id: delivery for delivery in db.session.scalars(query)}


def names_of_jobs(hooks: Sequence[Webhook]) -> dict[uuid.UUID, str]:
    """What the jobs are called that these webhooks are about, by their ids."""
    wanted = {hook.job_id for hook in hooks if hook.job_id}
    found = db.session.execute(sa.select(Job.id, Job.name).where(Job.id.in_(wanted)))
    return {row.id: row.name for row in found}


def get_webhook(actor: Actor, webhook_id: uuid.UUID) -> Webhook:
    """The webhook. Raises NotFound, also for a stranger to its project."""
    hook = db.session.scalar(sa.select(Webhook).where(Webhook.id == webhook_id))
    if hook is None or not actor.can_see(hook.project_id):
        raise NotFound("Webhook not found")
    return hook


def create_webhook(actor: Actor, draft: WebhookDraft, *, job_id: uuid.UUID | None = None) -> tuple[Webhook, str]:
    """A new webhook and its secret, which is shown this once. Raises Invalid, NotFound, NotAllowed."""
    project = get_job(actor, job_id).project_id if job_id else actor.default_project_id
    actor.require(Role.OPERATOR, project, Scope.JOBS_WRITE, what="Project")
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    hook = Webhook(project_id=project, job_id=job_id, secret=secret, created_by=actor.user_id, topics=[])
    for name in ("name", "url", "topics"):
        if not getattr(draft, name):
            raise Invalid(f"{name}: is needed.", field=name)
    _apply(hook, draft)
    db.session.add(hook)
    db.session.flush()
    notices.forget()
    return hook, secret


def update_webhook(actor: Actor, webhook_id: uuid.UUID, draft: WebhookDraft) -> Webhook:
    """The changed webhook. Raises Invalid, NotFound, NotAllowed."""
    hook = _to_change(actor, webhook_id)
    _apply(hook, draft)
    db.session.flush()
    notices.forget()
    return hook


def delete_webhook(actor: Actor, webhook_id: uuid.UUID) -> None:
    """Forget the webhook and what was sent to it. Raises NotFound, NotAllowed."""
    db.session.delete(_to_change(actor, webhook_id))
    db.session.flush()


def send_test(actor: Actor, webhook_id: uuid.UUID) -> Delivery:
    """Send a ping to the webhook, also to one that is switched off. Raises NotFound, NotAllowed."""
    hook = _to_change(actor, webhook_id)
    facts = {"webhook": {"id": hook.id, "name": hook.name}, "asked_by": actor.name}
    delivery = notices.write(hook, Topic.PING, uuid.uuid4().hex, facts)
    assert delivery is not None, "no two pings have one subject"
    db.session.flush()
    return delivery


def list_deliveries(actor: Actor, webhook_id: uuid.UUID, *, limit: int = 50) -> list[Delivery]:
    """The newest messages to the webhook, newest first."""
    hook = get_webhook(actor, webhook_id)
    query = sa.select(Delivery).where(Delivery.webhook_id == hook.id).order_by(Delivery.number.desc()).limit(limit)
    return list(db.session.scalars(query))


def send_again(actor: Actor, webhook_id: uuid.UUID, delivery_id: uuid.UUID) -> Delivery:
    """Send a message once more, at once. Raises NotFound, NotAllowed, Conflict for one that waits anyway."""
    hook = _to_change(actor, webhook_id)
    delivery = db.session.scalar(
        sa.select(Delivery)
        .where(Delivery.id == delivery_id, Delivery.webhook_id == hook.id)
        .with_for_update(of=Delivery)
    )
    if delivery is None:
        raise NotFound("Delivery not found")
    if delivery.state is DeliveryState.WAITING and delivery.attempts == 0:
        raise Conflict("This message is about to be sent.")
    delivery.state, delivery.due_at, delivery.attempts = DeliveryState.WAITING, utcnow(), 0
    db.session.flush()
    notices.wake_courier()
    return delivery


def _to_change(actor: Actor, webhook_id: uuid.UUID) -> Webhook:
    hook = get_webhook(actor, webhook_id)
    actor.require(Role.OPERATOR, hook.project_id, Scope.JOBS_WRITE, what="Webhook")
    return hook


def _apply(hook: Webhook, draft: WebhookDraft) -> None:
    if draft.name is not None:
        hook.name = _checked_name(draft.name)
    if draft.url is not None:
        hook.url = check_address(draft.url)
    if draft.topics is not None:
        hook.topics = [topic.value for topic in CHOICES if topic in _checked_topics(draft.topics)]
    if draft.after_failures is not None:
        hook.after_failures = _within(draft.after_failures, 1, MOST_FAILURES, "after_failures")
    if draft.no_show_seconds is not None:
        hook.no_show_seconds = _within(draft.no_show_seconds, 10, LONGEST_NO_SHOW, "no_show_seconds")
    if draft.is_enabled is not None:
        hook.is_enabled = draft.is_enabled
        hook.off_because = None


def _checked_name(name: str) -> str:
    text = name.strip()
    if not text or len(text) > LONGEST_NAME or not text.isprintable():
        raise Invalid(f"name: 1 to {LONGEST_NAME} printable characters.", field="name", value=name[:LONGEST_NAME])
    return text


def _checked_topics(topics: Sequence[Topic]) -> Sequence[Topic]:
    if not topics or any(topic not in CHOICES for topic in topics):
        raise Invalid(f"topics: choose from {', '.join(CHOICES)}.", field="topics")
    return topics


def _within(value: int, least: int, most: int, name: str) -> int:
    if not least <= value <= most:
        raise Invalid(f"{name}: must be from {least} to {most}.", field=name, value=value)
    return value


def check_address(url: str) -> str:
    """The address, when messages may go there. Raises Invalid; a name that does not resolve now may do so later."""
    if len(url) > LONGEST_ADDRESS or not url.strip().isprintable():
        raise Invalid(f"url: up to {LONGEST_ADDRESS} printable characters.", field="url", value=url[:LONGEST_ADDRESS])
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise Invalid("url: this is no address.", field="url", value=url[:200]) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Invalid("url: must be an http or https address.", field="url", value=url[:200])
    if parts.username or parts.password:
        raise Invalid("url: leave out name and password; messages are signed.", field="url")
    allowed = settings().hohmann_allow_private_addresses
    try:
        checked_address(parts.hostname, port or (443 if parts.scheme == "https" else 80), allow_private=allowed)
    except EngineError as error:
        if error.kind is not Kind.TRANSIENT:
            raise Invalid(f"url: {error}. {error.fix or ''}".strip(), field="url", value=url[:200]) from error
    return url.strip()
