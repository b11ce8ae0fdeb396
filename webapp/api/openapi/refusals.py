"""How the doors refuse, in the shape of each contract."""

from collections.abc import Iterator
from typing import Any

from webapp.api.openapi.told import Dialect, Told

MEANINGS = {
    400: "Broken JSON, or a value that cannot be used.",
    401: "No token or log-in, or one that is not good any more.",
    403: "The role, or the token's scope, is too small.",
    404: "Not there, or not in any project of yours.",
    406: "No such media type is answered.",
    409: "Not possible in this state, or a name that is taken.",
    413: "The body is over MAX_BODY_BYTES.",
    414: "The request's first line is over 8,190 bytes.",
    415: "The body is of a content type that is not read.",
    422: "A field cannot be used.",
    429: "Too often; Retry-After says how long to wait.",
    503: "A part that is needed does not answer at present.",
    504: "What was asked for took too long.",
}

_WRONG_FIELD = {
    "type": "object",
    "required": ["type", "loc", "msg"],
    "properties": {
        "type": {"type": "string"},
        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
        "msg": {"type": "string"},
        "input": {},
    },
}
SCHEMAS: dict[str, Any] = {
    "Refusal": {
        "type": "object",
        "required": ["error", "code", "details", "detail"],
        "properties": {
            "error": {"type": "string", "description": "One sentence for people."},
            "code": {"type": "string", "description": "A word for machines, such as FORBIDDEN_MOVE."},
            "details": {"type": "object"},
            "detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": _WRONG_FIELD}]},
        },
        "additionalProperties": False,
    },
    "OlakeRefusal": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {"success": {"const": False}, "message": {"type": "string"}},
        "additionalProperties": False,
    },
    "ListerRefusal": {
        "type": "object",
        "description": "`detail`, or `error`, or for each wrong field a list of what is wrong with it.",
        "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    },
}
_EXAMPLES: dict[str, Any] = {
    "Refusal": {
        "error": "InFlight cannot become Ready.", "code": "FORBIDDEN_MOVE",
        "details": {"from": "InFlight", "to": "Ready", "allowed": ["Landed_On_Mars", "RUD"]},
        "detail": "InFlight cannot become Ready.",
    },
    "OlakeRefusal": {"success": False, "message": "name: a source of this name exists already"},
    "ListerRefusal": {"name": ["This field is required."]},
}  # fmt: skip


def _response(dialect: Dialect, status: int) -> dict[str, Any]:
    headers = {"X-Request-ID": {"schema": {"type": "string"}}}
    if status == 429:
        headers["Retry-After"] = {"schema": {"type": "string"}}
    if status == 414:  # said by the web server, before anything of ours has read it
        return {"description": MEANINGS[status], "content": {"text/html": {"schema": {"type": "string"}}}}
    shown = {"schema": {"$ref": f"#/components/schemas/{dialect}"}, "example": _EXAMPLES[dialect]}
    return {"description": MEANINGS[status], "headers": headers, "content": {"application/json": shown}}


RESPONSES = {f"{dialect}{status}": _response(dialect, status) for dialect in Dialect for status in MEANINGS}


def refusals_of(method: str, told: Told, dialect: Dialect, *, is_public: bool) -> Iterator[int]:
    """The statuses with which such a door may refuse."""
    yield from told.refuses
    yield from (400, 429, 503)
    if not is_public:
        yield from (401, 403)
    if told.query is not None:
        yield 414
    if told.body is not None:
        yield from (413, 415)
    if dialect is Dialect.PLAIN and (told.body is not None or told.query is not None or method == "POST"):
        yield 422
    if dialect is Dialect.OLAKE:
        yield 404
    if dialect is Dialect.LISTER:
        yield from (404, 406)
