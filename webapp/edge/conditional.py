"""ETags: who asks again for the same JSON is told that nothing changed, without being sent it (RFC 9110, 13)."""

import hashlib

from flask import Flask, Response, request

from webapp import refusals

SECRETIVE = frozenset({"users_api", "olake_auth", "airflow_api"})
"""Blueprints whose answers no cache may keep."""


def wire(app: Flask) -> None:
    """Attach to every answer of the JSON doors."""
    app.after_request(_be_conditional)


def _be_conditional(response: Response) -> Response:
    """200 with an ETag, or 304 without a body when the visitor's If-None-Match names it."""
    if response.status_code != 200 or request.method != "GET" or response.content_type != "application/json":
        return response
    if not response.is_sequence or request.blueprint in SECRETIVE or not refusals.speaks_json():
        return response
    tag = hashlib.blake2b(response.get_data(), digest_size=12).hexdigest()
    response.headers["ETag"] = f'"{tag}"'
    response.headers["Cache-Control"] = "private, no-cache"  # keep it, but ask each time
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(tag):
        response.status_code = 304
        response.set_data(b"")
        for name in ("Content-Type", "Content-Length"):
            response.headers.pop(name, None)
    return response
