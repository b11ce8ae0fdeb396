"""Hohmann, mission control for data jobs. This page wires the whole application.

What it needs is imported in its functions: `import webapp.engine` stays light, for processes that only move data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from webapp.config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """The application for these settings (default: those of the environment). Raises ConfigError."""
    from werkzeug.middleware.proxy_fix import ProxyFix

    from webapp import db as database
    from webapp.accounts.revocation import Epoch
    from webapp.application import Hohmann
    from webapp.config import Settings
    from webapp.cookies import LeanSessions
    from webapp.metrics_folder import choose_folder
    from webapp.secrets import Vault

    settings = settings or Settings.from_environment()
    app = Hohmann(__name__, template_folder="../templates", static_folder="../static")
    app.session_interface = LeanSessions()
    app.extensions["settings"] = settings
    _configure(app, settings)
    database.init_db(app, settings)
    app.extensions["vault"] = Vault(settings.hohmann_home / "keys")
    app.extensions["revocations"] = Epoch(settings.run_folder)
    choose_folder(settings)
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
        MAX_FORM_MEMORY_SIZE=settings.max_body_bytes,  # a project's file comes back in a field of the plan
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
    """What is attached to the application, in order."""
    from webapp import cli, guard, metrics, observe, orchestrators, schema, webhooks
    from webapp.accounts import pages as accounts
    from webapp.api import wire_api
    from webapp.connections import pages as connections
    from webapp.edge import wire_edge
    from webapp.jobs import pages as jobs
    from webapp.jobs.external import pages as external
    from webapp.jobs.sync import pages as syncs
    from webapp.live import wire_live
    from webapp.portability import pages as portability
    from webapp.rockets import follow
    from webapp.rockets import pages as rockets
    from webapp.runs import pages as runs
    from webapp.ui import wire_ui

    return (
        observe.wire,
        guard.wire,
        wire_edge,
        wire_ui,
        follow.wire,
        webhooks.wire,
        orchestrators.wire,
        accounts.wire,
        rockets.wire,
        connections.wire,
        jobs.wire,
        syncs.wire,
        external.wire,
        runs.wire,
        portability.wire,
        wire_api,
        wire_live,
        metrics.wire,
        schema.wire,
        cli.wire,
    )
