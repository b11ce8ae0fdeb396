"""How the JSON doors read and answer: bodies through Pydantic, answers through orjson."""

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from webapp.errors import Invalid, NotFound

Model = TypeVar("Model", bound=BaseModel)
MAXIMUM_INPUT_SHOWN = 200


def answer(data: Any, status: int = 200) -> Response:
    """A JSON answer; datetimes come as RFC 3339, uuids as text."""
    return Response(orjson.dumps(data, option=orjson.OPT_UTC_Z), status, mimetype="application/json")


def read_json() -> Any:
    """The JSON value of the request's body. Raises 415 without a JSON content type and 400 for broken JSON."""
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("Send the body as application/json.")
    try:
        return orjson.loads(request.get_data(cache=True))
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is no valid JSON: {error}") from error


def read_body(model: type[Model]) -> Model:
    """The body as this model. Raises Invalid that lists every wrong field, each with its place and what was sent."""
    return check(model, read_json(), where="body")


def read_query(model: type[Model]) -> Model:
    """The query's parameters as this model. Raises Invalid like `read_body`."""
    return check(model, request.args.to_dict(), where="query")


def check(model: type[Model], value: Any, *, where: str) -> Model:
    """The value as this model; `where` begins the place of each error, as FastAPI writes it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Invalid(first_message(error), errors=list_errors(error, where)) from error


def list_errors(error: ValidationError, where: str) -> list[dict[str, Any]]:
    """Pydantic's errors in FastAPI's form, without secrets and without long inputs."""
    return [
        {
            "type": item["type"],
            "loc": [where, *item["loc"]],
            "msg": item["msg"],
            "input": _shown(item["loc"], item.get("input")),
        }
        for item in error.errors(include_url=False, include_context=False)
    ]


def first_message(error: ValidationError) -> str:
    """One sentence that names the first wrong field."""
    item = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in item["loc"]) or "body"
    return f"{name}: {item['msg']}"


def _shown(loc: tuple[int | str, ...], value: Any) -> Any:
    if isinstance(value, Mapping | list) or any("password" in str(part) or "token" in str(part) for part in loc):
        return None
    return value[:MAXIMUM_INPUT_SHOWN] if isinstance(value, str) else value


def parse_uuid(text: str, *, what: str) -> uuid.UUID:
    """The id in an address. Raises NotFound: nothing is there under a name that is no id."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise NotFound(f"{what} not found") from error
