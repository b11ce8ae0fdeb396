"""The websocket of machines, contract 000: updates of rockets as JSON, for those who may see them, with resumption.

Members of a rocket's project see its updates; `?user_id=` narrows them to the rockets that one user made.
"""

import math
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from webapp import events
from webapp.accounts.access import Actor
from webapp.api.words import STATUS_WORDS, Contract
from webapp.events import Event
from webapp.guard import find_bearer
from webapp.live import frames
from webapp.live.client import Client
from webapp.live.hub import Hub
from webapp.live.revocation import channels_of_bearer
from webapp.live.tail import Tailer
from webapp.runs.states import RunState

PREFIX = "rocket."
DELETED = "rocket.deleted"
FIELDS = ("id", "state", "source", "destination", "location", "estimated_time", "status", "updated_at")
REPLAY_BATCH = 1000
DRAIN_PAUSE = 0.05  # seconds between two parts of a long replay, while the client reads


class AuthMessage(BaseModel):
    """The first message of a client that could not send an Authorization header."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: str = Field(pattern="^auth$")
    token: str = Field(min_length=1, max_length=4096)
    since: int | None = Field(default=None, ge=0)


@dataclass(frozen=True)
class Wanted:
    """What a client asked for in its address."""

    user_id: uuid.UUID | None = None
    since: int | None = None


class JobFeed:
    """Publishes what happens to rockets, one encoding for each event, to the channels of its project."""

    def __init__(self, hub: Hub, tailer: Tailer) -> None:
        self.hub = hub
        self.tailer = tailer

    def show(self, event: Event) -> None:
        """Send the event to those who follow its project, or its user's rockets there."""
        if not event.kind.startswith(PREFIX):
            return
        wanted = [channel for channel in _channels_of(event) if self.hub.is_wanted(channel)]
        if wanted:
            frame = frames.text(message_of(event))
            for channel in wanted:
                self.hub.publish(channel, frame)


def message_of(event: Event) -> bytes:
    """The JSON text of an event about a rocket, in the words of contract 000."""
    if event.kind == DELETED:
        return orjson.dumps({"type": "job_deleted", "event_id": event.id, "job": {"id": str(event.subject_id)}})
    job = {name: event.payload[name] for name in FIELDS}
    job["status"] = STATUS_WORDS[Contract.ROCKETS][RunState(job["status"])]
    return orjson.dumps({"type": "job_update", "event_id": event.id, "job": job})


def _channels_of(event: Event) -> Iterator[str]:
    yield _channel(event.project_id, None)
    if event.user_id is not None:
        yield _channel(event.project_id, event.user_id)


def _channel(project_id: uuid.UUID | None, user_id: uuid.UUID | None) -> str:
    return f"jobs:{project_id}:{user_id or ''}"


class Standing(Enum):
    """How well a machine's socket is known."""

    STRANGER = "stranger"  #: has to send its token first
    ASKING = "asking"  #: the token is being looked up
    KNOWN = "known"  #: listens


class JobSocket:
    """What stands behind one machine's socket."""

    def __init__(self, feed: JobFeed, wanted: Wanted, *, token: str | None) -> None:
        self._feed = feed
        self._hub = feed.hub
        self._wanted = wanted
        self._token = token  # of the handshake; None when it is still to come
        self._standing = Standing.STRANGER if token is None else Standing.ASKING

    def opened(self, client: Client) -> None:
        """Begin, once the hub has the socket."""
        if self._token is not None:
            self._feed.tailer.call(partial(self._look_up, client, self._token, self._wanted.since))

    def received(self, client: Client, message: str) -> None:
        """A stranger's first message has to be its token; whatever a known client says is echoed (contract 000)."""
        if self._standing is Standing.STRANGER:
            self._standing = Standing.ASKING
            self._authenticate(client, message)
        elif self._standing is Standing.ASKING:
            # In line behind the look-up, so that answers keep the order of the questions.
            self._feed.tailer.call(partial(self._echo, client, message))
        else:
            self._echo(client, message)

    def closed(self, client: Client) -> None:
        """Nothing is kept for a socket that has gone."""

    def _authenticate(self, client: Client, message: str) -> None:
        try:
            auth = AuthMessage.model_validate_json(message)
        except ValidationError:
            self._hub.close(client, frames.POLICY, "Send your token first")
            return
        since = auth.since if auth.since is not None else self._wanted.since
        self._feed.tailer.call(partial(self._look_up, client, auth.token, since))

    def _look_up(self, client: Client, token: str, since: int | None) -> None:
        """Let the client in at the place in the log that has just been published, or close its socket.

        The handshake's token is looked up again here: a revocation between then and now would otherwise be missed.
        """
        bearer = find_bearer(token)
        if bearer is None:
            self._hub.close(client, frames.POLICY, "This token is not good")
            return
        if not bearer.actor.may_read:
            self._hub.close(client, frames.POLICY, "This token lacks the scope read")
            return
        gap = _gap_after(since) if since is not None else None
        seconds = bearer.expires_at.timestamp() - time.time() if bearer.expires_at else math.inf
        self._hub.admit(client, seconds=seconds)
        self._hub.join(client, channels_of_bearer(bearer.actor, jti=bearer.jti))
        self._say(client, {"type": "connected", "message": "Connected to job updates"})
        self._standing = Standing.KNOWN
        if since is not None and gap is None:
            self._feed.tailer.call_later(0.0, partial(self._replay, client, bearer.actor, since))
            return
        if gap is not None:
            self._say(client, gap)
        self._hub.join(client, self._channels(bearer.actor))

    def _replay(self, client: Client, actor: Actor, since: int) -> None:
        """Send what was missed, in parts that the client has room for, and let it listen where the last part ends."""
        if client.backlog:
            self._feed.tailer.call_later(DRAIN_PAUSE, partial(self._replay, client, actor, since))
            return
        position = self._feed.tailer.position
        batch = events.events_after(since, limit=REPLAY_BATCH)
        for event in batch:
            if event.id <= position and self._concerns(actor, event):
                self._hub.send(client, frames.text(message_of(event)))
        if len(batch) == REPLAY_BATCH and batch[-1].id < position:
            self._feed.tailer.call_later(DRAIN_PAUSE, partial(self._replay, client, actor, batch[-1].id))
        else:
            self._hub.join(client, self._channels(actor))

    def _channels(self, actor: Actor) -> list[str]:
        return [_channel(project_id, self._wanted.user_id) for project_id in actor.project_ids]

    def _concerns(self, actor: Actor, event: Event) -> bool:
        is_theirs = self._wanted.user_id in (None, event.user_id)
        return event.kind.startswith(PREFIX) and is_theirs and event.project_id in actor.memberships

    def _echo(self, client: Client, message: str) -> None:
        self._say(client, {"type": "echo", "data": message})

    def _say(self, client: Client, message: dict[str, Any]) -> None:
        self._hub.send(client, frames.text(orjson.dumps(message)))


def _gap_after(since: int) -> dict[str, Any] | None:
    """What to tell a client whose last event the log does not reach back to; None when all that followed is there."""
    oldest, latest = events.oldest_id(), events.latest_id()
    if oldest - 1 <= since <= latest:
        return None
    text = "The log does not reach back to this event: fetch the jobs anew."
    return {"type": "gap", "since": since, "oldest_event_id": oldest, "latest_event_id": latest, "message": text}
