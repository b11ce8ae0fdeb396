"""The OpenAPI 3.1 document: addresses from the URL map, words from the docstrings, types from the chapters."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flask import Flask
from pydantic import TypeAdapter
from werkzeug.routing import Rule

from webapp.api.openapi.refusals import RESPONSES, SCHEMAS, refusals_of
from webapp.api.openapi.told import Chapter, Told
from webapp.edge.idempotency import HEADER, SECRETIVE
from webapp.policy import POLICY, Access

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
ABOUT = """Mission control for data jobs, for machines. Five published contracts are served side by side.

Sign in with `POST /api/v1/login`, and send the JWT as `Authorization: Bearer ...`; or use a service token of an admin.
Every answer carries `X-Request-ID`. Instants are RFC 3339 in UTC. Lists come in pages when `limit` is given: the `Link`
header names the next one. What is polled has an `ETag`. A `POST` with an `Idempotency-Key` does its work once."""


@dataclass(frozen=True)
class Door:
    """One operation: an address, a method, and what is told of it."""

    rule: Rule
    method: str
    chapter: Chapter
    told: Told
    words: str

    @property
    def endpoint(self) -> str:
        return str(self.rule.endpoint)

    @property
    def path(self) -> str:
        """The address with its parameters in braces."""
        return _PARAMETER.sub(r"{\1}", self.rule.rule)

    @property
    def parameters(self) -> list[str]:
        """The parameters in the address."""
        return _PARAMETER.findall(self.rule.rule)

    @property
    def is_public(self) -> bool:
        """Whether nobody has to be signed in."""
        return POLICY.get(self.endpoint) is Access.PUBLIC


def list_doors(app: Flask, chapters: tuple[Chapter, ...]) -> list[Door]:
    """Every operation that a chapter tells of, in the order of the chapters."""
    rules: dict[str, list[Rule]] = {}
    for rule in app.url_map.iter_rules():
        rules.setdefault(rule.endpoint, []).append(rule)
    return [
        Door(rule, method, chapter, told, _words(app, rule.endpoint))
        for chapter in chapters
        for name, told in chapter.doors.items()
        for rule in sorted(rules.get(name.partition(" ")[0], ()), key=lambda rule: rule.rule)
        for method in METHODS
        if method in (rule.methods or ()) and name.partition(" ")[2] in ("", method)
    ]


def _words(app: Flask, endpoint: str) -> str:
    return " ".join((app.view_functions[endpoint].__doc__ or "").split())


class Document:
    """The document of an application, made at first use."""

    def __init__(self, app: Flask, chapters: tuple[Chapter, ...]) -> None:
        self._chapters = chapters
        self.doors = list_doors(app, chapters)
        self._version = str(app.config.get("VERSION", "1.0"))

    @cached_property
    def content(self) -> dict[str, Any]:
        """The document as JSON values."""
        paths: dict[str, dict[str, Any]] = {}
        for door in self.doors:
            paths.setdefault(door.path, {})[door.method.lower()] = self._operation(door)
        return {
            "openapi": "3.1.0",
            "info": {"title": "Hohmann", "version": self._version, "description": ABOUT},
            "servers": [{"url": "/"}],
            "tags": [{"name": chapter.name, "description": chapter.about} for chapter in self._chapters],
            "security": [{"bearer": []}, {"cookie": []}],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "A JWT or a service token."},
                    "cookie": {"type": "apiKey", "in": "cookie", "name": "olake-session", "description": "A log-in."},
                },
                "schemas": {**self._schemas[1].get("$defs", {}), **SCHEMAS},
                "responses": RESPONSES,
            },
        }

    @cached_property
    def _schemas(self) -> tuple[Mapping[Any, Any], dict[str, Any]]:
        wanted = [(key, mode, TypeAdapter(kind)) for key, mode, kind in self._types()]
        return TypeAdapter.json_schemas(wanted, ref_template=REF)  # type: ignore[arg-type]

    def _types(self) -> Iterator[tuple[str, str, Any]]:
        seen: set[str] = set()
        for door in self.doors:
            told = door.told
            kinds = [("serialization", kind) for kind in (told.answer, *told.also.values())]
            for mode, kind in [*kinds, ("validation", told.body), ("validation", told.query)]:
                if kind is not None and (key := f"{mode} {kind!r}") not in seen:
                    seen.add(key)
                    yield key, mode, kind

    def _schema(self, kind: Any, mode: str) -> dict[str, Any]:
        found: dict[str, Any] = self._schemas[0][f"{mode} {kind!r}", mode]
        return found

    def _operation(self, door: Door) -> dict[str, Any]:
        told = door.told
        operation: dict[str, Any] = {
            "operationId": self._name(door),
            "tags": [door.chapter.name],
            "summary": door.endpoint.partition(".")[2].replace("_", " ").capitalize(),
            "description": door.words,
            "parameters": [*self._path_parameters(door), *self._query_parameters(door), *_header_parameters(door)],
            "responses": self._responses(door),
        }
        if told.body is not None:
            operation["requestBody"] = self._body(told)
        if door.is_public:
            operation["security"] = []
        return operation

    def _name(self, door: Door) -> str:
        same = [other for other in self.doors if other.endpoint == door.endpoint]
        number = next(at for at, other in enumerate(same) if (other.path, other.method) == (door.path, door.method))
        return door.endpoint.replace(".", "_") + (f"_{number + 1}" if number else "")

    def _path_parameters(self, door: Door) -> Iterator[dict[str, Any]]:
        for name in door.parameters:
            yield {"name": name, "in": "path", "required": True, "schema": _kind_of_parameter(name)}

    def _query_parameters(self, door: Door) -> Iterator[dict[str, Any]]:
        if door.told.query is None or (door.method == "POST" and door.told.body is door.told.query):
            return
        schema = self._schema(door.told.query, "validation")
        if "$ref" in schema:
            schema = self._schemas[1]["$defs"][schema["$ref"].rpartition("/")[2]]
        for name, field in schema.get("properties", {}).items():
            yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}

    def _body(self, told: Told) -> dict[str, Any]:
        content: dict[str, Any] = {"schema": self._schema(told.body, "validation")}
        if told.example is not None:
            content["example"] = told.example
        return {"required": not told.body_is_optional, "content": dict.fromkeys(told.body_media, content)}

    def _responses(self, door: Door) -> dict[str, Any]:
        told = door.told
        responses = {str(told.status): self._good(told, told.answer, told.shown)}
        responses |= {str(status): self._good(told, kind, None) for status, kind in told.also.items()}
        if door.method == "GET" and told.status == 200 and "application/json" in told.media:
            responses["304"] = {"description": "Nothing changed since the ETag in If-None-Match."}
        for status in refusals_of(door.method, told, door.chapter.dialect, is_public=door.is_public):
            responses.setdefault(str(status), {"$ref": f"#/components/responses/{door.chapter.dialect}{status}"})
        if door.parameters:
            responses.setdefault("404", {"$ref": f"#/components/responses/{door.chapter.dialect}404"})
        return dict(sorted(responses.items()))

    def _good(self, told: Told, kind: Any, shown: Any) -> dict[str, Any]:
        headers = {"X-Request-ID": {"schema": {"type": "string"}, "description": "To quote when you ask about a call."}}
        if kind is None:
            return {"description": "Done; the answer is empty.", "headers": headers}
        content: dict[str, Any] = {"schema": self._schema(kind, "serialization")}
        if shown is not None:
            content["example"] = shown
        media = {name: _TEXT if name.startswith("text/") else content for name in told.media}
        return {"description": "Done.", "headers": headers, "content": media}


_TEXT = {"schema": {"type": "string"}}


def _kind_of_parameter(name: str) -> dict[str, Any]:
    if name in {"number", "pk"}:
        return {"type": "integer", "minimum": 1}
    if name.endswith("_id"):
        return {"type": "string", "format": "uuid"}
    if name == "project":
        return {"type": "string", "examples": ["olake"]}
    return {"type": "string"}


def _header_parameters(door: Door) -> Iterator[dict[str, Any]]:
    if door.method == "POST" and not door.is_public and door.endpoint.partition(".")[0] not in SECRETIVE:
        yield {
            "name": HEADER, "in": "header", "required": False,
            "description": "The same call sent again with the same key does its work once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }  # fmt: skip
