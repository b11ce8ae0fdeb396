"""Pages of long lists: the answer stays a bare array, and the way to the next page stands in its headers."""

from urllib.parse import quote, urlencode

from flask import Response, request


def point_to_next(response: Response, cursor: int | None) -> Response:
    """Add the address of the next page (RFC 8288) and its cursor; nothing when there is none."""
    if cursor is not None:
        query = urlencode({**request.args.to_dict(), "cursor": cursor})
        address = f"{request.scheme}://{request.host}{quote(request.path)}"  # base_url says the same, but costs more
        response.headers["Link"] = f'<{address}?{query}>; rel="next"'
        response.headers["X-Next-Cursor"] = str(cursor)
    return response
