"""CORS: pages of other origins may use the JSON doors when CORS_ORIGINS names them. Without it, none may."""

import re

from flask import Flask, Response, current_app, request
from flask_cors import CORS

from webapp.config import ConfigError, Settings
from webapp.origins import is_allowed

JSON_ADDRESSES = re.compile(r"/api(/.*)?|/health(/.*)?|/metrics")
EXPOSED = (
    "X-Request-ID", "Link", "X-Next-Cursor", "ETag", "Location", "Retry-After", "X-RateLimit-Limit",
    "X-RateLimit-Remaining", "X-RateLimit-Reset", "Idempotent-Replayed",
)  # fmt: skip


def wire(app: Flask) -> None:
    """Attach to the JSON doors. Raises ConfigError for `*` together with credentials, which browsers refuse."""
    settings: Settings = app.extensions["settings"]
    if not settings.cors_origins:
        return
    if settings.cors_credentials and "*" in settings.cors_origins:
        raise ConfigError("CORS_ORIGINS", "name the origins; * cannot be used together with CORS_CREDENTIALS")
    app.before_request(_answer_preflight)
    CORS(
        app,
        resources={JSON_ADDRESSES: {}},
        origins="*" if "*" in settings.cors_origins else [_exactly(origin) for origin in settings.cors_origins],
        methods=list(settings.cors_methods),
        allow_headers=list(settings.cors_headers),
        expose_headers=list(EXPOSED),
        supports_credentials=settings.cors_credentials,
        max_age=settings.cors_max_age,
    )


def _answer_preflight() -> Response | None:
    """A browser asks without the visitor's token or cookie, so no door may want one."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    return current_app.make_default_options_response()


def _exactly(origin: str) -> re.Pattern[str]:
    return re.compile(re.escape(origin.rstrip("/")) + r"\Z", re.IGNORECASE)


def may_use_cookies(origin: str | None, settings: Settings) -> bool:
    """Whether a page of this origin may act with the visitor's cookie."""
    return (
        origin is not None
        and settings.cors_credentials
        and is_allowed(origin, own=(), listed=settings.cors_origins, may_be_absent=False)
    )
