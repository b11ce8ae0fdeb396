"""The websocket of pages: HTML fragments that open pages put in place by their ids, rendered once for all who look."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy.exc
from flask import Flask, current_app

from webapp import events
from webapp.accounts.access import Actor
from webapp.config import Settings
from webapp.events import Event
from webapp.guard import load_signed_in
from webapp.live import frames
from webapp.live.client import Client
from webapp.live.hub import Hub
from webapp.live.renderers import Renderer, Renderers
from webapp.live.revocation import channels_of_bearer
from webapp.live.tail import Tailer

TOPIC = re.compile(r"[a-z_]{1,30}(:[A-Za-z0-9-]{1,64})?")
MAXIMUM_TOPICS = 100
MAXIMUM_MISSED = 500  # a page that missed more events than this is loaded again
CALM = 0.1  # seconds between two renderings of the same thing


@dataclass
class Pending:
    """Events of one group that wait to be rendered together."""

    renderer: Renderer
    events: list[Event] = field(default_factory=list)


class PageFeed:
    """Renders events for topics that somebody follows; what changes often is rendered every CALM seconds at most."""

    def __init__(self, hub: Hub, tailer: Tailer, renderers: Renderers, settings: Settings) -> None:
        self.hub = hub
        self.tailer = tailer
        self._renderers = renderers
        self._base_url = settings.public_url or "http://localhost"
        self._pending: dict[tuple[int, object], Pending] = {}

    def show(self, event: Event) -> None:
        """Render the event now, or together with what follows when its subject was rendered a moment ago."""
        for renderer in self._renderers.for_kind(event.kind):
            if not self._wanted(renderer, event):
                continue
            key = (id(renderer), renderer.group_by(event))
            waiting = self._pending.get(key)
            if waiting is None:
                waiting = self._pending[key] = Pending(renderer)
                self.tailer.call_later(0.0, partial(self._render, key))
            waiting.events.append(event)

    def _render(self, key: tuple[int, object]) -> None:
        """Render what has gathered, then keep calm for a while."""
        waiting = self._pending[key]
        if not waiting.events:
            del self._pending[key]
            return
        channels = self._wanted(waiting.renderer, waiting.events[-1])
        try:
            html = self._html(waiting) if channels else ""
        except sqlalchemy.exc.DBAPIError:
            raise  # this is tried again when the database is back
        except BaseException:
            del self._pending[key]
            raise
        waiting.events = []
        self.tailer.call_later(CALM, partial(self._render, key))
        if html:
            frame = frames.text(html)
            for channel in channels:
                self.hub.publish(channel, frame)

    def _html(self, waiting: Pending) -> str:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        with app.test_request_context("/live", base_url=self._base_url):
            return waiting.renderer.render(waiting.events)

    def replay(self, client: Client, found: Iterable[Event], channels: frozenset[str]) -> None:
        """Render what these events changed, for one client and as much of it as these channels carry."""
        gathered: dict[tuple[int, object], Pending] = {}
        for event in found:
            for renderer in self._renderers.for_kind(event.kind):
                if not channels.isdisjoint(_channel(topic, event) for topic in renderer.topics_of(event)):
                    key = (id(renderer), renderer.group_by(event))
                    gathered.setdefault(key, Pending(renderer)).events.append(event)
        for waiting in gathered.values():
            html = self._html(waiting)
            if html:
                self.hub.send(client, frames.text(html))

    def _wanted(self, renderer: Renderer, event: Event) -> list[str]:
        channels = (_channel(topic, event) for topic in renderer.topics_of(event))
        return [channel for channel in channels if self.hub.is_wanted(channel)]


def _channel(topic: str, event: Event) -> str:
    return f"html:{topic}@{event.project_id or 'all'}"


def parse_topics(text: str) -> list[str]:
    """The topics of a page's address. Raises ValueError for what cannot be one, and for too many."""
    topics = [topic for topic in text.split(",") if topic]
    if len(topics) > MAXIMUM_TOPICS:
        raise ValueError(f"At most {MAXIMUM_TOPICS} topics")
    for topic in topics:
        if not TOPIC.fullmatch(topic):
            raise ValueError("Unknown topic")
    return topics


def channels_for(actor: Actor, topics: Iterable[str]) -> list[str]:
    """Where the actor listens: each topic in each of its own projects, so that a stranger's topic stays silent."""
    scopes = [*map(str, actor.project_ids), "all"]
    return [f"html:{topic}@{scope}" for topic in topics for scope in scopes]


class PageSocket:
    """What stands behind one page's socket. Pages only listen."""

    def __init__(self, feed: PageFeed, topics: list[str], *, cookie_id: str, since: int | None) -> None:
        self._feed = feed
        self._since = since
        self._topics = topics
        self._cookie_id = cookie_id

    def opened(self, client: Client) -> None:
        """Listen, from the event on that the page knows, else from the present end of the log."""
        self._feed.tailer.call(partial(self._enter, client))

    def received(self, client: Client, message: str) -> None:
        """What a page says is not heard: whatever it wants goes through its forms."""

    def closed(self, client: Client) -> None:
        """Nothing is kept for a socket that has gone."""

    def _enter(self, client: Client) -> None:
        signed_in = load_signed_in(self._cookie_id)
        if signed_in is None:
            # Signed out between the handshake and now.
            self._feed.hub.close(client, frames.POLICY, "Signed out")
            return
        channels = channels_for(signed_in.actor, self._topics)
        missed = self._missed()
        self._feed.hub.admit(client)
        if missed is None:
            self._feed.hub.close(client, frames.SERVICE_RESTART, "Load the page again")
            return
        self._feed.hub.join(client, [*channels_of_bearer(signed_in.actor, jti=signed_in.session_id), *channels])
        self._feed.replay(client, missed, frozenset(channels))

    def _missed(self) -> list[Event] | None:
        """The events since the page was made; None when the log does not hold them all, or they are too many."""
        position = self._feed.tailer.position
        if self._since is None:
            return []
        if not events.oldest_id() - 1 <= self._since <= position:
            return None
        found = events.events_after(self._since, limit=MAXIMUM_MISSED)
        return [event for event in found if event.id <= position] if len(found) < MAXIMUM_MISSED else None
