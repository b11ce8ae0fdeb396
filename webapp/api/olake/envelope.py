"""The envelope around every answer of contract 002, and how its bodies are read."""

from typing import Any, TypeVar

import orjson
from flask import Response, request
from pydantic import BaseModel

from webapp.api.bodies import answer, check, read_json
from webapp.errors import Invalid

Model = TypeVar("Model", bound=BaseModel)
OURS = ("/api/v1/project/", "/api/olake/")
"""Where the addresses of this contract begin; the second are those that it writes from the root."""


def success(data: Any = None, *, message: str = "success") -> Response:
    """200 with the data in the envelope."""
    return answer({"success": True, "message": message, "data": data})


def refusal(message: str, status: int, field: str | None = None) -> tuple[dict[str, Any], int]:
    """A refusal in the envelope: this contract has no 422, and its message is all that people see, so it names the
    field.
    """
    if status == 401:
        message = (
            "Authentication required"  # the contract's own words; which token or cookie was bad is nobody's matter
        )
    if field and field not in message:
        message = f"{field}: {message}"
    return {"success": False, "message": message}, 400 if status == 422 else status


def read_any_body(model: type[Model]) -> Model:
    """The body as this model, also of a GET, with the query's parameters beneath it. Raises Invalid, 400, 415."""
    given: Any = read_json() if request.get_data(cache=True) else {}
    if not isinstance(given, dict):
        raise Invalid("The body must be a JSON object.")
    return check(model, {**request.args.to_dict(), **given}, where="body")


def config_of(value: Any) -> dict[str, Any]:
    """A configuration, sent as an object or as a string that holds one. Raises Invalid that names `config`."""
    found = value
    if isinstance(value, str):
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Invalid(f"config: this string holds no JSON: {error}", field="config") from error
    if not isinstance(found, dict):
        raise Invalid("config: must be a JSON object, or a string that holds one.", field="config")
    return found


def as_text(value: Any) -> str:
    """A JSON value as this contract's clients want it: inside a string."""
    return orjson.dumps(value).decode()
