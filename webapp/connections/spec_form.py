"""A connector's configuration as a form: fields drawn from its JSON Schema, and read back into a configuration.

A field's name is its place in the configuration, such as `config.ssl.mode` or `config.streams.0.path`, so that errors
find their field.
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
    LIST = "list"
    GROUP = "group"
    VARIANTS = "variants"


@dataclass(frozen=True)
class SpecField:
    """One field; with `kind` GROUP an object with fields of its own; with VARIANTS one of `fields`, each a group;
    with LIST any number of them, and `fields` are those that there are.

    `is_set` tells that its value is not the usual one. `storages` are the kinds of storage or catalog that alone
    have the field; empty where all have it. Fields of one `section` are folded away together while none is set.
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
    storages: tuple[str, ...] = ()
    section: str = ""

    @property
    def is_noted(self) -> bool:
        """Whether it, or one of its fields, holds an error."""
        return bool(self.errors) or any(item.is_noted for item in self.fields)

    @property
    def is_wide(self) -> bool:
        """Whether it takes a row of the form by itself."""
        return self.kind in (Kind.GROUP, Kind.VARIANTS, Kind.LIST)

    @property
    def item_word(self) -> str:
        """What one of a list is called: stream for Streams."""
        return self.label.removesuffix("s").lower()

    @property
    def sections(self) -> dict[str, list["SpecField"]]:
        """Its fields by their section; those of none come first."""
        found: dict[str, list[SpecField]] = {"": []}
        for one in self.fields:
            found.setdefault(one.section, []).append(one)
        return found

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
    """The configuration that was sent, and what could not be read, by field name.

    With `do` in the form, "add config.streams" or "remove config.streams.2", a list is one longer or shorter than sent.
    """
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
        choices=tuple(one.name.rpartition(".")[2] for one in inner)
        if kind is Kind.VARIANTS
        else tuple(str(word) for word in _plain(schema).get("enum", ())),
        fields=inner,
        errors=tuple(errors.get(name, ())),
        is_set=any(one.is_set for one in inner)
        if kind is Kind.GROUP
        else value is not _ABSENT and value != schema.get("default") and value not in (None, "", [], {}),
        storages=tuple(schema.get("x-storage", ())),
        section=schema.get("x-section", ""),
    )


def _inner(
    root: Schema, schema: Schema, name: str, shown: Any, errors: Mapping[str, list[str]]
) -> tuple[SpecField, ...]:
    """The fields of a group, or a group for each variant, or for each that is in a list."""
    given = shown if isinstance(shown, Mapping) else {}
    if _kind_of(schema) is Kind.GROUP:
        return tuple(_draw_object(root, schema, name, given, errors))
    if _kind_of(schema) is Kind.LIST:
        listed = shown if isinstance(shown, list) else [{}] * _plain(schema).get("minItems", 0)
        item = _resolved(root, _plain(schema)["items"])
        return tuple(_group(root, item, f"{name}.{at}", str(at + 1), one, errors) for at, one in enumerate(listed))
    # What may be left open has a first variant without a name and without fields.
    found = [SpecField(f"{name}.", "", "", Kind.GROUP, "", False)] if _may_be_null(schema) else []
    for word, variant in _variants(schema).items():
        config = given if given.get(_tag(schema)) == word else {}
        found.append(_group(root, _resolved(root, variant), f"{name}.{word}", word.replace("_", " "), config, errors))
    return tuple(found)


def _group(
    root: Schema, schema: Schema, name: str, label: str, given: Any, errors: Mapping[str, list[str]]
) -> SpecField:
    inner = tuple(_draw_object(root, schema, name, given if isinstance(given, Mapping) else {}, errors))
    described = schema.get("description", "")
    return SpecField(name, label, described, Kind.GROUP, "", True, (), inner, tuple(errors.get(name, ())))


def _variants(schema: Schema) -> dict[str, Schema]:
    """The shapes that an object may have, by the word that tells them apart."""
    mapping: Mapping[str, str] = _plain(schema).get("discriminator", {}).get("mapping", {})
    nothing_first = sorted(mapping, key=lambda word: word != NOTHING)
    return {word: {"$ref": mapping[word]} for word in nothing_first}


def _tag(schema: Schema) -> str:
    return str(_plain(schema)["discriminator"]["propertyName"])


def _as_text(value: Any, kind: Kind) -> Any:
    if kind is Kind.SWITCH:
        return bool(value)
    if kind is Kind.LINES and isinstance(value, list):
        return "\n".join(str(item) for item in value)
    if kind is Kind.PAIRS and isinstance(value, Mapping):
        return "\n".join(_pair_lines(value))
    if kind is Kind.VARIANTS:
        return value.get("type", "") if isinstance(value, Mapping) else ""
    if kind is Kind.JSON and value not in (None, "", [], {}) and not isinstance(value, str):
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return "" if value is None or value in ([], {}) or kind in (Kind.GROUP, Kind.LIST) else value


def _pair_lines(pairs: Mapping[str, Any]) -> Iterator[str]:
    """A line for each value; a name that has several stands on as many lines."""
    for name, given in pairs.items():
        for value in given if isinstance(given, list) else [given]:
            yield f"{name}: {str(value).lower() if isinstance(value, bool) else value}"


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
    if kind is Kind.LIST:
        return _read_list(root, schema, name, form, errors) or _ABSENT
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


def _read_list(
    root: Schema, schema: Schema, name: str, form: Mapping[str, str], errors: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """The items as they were sent, after what the button `do` says: one more, or one less."""
    item, verb = _resolved(root, _plain(schema)["items"]), form.get("do", "")
    kept = [at for at in _indexes(form, name) if verb != f"remove {name}.{at}"]
    added: list[dict[str, Any]] = [{}] if verb == f"add {name}" else []
    return [_read_object(root, item, f"{name}.{at}", form, errors) for at in kept] + added


def _indexes(form: Mapping[str, str], name: str) -> list[int]:
    """The numbers of the items of a list that the form has fields of."""
    found = {one.removeprefix(f"{name}.").partition(".")[0] for one in form if one.startswith(f"{name}.")}
    return sorted(int(one) for one in found if one.isdecimal())


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
        return text  # shown again as it was typed
    found: dict[str, list[str]] = {}
    for key, _, value in lines:
        found.setdefault(key.strip(), []).append(value.strip())
    return {key: values if len(values) > 1 else values[0] for key, values in found.items()}


def _json(text: str, name: str, errors: dict[str, list[str]]) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        errors[name] = [f"This is not JSON: {error}."]
        return text


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
    if one.get("type") == "array":
        return Kind.LINES if _is_text(one.get("items")) else Kind.LIST if "$ref" in one.get("items", {}) else Kind.JSON
    if one.get("type") == "object" and _is_text(one.get("additionalProperties")):
        return Kind.PAIRS
    return _KINDS.get(str(one.get("type", "")), Kind.JSON)


def _is_text(schema: Any) -> bool:
    """Whether text is allowed, alone or beside other types."""
    return isinstance(schema, Mapping) and "string" in [one.get("type") for one in (schema, *schema.get("anyOf", ()))]


def _may_be_null(schema: Schema) -> bool:
    return any(one.get("type") == "null" for one in schema.get("anyOf", ()))


_KINDS = {"string": Kind.TEXT, "boolean": Kind.SWITCH, "integer": Kind.NUMBER, "number": Kind.NUMBER}
