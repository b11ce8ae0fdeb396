"""The OpenAPI document as people read it: chapters of calls, each with its fields in a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

DEPTH = 3


@dataclass(frozen=True)
class Field:
    """A row of a table of fields."""

    name: str
    kind: str
    is_required: bool
    words: str
    depth: int = 0
    place: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer: its status, what it means, its fields and an example."""

    status: str
    words: str
    fields: list[Field]
    example: str


@dataclass(frozen=True)
class Call:
    """An operation."""

    name: str
    method: str
    path: str
    words: str
    is_public: bool
    parameters: list[Field]
    body: list[Field]
    example: str
    replies: list[Reply]
    refusals: list[Reply]


@dataclass(frozen=True)
class ChapterRead:
    """The calls of one contract."""

    name: str
    about: str
    calls: list[Call]


def read_chapters(document: Mapping[str, Any]) -> list[ChapterRead]:
    """The document's operations by their tags."""
    reader = _Reader(document)
    calls: dict[str, list[Call]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            calls[operation["tags"][0]].append(reader.call(path, method, operation))
    return [ChapterRead(tag["name"], tag["description"], calls[tag["name"]]) for tag in document["tags"]]


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]
        self._responses = document["components"]["responses"]

    def call(self, path: str, method: str, operation: Mapping[str, Any]) -> Call:
        replies = [self._reply(status, response) for status, response in operation["responses"].items()]
        content = _content(operation.get("requestBody", {}))
        return Call(
            name=operation["operationId"],
            method=method.upper(),
            path=path,
            words=operation["description"],
            is_public=operation.get("security") == [],
            parameters=[self._parameter(item) for item in operation["parameters"]],
            body=self._fields(content.get("schema", {})),
            example=_pretty(content.get("example")),
            replies=[reply for reply in replies if reply.status < "400"],
            refusals=[reply for reply in replies if reply.status >= "400"],
        )

    def _reply(self, status: str, response: Mapping[str, Any]) -> Reply:
        if "$ref" in response:
            response = self._responses[response["$ref"].rpartition("/")[2]]
        content = _content(response)
        fields = self._fields(content.get("schema", {})) if status < "400" else []
        return Reply(status, response["description"], fields, _pretty(content.get("example")))

    def _parameter(self, parameter: Mapping[str, Any]) -> Field:
        words = parameter.get("description", "")
        return Field(
            parameter["name"], self._kind(parameter["schema"]), parameter["required"], words, place=parameter["in"]
        )

    def _fields(self, schema: Mapping[str, Any], depth: int = 0) -> list[Field]:
        schema = self._open(schema)
        if schema.get("type") == "array":
            return self._fields(schema.get("items", {}), depth)
        choices = [self._open(choice) for choice in schema.get("anyOf", ())]
        if "properties" not in schema and choices:
            found = next((choice for choice in choices if choice.get("type") in {"object", "array"}), {})
            return self._fields(found, depth)
        rows: list[Field] = []
        for name, field in schema.get("properties", {}).items():
            words = str(field.get("description", ""))
            rows.append(Field(name, self._kind(field), name in schema.get("required", ()), words, depth))
            if depth + 1 < DEPTH:
                rows += self._fields(field, depth + 1)
        return rows

    def _open(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        return self._schemas[reference.rpartition("/")[2]] if reference else schema

    def _kind(self, schema: Mapping[str, Any]) -> str:
        schema = self._open(schema)
        if "const" in schema:
            return _pretty(schema["const"])
        if "enum" in schema:
            return " | ".join(str(value) for value in schema["enum"])
        if "anyOf" in schema:
            return " | ".join(dict.fromkeys(self._kind(choice) for choice in schema["anyOf"]))
        if schema.get("type") == "array":
            return f"array of {self._kind(schema.get('items', {}))}"
        kind = schema.get("format") or schema.get("type") or "any"
        return (" | ".join(kind) if isinstance(kind, list) else str(kind)) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    parts = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"), ("minLength", "length ≥"), ("maxLength", "length ≤"))
        if key in schema
    ]
    return f", {', '.join(parts)}" if parts else ""


def _content(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(iter(holder.get("content", {}).values()), {})
    return found


def _pretty(value: Any) -> str:
    return "" if value is None else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
