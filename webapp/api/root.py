"""Contracts 001, 002 and 003 write paths from the root, where the pages live. Machines get the JSON door there."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MACHINE_PATHS = re.compile(r"/(auth|jobs|runs|users)(/.*)?")
OLAKE_PATHS = {"GET": {"/auth", "/auth/check", "/telemetry-id"}, "POST": {"/login", "/signup"}}
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class RootAddresses:
    """WSGI middleware: a request that plainly is not a browser's is served as if it had asked under /api/v1."""

    def __init__(self, app: "WSGIApplication") -> None:
        self.app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path in OLAKE_PATHS.get(method_meant(environ), ()) and (sends_json(environ) or not is_a_browser(environ)):
            environ["PATH_INFO"] = "/api/olake" + path
        elif MACHINE_PATHS.fullmatch(path) and not is_a_browser(environ):
            environ["PATH_INFO"] = "/api/v1" + path
        return self.app(environ, start_response)


def method_meant(environ: "WSGIEnvironment") -> str:
    """The request's method; of a preflight the one that it asks about."""
    method: str = environ["REQUEST_METHOD"]
    return environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", method) if method == "OPTIONS" else method


def sends_json(environ: "WSGIEnvironment") -> bool:
    """Whether the body is JSON, which no form sends."""
    kind: str = environ.get("CONTENT_TYPE", "")
    return kind.startswith("application/json")


def is_a_browser(environ: "WSGIEnvironment") -> bool:
    """Whether a page is wanted: HTML is accepted, htmx asks, or a form is sent."""
    return (
        "text/html" in environ.get("HTTP_ACCEPT", "")
        or "HTTP_HX_REQUEST" in environ
        or environ.get("CONTENT_TYPE", "").startswith(FORM_TYPES)
    )
