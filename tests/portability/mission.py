"""A project with something of everything that a file can hold."""

from typing import Any

from sqlalchemy.orm import Session

from tests.jobs.syncs import choice, document, stream
from webapp.accounts.access import Actor
from webapp.connections import operations as connections
from webapp.connections.models import ConnectionRole
from webapp.connections.operations import ConnectionDraft
from webapp.jobs import operations as jobs
from webapp.jobs.models import JobKind, Missed, Overlap
from webapp.jobs.operations import JobDraft, TaskDraft
from webapp.jobs.sync import operations as syncs
from webapp.jobs.sync.operations import SyncDraft
from webapp.webhooks import operations as webhooks
from webapp.webhooks.models import Topic
from webapp.webhooks.operations import WebhookDraft

PASSWORD = "ares-vallis-1997"
BEARER = "bearer-of-pathfinder"
IN_ADDRESS = "phobos-in-the-address"
SECRETS = (PASSWORD, BEARER, IN_ADDRESS)

POSTGRES = {"host": "127.0.0.1", "port": 5432, "database": "mars", "username": "reader", "password": PASSWORD}
API = {
    "type": "api",
    "url": "http://127.0.0.1:9/rows?access_token=" + IN_ADDRESS,
    "bearer_token": BEARER,
}


def warehouse(table: str) -> dict[str, Any]:
    """A loader into the instance's warehouse."""
    return {"type": "warehouse", "table_name": table}


def build(actor: Actor, session: Session) -> None:
    """Two sources, a destination, jobs of each kind, two of one name, and webhooks."""
    source = connections.create_connection(
        actor, ConnectionRole.SOURCE, ConnectionDraft("Örtliche Sonden", "postgres", "v1.0.0", POSTGRES)
    )
    connections.create_connection(
        actor, ConnectionRole.SOURCE, ConnectionDraft("no: yaml", "sqlite", None, {"path": "probes.db"})
    )
    lake = connections.create_connection(
        actor, ConnectionRole.DESTINATION, ConnectionDraft("lake", "duckdb", "v1.0.0", {"path": "lake.duckdb"})
    )
    streams = document(stream(sync_mode="incremental", cursor_field="seen"), main=[choice(filter="id > 2")])
    policy = JobDraft(description="Line one\n  line two\n", timezone="Europe/Berlin", max_attempts=5)
    copy = syncs.create_sync(
        actor,
        actor.default_project_id,
        SyncDraft("copy", source.id, lake.id, "0 9 * * 1-5", streams, policy=policy),
    )
    jobs.create_job(actor, JobDraft(name="told", is_enabled=False), kind=JobKind.EXTERNAL)
    for table in ("first", "second"):
        tasks = (TaskDraft(API, warehouse(table)), TaskDraft({"type": "csv", "path": "a.csv"}, warehouse("t")))
        draft = JobDraft("twins", overlap=Overlap.SKIP, missed=Missed.ALL, retry_delay_seconds=0.5, tasks=tasks)
        jobs.create_job(actor, draft)
    session.flush()
    hook = WebhookDraft("On call", "https://192.0.2.1/hook", [Topic.RUN_FAILED], after_failures=2, is_enabled=False)
    webhooks.create_webhook(actor, hook)
    webhooks.create_webhook(actor, hook, job_id=copy.job_id)
