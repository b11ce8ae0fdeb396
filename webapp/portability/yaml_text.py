"""The part of YAML that JSON values need, read without surprises and always written the same way.

Reading takes no tags, no anchors, no aliases: nothing in a file names a Python object or unfolds into more than it is.
"""

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from webapp.errors import Invalid

LARGEST_FILE = 16 * 1024 * 1024
DEEPEST = 64
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,19})")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?")
_ONE_LINE = 1_000_000


def write_yaml(value: Any) -> str:
    """The JSON value as YAML: key order kept, no line folded, the same text for the same value."""
    import yaml

    return str(
        yaml.dump(
            value,
            Dumper=_dumper(),
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=False,
            width=_ONE_LINE,
        )
    )


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Writes what is used twice twice."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, _write_text)
    return Dumper


def _write_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def read_yaml(data: bytes) -> Any:
    """The JSON value in a file of YAML. Raises Invalid that names the line, or the place as `jobs[2].schedule`."""
    import yaml

    if len(data) > LARGEST_FILE:
        raise Invalid(f"A project's file has at most {LARGEST_FILE // 1024**2} MiB.", field="file")
    try:
        return _Reader(yaml.parse(data.decode(), Loader=yaml.CSafeLoader)).read()
    except UnicodeDecodeError as error:
        raise Invalid("This is no text in UTF-8.", field="file") from error
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise Invalid(f"{where}this is no YAML: {error.problem}.", field="file") from error
    except yaml.YAMLError as error:
        raise Invalid("This is no YAML: it holds characters that YAML does not allow.", field="file") from error


class _Reader:
    """Builds the value from the parser's events, of which there are no more than the file has characters."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events

    def read(self) -> Any:
        import yaml

        value: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise Invalid(_at(event, "a second document begins; a project's file has one."), field="file")
                value = self._value(next(self._events), depth=0)
        return value

    def _value(self, event: Any, *, depth: int) -> Any:
        import yaml

        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise Invalid(_at(event, "anchors and aliases are not read; write the value out."), field="file")
        if event.tag is not None:
            raise Invalid(_at(event, f"the tag {event.tag[:60]} is not read; leave it out."), field="file")
        if depth > DEEPEST:
            raise Invalid(_at(event, f"values are nested deeper than {DEEPEST} levels."), field="file")
        if isinstance(event, yaml.ScalarEvent):
            return _plain(event) if event.implicit[0] else _text(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, depth=depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        return self._mapping(depth)

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _mapping(self, depth: int) -> dict[str, Any]:
        import yaml

        found: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or event.anchor is not None:
                raise Invalid(_at(event, "a key must be a plain text."), field="file")
            key = _text(event)
            if key in found:
                raise Invalid(_at(event, f"the key {key[:60]!r} is there twice."), field="file")
            found[key] = self._value(next(self._events), depth=depth + 1)
        return found


def _plain(event: Any) -> Any:
    """What a text without quotes means, in the words of YAML 1.1 that JSON has values for."""
    text: str = event.value
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        number = int(text)
        if not -(2**63) <= number < 2**64:
            raise Invalid(_at(event, "this number has more than 64 bits."), field="file")
        return number
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise Invalid(_at(event, "this number is too large."), field="file")
        return value
    return _text(event)


def _text(event: Any) -> str:
    try:
        event.value.encode()
    except UnicodeEncodeError as error:
        raise Invalid(_at(event, "this text holds half a character (a lone surrogate)."), field="file") from error
    return str(event.value)


def _at(event: Any, message: str) -> str:
    return f"line {event.start_mark.line + 1}: {message}"
