"""Contract 002's specs and versions: which connectors there are, and the form that each wants filled in."""

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response
from pydantic import BaseModel, ConfigDict

from webapp.api.bodies import read_query
from webapp.api.olake.connections import DESTINATIONS, SOURCES, Version, Word
from webapp.api.olake.door import door
from webapp.api.olake.envelope import as_text, read_any_body, success
from webapp.connections.configs import spec_class
from webapp.connections.models import ConnectionRole
from webapp.engine.connectors.registry import VERSION
from webapp.redaction import is_secret


class SpecQuery(BaseModel):
    """Which connector's form is wanted; an empty version is the newest."""

    model_config = ConfigDict(extra="ignore")

    type: Word
    version: Version = ""


@door.route("/sources/spec", methods=["GET", "POST"], defaults=SOURCES, endpoint="source_spec")
@door.route("/destinations/spec", methods=["GET", "POST"], defaults=DESTINATIONS, endpoint="destination_spec")
def show_spec(role: ConnectionRole) -> Response:
    """The connector's own JSON Schema, and hints for its form in a string; asked by GET with a body, or by POST.

    Whichever version is asked for, the answer is of the one that runs here, and says so.
    """
    query = read_any_body(SpecQuery)
    schema = spec_class(role, query.type).model_json_schema()
    spec = {"jsonschema": schema, "uischema": as_text(ui_hints(schema))}
    return success({"type": query.type.strip().lower(), "version": VERSION, "spec": spec})


@door.get("/sources/versions/", defaults=SOURCES, endpoint="source_versions", strict_slashes=False)
@door.get("/destinations/versions/", defaults=DESTINATIONS, endpoint="destination_versions", strict_slashes=False)
def list_versions(role: ConnectionRole) -> Response:
    """The versions of a connector that this server runs: its own."""
    spec_class(role, read_query(SpecQuery).type)
    return success({"version": [VERSION]})


def ui_hints(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Hints in react-jsonschema-form's words: the order of the fields, secrets hidden, help below each."""
    return _hints(schema, schema.get("$defs", {}), frozenset())


def _hints(part: Mapping[str, Any], known: Mapping[str, Any], above: frozenset[str]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for shape, names in _shapes(part, known, above):
        properties = shape.get("properties", {})
        if properties:
            hints["ui:order"] = [
                *hints.get("ui:order", []),
                *(name for name in properties if name not in hints.get("ui:order", [])),
            ]
        for name, field in properties.items():
            found = _hints(field, known, names)
            if is_secret(name) or field.get("format") == "password":
                found["ui:widget"] = "password"
            if found:
                hints[name] = found
    return hints


def _shapes(
    part: Mapping[str, Any], known: Mapping[str, Any], above: frozenset[str]
) -> Iterator[tuple[Mapping[str, Any], frozenset[str]]]:
    """The objects that a part of a schema may be, with the definitions that lead there, none of them twice."""
    yield part, above
    for choice in [part, *part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())]:
        name = str(choice.get("$ref", "")).rpartition("/")[2]
        if name in known and name not in above:
            yield from _shapes(known[name], known, above | {name})
