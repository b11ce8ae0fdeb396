"""A connector's configuration as a form: fields drawn from its JSON Schema, and read back into a configuration.

A field's name is its place in the configuration, such as `config.ssl.mode`, so that errors find their field.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

Schema = Mapping[str, Any]
PREFIX = "config"
NOTHING = "none"  # the variant that connectors call so is the usual one
_ABSENT: Any = object()


class Kind(StrEnum):
    """How a field is shown."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    SECRET = "secret"  # noqa: S105 - a kind of field
    LINES = "lines"
    PAIRS = "pairs"
    JSON = "json"
    GROUP = "group"
    VARIANTS = "variants"


@dataclass(frozen=True)
class SpecField:
    """One field; with `kind` GROUP an object with fields of its own; with VARIANTS one of `fields`, each a group.

    `is_set` tells that its value is not the usual one; `example` is what a JSON field may look like. `storages` are the
    kinds of storage that alone have the field; empty where all have it.
    """

    name: str
    label: str
    help: str
    kind: Kind
    value: Any
    is_required: bool
    choices: tuple[str, ...] = ()
    fields: tuple["SpecField", ...] = ()
    errors: tuple[str, ...] = ()
    is_set: bool = False
    example: str = ""
    storages: tuple[str, ...] = ()

    @property
    def is_noted(self) -> bool:
        """Whether it, or one of its fields, holds an error."""
        return bool(self.errors) or any(item.is_noted for item in self.fields)

    @property
    def is_wide(self) -> bool:
        """Whether it takes a row of the form by itself."""
        return self.kind in (Kind.GROUP, Kind.VARIANTS)

    @property
    def is_usual(self) -> bool:
        """Whether nobody misses it when it is folded away."""
        return not self.is_noted and not self.is_set


def fold(fields: Sequence[SpecField]) -> tuple[list[SpecField], list[SpecField]]:
    """The fields that everybody fills in, and those after the last of them, when they are worth being folded away."""
    needed = [at for at, one in enumerate(fields) if one.is_required or one.kind in (Kind.SECRET, Kind.VARIANTS)]
    end = needed[-1] + 1 if needed else len(fields)
    return (list(fields[:end]), list(fields[end:])) if len(fields) - end > 1 else (list(fields), [])


def draw_fields(schema: Schema, config: Mapping[str, Any], errors: Mapping[str, list[str]]) -> list[SpecField]:
    """The fields of a connector with the values of `config` and the messages of `errors`, by field name."""
    return list(_draw_object(schema, schema, PREFIX, config, errors))


def read_fields(schema: Schema, form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The configuration that was sent, and what could not be read, by field name."""
    errors: dict[str, list[str]] = {}
    return _read_object(schema, schema, PREFIX, form, errors), errors


def name_errors(problems: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The messages of a validation (`loc`, `msg`) by the name of the field that each belongs to."""
    named: dict[str, list[str]] = {}
    for problem in problems:
        place = [str(part) for part in problem.get("loc", ()) if part not in ("body", PREFIX)]
        message = str(problem.get("msg", "")).removeprefix("Value error, ")
        named.setdefault(".".join([PREFIX, *place]), []).append(message[:1].upper() + message[1:])
    return named


def _draw_object(
    root: Schema, schema: Schema, prefix: str, config: Mapping[str, Any], errors: Mapping[str, list[str]]
) -> Iterator[SpecField]:
    required = schema.get("required", ())
    for name, described in schema.get("properties", {}).items():
        one = _resolved(root, described)
        if "const" not in one:
            yield _draw(root, one, f"{prefix}.{name}", config.get(name, _ABSENT), name in required, errors)


def _draw(
    root: Schema, schema: Schema, name: str, value: Any, is_required: bool, errors: Mapping[str, list[str]]
) -> SpecField:
    kind = _kind_of(schema)
    shown = schema.get("default") if value is _ABSENT else value
    inner = _inner(root, schema, name, shown, errors)
    return SpecField(
        name=name,
        label=schema.get("title", name.rsplit(".", 1)[-1]),
        help=schema.get("description", ""),
        kind=kind,
        value=_as_text(shown, kind),
        is_required=is_required,
        choices=tuple(_variants(schema)) or tuple(str(word) for word in _plain(schema).get("enum", ())),
        fields=inner,
        errors=tuple(errors.get(name, ())),
        is_set=any(one.is_set for one in inner)
        if kind is Kind.GROUP
        else value is not _ABSENT and value != schema.get("default") and value not in (None, "", [], {}),
        example=_example(root, schema) if kind is Kind.JSON else "",
        storages=tuple(schema.get("x-storage", ())),
    )


def _inner(
    root: Schema, schema: Schema, name: str, shown: Any, errors: Mapping[str, list[str]]
) -> tuple[SpecField, ...]:
    """The fields of a group, or a group for each variant."""
    given = shown if isinstance(shown, Mapping) else {}
    if _kind_of(schema) is Kind.GROUP:
        return tuple(_draw_object(root, schema, name, given, errors))
    found = []
    for word, variant in _variants(schema).items():
        one = _resolved(root, variant)
        config = given if given.get(_tag(schema)) == word else {}
        inner = tuple(_draw_object(root, one, f"{name}.{word}", config, errors))
        found.append(
            SpecField(
                f"{name}.{word}", word.replace("_", " "), one.get("description", ""), Kind.GROUP, "", True, (), inner
            )
        )
    return tuple(found)


def _variants(schema: Schema) -> dict[str, Schema]:
    """The shapes that an object may have, by the word that tells them apart."""
    mapping: Mapping[str, str] = _plain(schema).get("discriminator", {}).get("mapping", {})
    nothing_first = sorted(mapping, key=lambda word: word != NOTHING)
    return {word: {"$ref": mapping[word]} for word in nothing_first}


def _tag(schema: Schema) -> str:
    return str(_plain(schema)["discriminator"]["propertyName"])


def _example(root: Schema, schema: Schema) -> str:
    """What a list of objects looks like: one with the keys that it needs, and the first that it may have."""
    item = _resolved(root, _plain(schema).get("items", {}))
    names = list(item.get("properties", {}))
    wanted = [name for name in names if name in item.get("required", ())] or names[:1]
    more = [name for name in names if name not in wanted and item["properties"][name].get("type") == "string"][:1]
    return orjson.dumps([dict.fromkeys([*wanted, *more], "…")]).decode() if names else ""


def _as_text(value: Any, kind: Kind) -> Any:
    if kind is Kind.SWITCH:
        return bool(value)
    if kind is Kind.LINES and isinstance(value, list):
        return "\n".join(str(item) for item in value)
    if kind is Kind.PAIRS and isinstance(value, Mapping):
        return "\n".join(f"{name}: {item}" for name, item in value.items())
    if kind is Kind.VARIANTS:
        return value.get("type", "") if isinstance(value, Mapping) else ""
    if kind is Kind.JSON and value not in (None, "", [], {}) and not isinstance(value, str):
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return "" if value is None or value in ([], {}) or kind is Kind.GROUP else value


def _read_object(
    root: Schema, schema: Schema, prefix: str, form: Mapping[str, str], errors: dict[str, list[str]]
) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, described in schema.get("properties", {}).items():
        one = _resolved(root, described)
        if "const" in one:
            config[name] = one["const"]
            continue
        value = _read(root, one, f"{prefix}.{name}", form, errors)
        if value is not _ABSENT:
            config[name] = value
    return config


def _read(root: Schema, schema: Schema, name: str, form: Mapping[str, str], errors: dict[str, list[str]]) -> Any:
    kind = _kind_of(schema)
    if kind is Kind.GROUP:
        return _read_object(root, schema, name, form, errors) or _ABSENT
    if kind is Kind.VARIANTS:
        word = form.get(f"{name}.{_tag(schema)}", "")
        chosen = _variants(schema).get(word)
        return _read_object(root, _resolved(root, chosen), f"{name}.{word}", form, errors) if chosen else _ABSENT
    if kind is Kind.SWITCH:
        return name in form if f"{name}.shown" in form else _ABSENT
    text = form.get(name, "")
    text = text if kind is Kind.SECRET else text.strip()
    if not text:
        return _ABSENT
    if kind is Kind.NUMBER:
        return _number(text)
    if kind is Kind.LINES:
        return [line.strip() for line in text.splitlines() if line.strip()]
    if kind is Kind.PAIRS:
        return _pairs(text, name, errors)
    return _json(text, name, errors) if kind is Kind.JSON else text


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text  # the connector's own check says what is wrong with it


def _pairs(text: str, name: str, errors: dict[str, list[str]]) -> Any:
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in lines):
        errors[name] = ["Each line is a name, a colon and a value."]
        return _ABSENT
    return {key.strip(): value.strip() for key, _, value in lines}


def _json(text: str, name: str, errors: dict[str, list[str]]) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        errors[name] = [f"This is not JSON: {error}."]
        return _ABSENT


def _resolved(root: Schema, schema: Schema) -> Schema:
    """The schema that a `$ref` points to, with the title, help and default that stand beside it."""
    target = _plain(schema)
    if "$ref" not in target:
        return schema
    found = root["$defs"][target["$ref"].rsplit("/", 1)[-1]]
    beside = {word: schema[word] for word in ("title", "description", "default") if word in schema}
    return {**found, **beside}


def _plain(schema: Schema) -> Schema:
    """Without the `null` that an optional field may also be."""
    variants = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return variants[0] if len(variants) == 1 else schema


def _kind_of(schema: Schema) -> Kind:
    one = _plain(schema)
    if "enum" in one:
        return Kind.CHOICE
    if one.get("format") == "password":
        return Kind.SECRET
    if _variants(schema):
        return Kind.VARIANTS
    if one.get("properties"):
        return Kind.GROUP
    if one.get("type") == "array" and one.get("items", {}).get("type") == "string":
        return Kind.LINES
    if one.get("type") == "object" and _is_text(one.get("additionalProperties")):
        return Kind.PAIRS
    return _KINDS.get(str(one.get("type", "")), Kind.JSON)


def _is_text(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "string"


_KINDS = {"string": Kind.TEXT, "boolean": Kind.SWITCH, "integer": Kind.NUMBER, "number": Kind.NUMBER}
