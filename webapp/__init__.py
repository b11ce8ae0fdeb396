"""Hohmann, mission control for data jobs. This page wires the whole application."""

from collections.abc import Callable
from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.middleware.proxy_fix import ProxyFix

from webapp import db as database
from webapp.accounts.revocation import Epoch
from webapp.config import Settings
from webapp.cookies import LeanSessions
from webapp.secrets import Vault

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Hohmann(Flask):
    """Flask, with one unit of work for each request."""

    def full_dispatch_request(self) -> Any:
        with database.intent(write=request.method not in SAFE_METHODS):
            return super().full_dispatch_request()

    def dispatch_request(self) -> ResponseReturnValue:
        """Run the door, and commit when its answer is known to be good."""
        try:
            response = self.make_response(super().dispatch_request())
            if request.method in SAFE_METHODS or response.status_code >= 400:
                database.abandon_any()
            else:
                database.commit(database.db.session())
        except BaseException:
            database.abandon_any()
            raise
        return response

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No door here is a coroutine, so none is looked at for being one, at each request anew."""
        return func


def create_app(settings: Settings | None = None) -> Flask:
    """The application for these settings (default: those of the environment). Raises ConfigError."""
    settings = settings or Settings.from_environment()
    app = Hohmann(__name__, template_folder="../templates", static_folder="../static")
    app.session_interface = LeanSessions()
    app.extensions["settings"] = settings
    _configure(app, settings)
    database.init_db(app, settings)
    app.extensions["vault"] = Vault(settings.hohmann_home / "keys")
    app.extensions["revocations"] = Epoch(settings.run_folder)
    for wire in _rooms():
        wire(app)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def _configure(app: Flask, settings: Settings) -> None:
    app.config.update(
        SECRET_KEY=settings.load_secret_key(),
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        SESSION_COOKIE_NAME=f"hohmann-{settings.port}",  # stacks side by side on one host share its cookies
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=settings.public_url.startswith("https://"),
        PERMANENT_SESSION_LIFETIME=settings.session_days * 86400,
        WTF_CSRF_CHECK_DEFAULT=False,  # the guard decides which requests need a form token
        WTF_CSRF_TIME_LIMIT=None,
        TEMPLATES_AUTO_RELOAD=False,
    )


def _rooms() -> tuple[Callable[[Flask], None], ...]:
    """What is attached to the application, in order. Imported here so that `import webapp.engine` stays light."""
    from webapp import cli, guard, observe, schema
    from webapp.accounts import pages as accounts
    from webapp.api import wire_api
    from webapp.jobs import pages as jobs
    from webapp.live import wire_live
    from webapp.rockets import follow
    from webapp.rockets import pages as rockets
    from webapp.runs import pages as runs
    from webapp.ui import wire_ui

    return (
        observe.wire,
        guard.wire,
        wire_ui,
        follow.wire,
        accounts.wire,
        rockets.wire,
        jobs.wire,
        runs.wire,
        wire_api,
        wire_live,
        schema.wire,
        cli.wire,
    )
