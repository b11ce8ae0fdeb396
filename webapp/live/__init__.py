"""The live feed: the websockets of machines and of pages, which tail the event log. See docs/live-feed.md."""

from flask import Flask
from flask_sock import Sock

from webapp.config import Settings
from webapp.live.browser import PageFeed
from webapp.live.doors import make_door
from webapp.live.handover import NoThread
from webapp.live.hub import Hub
from webapp.live.machine import JobFeed
from webapp.live.renderers import Renderers
from webapp.live.revocation import RevocationFeed
from webapp.live.tail import Tailer


def wire_live(app: Flask) -> None:
    """Attach both websockets. Nothing runs before the first one is opened."""
    settings: Settings = app.extensions["settings"]
    hub = Hub()
    tailer = Tailer(app, is_needed=lambda: hub.size > 0)
    jobs = JobFeed(hub, tailer)
    pages = PageFeed(hub, tailer, app.extensions.setdefault("renderers", Renderers()), settings)
    tailer.feeds += [RevocationFeed(hub), jobs, pages]
    app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": NoThread}
    app.register_blueprint(make_door(Sock(), settings, jobs=jobs, pages=pages))
    app.extensions["live"] = hub


def renderers_of(app: Flask) -> Renderers:
    """Where rooms register what open pages show of an event; usable before and after `wire_live`."""
    found: Renderers = app.extensions.setdefault("renderers", Renderers())
    return found
