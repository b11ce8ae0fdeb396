"""Types of fields that several doors share: texts that every database can keep, and numbers that are numbers."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Strict, StringConstraints

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _on_one_line(text: str) -> str:
    if CONTROL_CHARACTERS.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _printable_lines(text: str) -> str:
    if CONTROL_BUT_LINES.search(text):
        raise ValueError("control characters other than line breaks and tabs are not allowed")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _whole_number(value: Any) -> Any:
    """JSON has one kind of number, so 60.0 is the whole number 60; a boolean or a text is none."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


Line = Annotated[str, AfterValidator(_on_one_line)]
Name = Annotated[Line, StringConstraints(min_length=1, max_length=255), AfterValidator(_not_blank)]
Prose = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_printable_lines)]
WholeNumber = Annotated[int, Strict(), BeforeValidator(_whole_number)]
Flag = Annotated[bool, Strict()]
