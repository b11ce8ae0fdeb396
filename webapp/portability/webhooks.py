"""Webhooks of a file, brought in through their room's operations."""

from collections.abc import Mapping
from typing import Any

from webapp.errors import Invalid
from webapp.jobs.models import Job
from webapp.portability.content import describe_webhook
from webapp.portability.document import JobKey, WebhookEntry, place
from webapp.portability.plan import Import, Line, Verb, name_changes, same
from webapp.webhooks import operations as webhooks
from webapp.webhooks.models import Topic, Webhook
from webapp.webhooks.operations import WebhookDraft

RENAMES = {"is_enabled": "enabled"}


def key_of(entry: WebhookEntry) -> Any:
    """What a webhook is known by: its name and its job's kind and name."""
    return (entry.name, (entry.job.kind, entry.job.name) if entry.job else None)


def bring_in(
    under_way: Import, entry: WebhookEntry, at: int, found: Webhook | None, jobs: Mapping[JobKey, Job | None]
) -> None:
    """Make or change this webhook; the key of a new one is shown once."""
    if entry.job and ("jobs", entry.job.name) in under_way.failed:
        return  # what is wrong is said of its job
    loc = ("webhooks", at)
    under_way.attempt(loc, entry.name, RENAMES, lambda: _bring_in(under_way, entry, found, jobs, place(loc)))


def _bring_in(
    under_way: Import, entry: WebhookEntry, found: Webhook | None, jobs: Mapping[JobKey, Job | None], where: str
) -> None:
    job = _job_of(entry, jobs)
    before = describe_webhook(found, job) if found else {}
    given = {key: value for key, value in entry.given.items() if key != "job"}
    wanted = {key: value for key, value in given.items() if not found or not same(before[key], value)}
    if found is None:
        hook, secret = webhooks.create_webhook(under_way.actor, _draft(wanted), job_id=job.id if job else None)
        under_way.outcome.new_secrets.append((hook.name, secret))
    else:
        hook = webhooks.update_webhook(under_way.actor, found.id, _draft(wanted)) if wanted else found
    changes = name_changes(before, describe_webhook(hook, job)) if found else ()
    verb = Verb.CREATED if not found else Verb.CHANGED if changes else Verb.UNCHANGED
    under_way.add(Line("webhook", hook.name, where, verb, changes))


def _job_of(entry: WebhookEntry, jobs: Mapping[JobKey, Job | None]) -> Job | None:
    if entry.job is None:
        return None
    job = jobs.get((entry.job.kind, entry.job.name, 0))
    if job is None:
        message = f"there is no {entry.job.kind} job {entry.job.name!r}, neither here nor in the file."
        raise Invalid(message, field="job.name")
    return job


def _draft(given: dict[str, Any]) -> WebhookDraft:
    topics = given.get("topics")
    return WebhookDraft(
        name=given.get("name"),
        url=given.get("url"),
        topics=None if topics is None else [Topic(topic) for topic in topics],
        after_failures=given.get("after_failures"),
        no_show_seconds=given.get("no_show_seconds"),
        is_enabled=given.get("enabled"),
    )
