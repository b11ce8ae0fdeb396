"""The Flask class of this application: what happens around every request, whoever answers it."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from webapp import db as database

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Hohmann(Flask):
    """Flask, with one unit of work for each request."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.keepers: list[Callable[[Response], Response]] = []
        """Called with a good answer to an unsafe request, before the commit; each may write, or answer otherwise."""

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
                for keep in self.keepers:
                    response = keep(response)
                database.commit(database.db.session())
        except BaseException:
            database.abandon_any()
            raise
        return response

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No door here is a coroutine, so none is looked at for being one, at each request anew."""
        return func
