"""Who carries the messages: a process that a worker starts when there are some, and that goes when there are none.

So an instance without webhooks pays nothing, and a slow receiver slows no worker. Each message is leased while it is
under way; a courier that dies leaves it to the next one, so a receiver may get one twice, and tells by `webhook-id`.
"""

import logging
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from flask import Flask

from webapp import db as database
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db
from webapp.runs.chores import Chore, add_chore
from webapp.runs.operations import settings
from webapp.wake import CLOCK
from webapp.webhooks.models import Delivery, DeliveryState
from webapp.webhooks.notices import note_no_shows
from webapp.webhooks.sending import Message, Outcome, send

log = logging.getLogger("hohmann.webhooks")
PAUSES = (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
"""Seconds between the attempts; after the last of them the message is given up, about a day after the first."""
LEASE_SECONDS = 60
AT_ONCE = 8
BATCH = 32
LINGER_SECONDS = 15.0
LOOK_SECONDS = 0.5
KEEP_DAYS = 30
ROOT = Path(__file__).resolve().parent.parent.parent


def wire(app: Flask) -> None:
    """The chores of the workers: see to the courier, notice runs that do not come, forget old messages."""
    starter = Starter()
    add_chore(app, Chore("send webhooks", starter.look, every=10.0, channels=frozenset({CLOCK})))
    add_chore(app, Chore("notice no-shows", note_no_shows, every=15.0))
    add_chore(app, Chore("forget old webhook messages", forget_old, every=3600.0))


class Starter:
    """Starts a courier when something is due and this worker's last one is gone."""

    def __init__(self) -> None:
        self._courier: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """A chore: looks for messages that are due."""
        if self._courier is not None and self._courier.poll() is None:
            return
        self._courier = None
        if something_is_due():
            self._courier = _start(settings())


def something_is_due() -> bool:
    """Whether a message waits whose time has come."""
    query = sa.select(Delivery.number).where(Delivery.state == DeliveryState.WAITING, Delivery.due_at <= utcnow())
    return db.session.scalar(query.limit(1)) is not None


def _start(present: Settings) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HOHMANN_HOME": str(present.hohmann_home), "PORT": str(present.port)}
    return subprocess.Popen([sys.executable, "-m", "webapp.webhooks.carry"], cwd=ROOT, env=environment)


def forget_old() -> None:
    """Delete messages that are done with."""
    old = utcnow() - timedelta(days=KEEP_DAYS)
    query = sa.delete(Delivery).where(Delivery.state != DeliveryState.WAITING, Delivery.created_at < old)
    db.session.execute(query)


@dataclass(frozen=True)
class Leased:
    """A message that this courier has in its hands, and which attempt it is."""

    delivery_id: uuid.UUID
    attempt: int
    message: Message


def carry(parent: int) -> None:
    """Send what is due until nothing was for a while, or the worker that wanted it is gone."""
    idle_since = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while time.monotonic() - idle_since < LINGER_SECONDS and os.getppid() == parent:
            with database.unit_of_work():
                leased = lease_due()
            if not leased:
                time.sleep(LOOK_SECONDS)
                continue
            sending = partial(send, allow_private=settings().hohmann_allow_private_addresses)
            outcomes = list(pool.map(sending, [one.message for one in leased]))
            with database.unit_of_work():
                for one, outcome in zip(leased, outcomes, strict=True):
                    note_outcome(one, outcome)
            idle_since = time.monotonic()


def lease_due() -> list[Leased]:
    """Take messages that are due, so that no other courier does."""
    now = utcnow()
    query = (
        sa.select(Delivery)
        .where(Delivery.state == DeliveryState.WAITING, Delivery.due_at <= now)
        .order_by(Delivery.due_at)
        .limit(BATCH)
        .with_for_update(of=Delivery, skip_locked=True)
    )
    leased = []
    for delivery in db.session.scalars(query):
        delivery.attempts += 1
        delivery.due_at = now + timedelta(seconds=LEASE_SECONDS)
        hook = delivery.webhook
        message = Message(hook.url, hook.secret, str(delivery.id), delivery.body.encode())
        leased.append(Leased(delivery.id, delivery.attempts, message))
    return leased


def note_outcome(leased: Leased, outcome: Outcome) -> None:
    """Write down how an attempt went, unless another courier has taken the message over meanwhile."""
    query = sa.select(Delivery).where(Delivery.id == leased.delivery_id).with_for_update(of=Delivery)
    delivery = db.session.scalar(query)
    if delivery is None or delivery.attempts != leased.attempt or delivery.state is not DeliveryState.WAITING:
        return
    now = utcnow()
    delivery.status, delivery.error, delivery.answer = outcome.status, outcome.error, outcome.answer
    if outcome.is_good:
        delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, now
        return
    if outcome.is_final or leased.attempt > len(PAUSES):
        delivery.state = DeliveryState.GIVEN_UP
    else:
        delivery.due_at = now + timedelta(seconds=PAUSES[leased.attempt - 1])
    if outcome.is_gone:
        delivery.webhook.is_enabled = False
        delivery.webhook.off_because = "The receiver answered 410 Gone."
    log.info("webhook %s: attempt %d: %s", delivery.webhook.name, leased.attempt, outcome.error or outcome.status)
