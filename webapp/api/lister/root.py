"""GET /api/: where the two lists are."""

from flask import Response, request

from webapp.api.bodies import answer
from webapp.api.lister.door import serve
from webapp.api.lister.metadata import describe


@serve("/", ["GET", "OPTIONS"])
def root() -> Response:
    """The addresses of the two lists."""
    if request.method == "OPTIONS":
        return describe("Api Root", "The default basic root view for DefaultRouter")
    here = f"{request.scheme}://{request.host}/api/"
    return answer({name: f"{here}{name}/" for name in ("jobs", "jobstatuses")})
