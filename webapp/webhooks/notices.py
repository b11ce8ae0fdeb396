"""From what a unit of work did to the messages that it causes, in the same transaction: none is lost, none invented."""

import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from webapp import db as database
from webapp import events
from webapp.dates import rfc3339, utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.runs.models import Run
from webapp.runs.operations import RunMoved, RunNews, run_news
from webapp.runs.states import FINAL_STATES, RunState
from webapp.wake import CLOCK
from webapp.webhooks.models import Delivery, Topic, Webhook

_TOPICS = {
    RunState.RUNNING: Topic.RUN_STARTED,
    RunState.SUCCEEDED: Topic.RUN_SUCCEEDED,
    RunState.FAILED: Topic.RUN_FAILED,
    RunState.CANCELLED: Topic.RUN_CANCELLED,
}
LOOK_BACK = 100
KNOWN_SECONDS = 2.0


def wire() -> None:
    """Listen to runs, and look at rockets' events before they are written."""
    run_news.listen(note_runs)
    if note_rockets not in database.before_commit:
        database.before_commit.insert(database.before_commit.index(events._write), note_rockets)


class _Known:
    """Whether there is any webhook at all, asked at most every few seconds: runs that start and end ask each time."""

    def __init__(self) -> None:
        self._any, self._until = False, 0.0

    def are_there_any(self) -> bool:
        if time.monotonic() >= self._until:
            with db.session.no_autoflush:
                self._any = db.session.scalar(sa.select(Webhook.number).where(Webhook.is_enabled).limit(1)) is not None
            self._until = time.monotonic() + KNOWN_SECONDS
        return self._any

    def forget(self) -> None:
        self._until = 0.0


_known = _Known()
forget = _known.forget
"""Look again: a webhook was made or changed here."""


def note_runs(news: RunNews) -> None:
    """Write the messages that these moves cause."""
    moves = [moved for moved in news.moves if moved.to in _TOPICS]
    if not moves:
        return
    hooks = _hooks_of({moved.run.project_id for moved in moves})
    for moved in moves if hooks else ():
        for hook in hooks:
            if hook.project_id == moved.run.project_id and hook.job_id in (None, moved.run.job_id):
                for topic in _topics_of(hook, moved):
                    write(hook, topic, f"{moved.run.id}:{moved.run.attempt}:{moved.to}", _told_of_run(moved.run))


def _hooks_of(projects: set[uuid.UUID]) -> Sequence[Webhook]:
    if not _known.are_there_any():
        return ()
    query = sa.select(Webhook).where(Webhook.project_id.in_(projects), Webhook.is_enabled)
    with db.session.no_autoflush:
        return db.session.scalars(query).all()


def _topics_of(hook: Webhook, moved: RunMoved) -> Iterator[Topic]:
    topic = _TOPICS[moved.to]
    failures = 0
    if moved.to in (RunState.FAILED, RunState.SUCCEEDED):
        failures = failures_before(moved.run)
    if topic in hook.topics and (topic is not Topic.RUN_FAILED or failures + 1 >= hook.after_failures):
        yield topic
    is_recovery = moved.to is RunState.SUCCEEDED and failures >= hook.after_failures
    if is_recovery and Topic.RUN_RECOVERED in hook.topics:
        yield Topic.RUN_RECOVERED


def failures_before(run: Run) -> int:
    """How many runs of the job failed one after the other just before this one; stopped ones do not count."""
    query = (
        sa.select(Run.state)
        .where(Run.job_id == run.job_id, Run.number < run.number, Run.state.in_(FINAL_STATES))
        .where(Run.state != RunState.CANCELLED)
        .order_by(Run.number.desc())
        .limit(LOOK_BACK)
    )
    states = list(db.session.scalars(query))
    return next((at for at, state in enumerate(states) if state is not RunState.FAILED), len(states))


def note_rockets(session: Session) -> None:
    """Write the messages that rockets' moves cause; called before the commit, when their events are known."""
    moved = [event for event in session.info.get("events", ()) if event["kind"] == "rocket.moved"]
    if not moved:
        return
    hooks = _hooks_of({event["project_id"] for event in moved})
    for hook in hooks:
        for event in moved if Topic.ROCKET_MOVED in hook.topics else ():
            payload = event["payload"]
            is_its_job = hook.job_id is None or str(hook.job_id) == str(payload.get("job_id"))
            if hook.project_id == event["project_id"] and is_its_job:
                write(hook, Topic.ROCKET_MOVED, f"rocket:{event['subject_id']}:{uuid.uuid4().hex}", {"rocket": payload})


def note_no_shows() -> None:
    """Write a message for each run whose hour has come and gone without its start. A chore of the workers."""
    now = utcnow()
    for hook in db.session.scalars(sa.select(Webhook).where(Webhook.is_enabled)).all():
        if Topic.RUN_NO_SHOW in hook.topics:
            for run in db.session.scalars(_late_runs(hook, late=now - timedelta(seconds=hook.no_show_seconds))):
                write(hook, Topic.RUN_NO_SHOW, f"{run.id}:no show", _told_of_run(run))


def _late_runs(hook: Webhook, *, late: Any) -> sa.Select[Run]:
    query = sa.select(Run).where(
        Run.project_id == hook.project_id,
        Run.state == RunState.QUEUED,
        Run.attempt == 0,
        Run.scheduled_for < late,
    )
    return query.where(Run.job_id == hook.job_id) if hook.job_id else query


def write(hook: Webhook, topic: Topic, subject: str, facts: dict[str, Any]) -> Delivery | None:
    """Put a message in the outbox; None when it was told before."""
    known = sa.select(Delivery.number).where(Delivery.webhook_id == hook.id, Delivery.subject == f"{topic}:{subject}")
    if db.session.scalar(known) is not None:
        return None
    now = utcnow()
    body = {"type": topic.value, "timestamp": rfc3339(now), "data": facts}
    delivery = Delivery(
        webhook_id=hook.id,
        topic=topic,
        subject=f"{topic}:{subject}",
        body=orjson.dumps(body, default=str).decode(),
        due_at=now,
    )
    db.session.add(delivery)
    database.wake_at_commit(CLOCK)
    return delivery


def _told_of_run(run: Run) -> dict[str, Any]:
    name = db.session.scalar(sa.select(Job.name).where(Job.id == run.job_id))
    return {
        "job": {"id": run.job_id, "name": name or ""},
        "run": {
            "id": run.id,
            "number": run.number,
            "state": run.state.value,
            "attempt": run.attempt,
            "scheduled_for": rfc3339(run.scheduled_for) if run.scheduled_for else None,
            "started_at": rfc3339(run.started_at) if run.started_at else None,
            "finished_at": rfc3339(run.finished_at) if run.finished_at else None,
            "rows_written": run.rows_written,
            "error_message": run.error_message,
            "error_origin": run.error_origin,
            "error_kind": run.error_kind,
            "doubt": run.doubt,
        },
    }


def wake_courier() -> None:
    """Let the workers see at once that there is something to send."""
    database.wake_at_commit(CLOCK)
