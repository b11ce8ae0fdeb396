"""Bodies as Django REST framework reads them: JSON, forms and multipart, with its words for what is wrong."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import request
from werkzeug.exceptions import UnsupportedMediaType

from webapp.api.lister.refusal import Wrong
from webapp.api.words import STATUS_WORDS, Contract
from webapp.runs.states import RunState

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
LONGEST_NAME = 255
#: The words that callers may send; cancelled is no word of this contract, whose FAILED is a failed run.
STATES: dict[str, RunState] = {
    word: state for state, word in STATUS_WORDS[Contract.LISTER].items() if state is not RunState.CANCELLED
}
WORDS = list(STATES)
MISSING = object()


class Unfit(ValueError):
    """A value that its field cannot take, with every reason."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = list(reasons)


@dataclass
class Body:
    """What was sent: fields are taken out of it one by one, and what is wrong with them is said of all at once."""

    values: Mapping[str, Any]
    is_form: bool = False
    is_partial: bool = False
    errors: dict[str, list[str]] = field(default_factory=dict)

    def take(self, name: str, parse: Callable[[Any], Any], *, required: bool) -> Any:
        """The field's value; None when it is absent (and may be) or wrong."""
        value = self.values.get(name, MISSING)
        if self.is_form and value == "" and not required:
            value = MISSING  # a form sends the fields that nobody filled in
        if value is MISSING:
            if required and not self.is_partial:
                self.errors[name] = ["This field is required."]
            return None
        try:
            if value is None:
                raise Unfit("This field may not be null.")
            return parse(value)
        except Unfit as error:
            self.errors[name] = error.reasons
            return None

    def check(self) -> None:
        """Raise Wrong with all that was wrong with the fields taken so far."""
        if self.errors:
            raise Wrong(self.errors)


def read_body(*, is_partial: bool = False) -> Body:
    """The body of the request; an empty one has no fields. Raises Wrong, 415."""
    raw = request.get_data(cache=True)
    if not raw:
        return Body({}, request.mimetype in FORM_TYPES, is_partial)
    if request.mimetype == "application/json":
        return Body(_object_in(raw), is_partial=is_partial)
    if request.mimetype not in FORM_TYPES:
        raise UnsupportedMediaType(f'Unsupported media type "{request.content_type or ""}" in request.')
    if request.mimetype == "multipart/form-data" and not request.mimetype_params.get("boundary"):
        raise Wrong({"detail": "Multipart form parse error - Invalid boundary in multipart: None"})
    last = {name: values[-1] for name, values in request.form.lists()}
    return Body({**last, **request.files.to_dict()}, is_form=True, is_partial=is_partial)


def _object_in(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except ValueError as error:
        raise Wrong({"detail": f"JSON parse error - {error}"}) from error
    except RecursionError:
        raise Wrong({"detail": "JSON parse error - nested too deeply"}) from None
    if found is None:
        raise Wrong({"non_field_errors": ["No data provided"]})
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise Wrong({"non_field_errors": [f"Invalid data. Expected a dictionary, but got {kind}."]})
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


# --- fields -----------------------------------------------------------------------------------------------------------


def name_of(value: Any) -> str:
    """A job's name: numbers become text, blanks around it are cut. Raises Unfit."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unfit("Not a valid string.")
    text = _as_text(value).strip()
    if not text:
        raise Unfit("This field may not be blank.")
    reasons = []
    if len(text) > LONGEST_NAME:
        reasons.append(f"Ensure this field has no more than {LONGEST_NAME} characters.")
    if "\x00" in text:
        reasons.append("Null characters are not allowed.")
    if lone := next((one for one in text if "\ud800" <= one <= "\udfff"), None):
        reasons.append(f"Surrogate characters are not allowed: U+{ord(lone):X}.")
    if reasons:
        raise Unfit(*reasons)
    return text


def _as_text(value: str | float) -> str:
    try:
        return str(value)
    except ValueError:  # a number with more digits than Python writes out
        raise Unfit(f"Ensure this field has no more than {LONGEST_NAME} characters.") from None


def key_of(value: Any) -> int:
    """The integer id that a field refers to. Raises Unfit."""
    if value == "":
        raise Unfit("This field may not be null.")
    try:
        if isinstance(value, bool):
            raise TypeError
        return int(value)
    except OverflowError:
        raise no_such_key(value) from None
    except (TypeError, ValueError):
        raise Unfit(f"Incorrect type. Expected pk value, received {type(value).__name__}.") from None


def no_such_key(value: Any) -> Unfit:
    """Nothing has this id."""
    return Unfit(f'Invalid pk "{value}" - object does not exist.')


def state_of(value: Any) -> RunState:
    """The state that a word of this contract means. Raises Unfit."""
    if not isinstance(value, str) or value not in STATES:
        raise Unfit(f'"{_shown(value)}" is not a valid choice.')
    return STATES[value]


def _shown(value: Any) -> str:
    # An answer is UTF-8, which has no lone surrogates; and it need not repeat a whole document.
    return str(value)[:200].encode("utf-8", "replace").decode()
