"""What OPTIONS says of an address: its fields, as Django REST framework describes them."""

from typing import Any

from flask import Response

from webapp.api.bodies import answer
from webapp.api.lister.bodies import FORM_TYPES, LONGEST_NAME, WORDS

Fields = dict[str, dict[str, Any]]


def _field(kind: str, label: str, *, required: bool = False, read_only: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": kind, "required": required, "read_only": read_only, "label": label, **more}


JOB: Fields = {
    "id": _field("integer", "Id", read_only=True),
    "name": _field("string", "Name", required=True, max_length=LONGEST_NAME),
    "created_at": _field("datetime", "Created at", read_only=True),
    "updated_at": _field("datetime", "Updated at", read_only=True),
    "current_status": _field("field", "Current status", read_only=True),
    "statuses": _field("field", "Statuses", read_only=True),
}
STATUS: Fields = {
    "id": _field("integer", "Id", read_only=True),
    "job": _field("field", "Job", required=True),
    "status_type": _field(
        "choice", "Status type", choices=[{"value": word, "display_name": word.capitalize()} for word in WORDS]
    ),
    "timestamp": _field("datetime", "Timestamp", read_only=True),
}


def describe(name: str, description: str = "", *, verb: str = "", fields: Fields | None = None) -> Response:
    """The description of an address; the fields of its verb are shown to those who may use it there."""
    shown = {
        "name": name,
        "description": description,
        "renders": ["application/json"],
        "parses": ["application/json", *FORM_TYPES],
    }
    return answer({**shown, "actions": {verb: fields}} if fields else shown)
