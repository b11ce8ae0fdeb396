"""The tasks of a job as a form: fields drawn from the engine's JSON Schemas, and read back into configurations.

A field's name is its place in the API's body, such as `tasks.0.extractor_config.path`, so that errors find their field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

import orjson

from webapp.engine.specs import extractor_json_schemas, loader_json_schemas
from webapp.jobs.models import Task
from webapp.jobs.operations import MAXIMUM_TASKS, TaskDraft, keep_secrets
from webapp.secrets import mask

SIDES = ("extractor_config", "loader_config")
FIRST_TYPES = {"extractor_config": "csv", "loader_config": "duckdb"}
#: Optional fields that many tasks need; the others are folded away.
OFTEN_USED = frozenset({"mode", "key", "bearer_token", "records", "pagination", "header"})
_TASK_NAME = re.compile(r"tasks\.(\d{1,4})\.")

Schema = Mapping[str, Any]


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


@dataclass(frozen=True)
class Field:
    """One field, or with `kind` GROUP a choice of a type with the fields of that type."""

    name: str
    label: str
    help: str
    kind: Kind
    value: Any
    is_required: bool
    is_often_used: bool
    choices: tuple[tuple[str, str], ...] = ()
    fields: tuple["Field", ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def has_more(self) -> bool:
        """Whether some of its fields are folded away."""
        return any(not (item.is_required or item.is_often_used) for item in self.fields)

    @property
    def is_noted(self) -> bool:
        """Whether it, or one of its fields, holds an error."""
        return bool(self.errors) or any(item.is_noted for item in self.fields)


@dataclass(frozen=True)
class TaskView:
    """One task as the form shows it; `origin` is the position of the stored task that it came from, if any."""

    at: int
    origin: str
    extractor: Field
    loader: Field


@dataclass
class TaskDraftForm:
    """One task as the form sent it. `unreadable` holds fields whose text is not even the right sort of value."""

    origin: str = ""
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


@cache
def schemas_of(side: str) -> Mapping[str, Schema]:
    """The JSON Schemas of one side of a task, by type."""
    return extractor_json_schemas() if side == "extractor_config" else loader_json_schemas()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_tasks(form: Mapping[str, str]) -> list[TaskDraftForm]:
    """The tasks that were sent, in their order."""
    numbers = sorted({int(found[1]) for name in form if (found := _TASK_NAME.match(name))})
    return [_read_task(form, number, at) for at, number in enumerate(numbers[:MAXIMUM_TASKS])]


def _read_task(form: Mapping[str, str], number: int, at: int) -> TaskDraftForm:
    task = TaskDraftForm(origin=form.get(f"tasks.{number}.origin", ""))
    for side in SIDES:
        prefix = f"tasks.{number}.{side}"
        kind = form.get(f"{prefix}.type", "")
        schema = schemas_of(side).get(kind) or schemas_of(side)[FIRST_TYPES[side]]
        reader = _Reader(form, schema, task.unreadable)
        task.configs[side] = reader.read_object(schema, prefix, f"tasks.{at}.{side}")
    return task


class _Reader:
    """Reads one side of a task out of a form."""

    def __init__(self, form: Mapping[str, str], root: Schema, unreadable: dict[str, str]) -> None:
        self._form = form
        self._root = root
        self._unreadable = unreadable

    def read_object(self, schema: Schema, prefix: str, shown: str) -> dict[str, Any]:
        config: dict[str, Any] = {"type": schema["properties"]["type"]["const"]}
        for name, described in schema["properties"].items():
            if name == "type":
                continue
            value = self._read(described, f"{prefix}.{name}", f"{shown}.{name}", name in schema.get("required", ()))
            if value is not _ABSENT:
                config[name] = value
        return config

    def _read(self, schema: Schema, name: str, shown: str, is_required: bool) -> Any:
        kind = kind_of(schema)
        if kind is Kind.GROUP:
            return self.read_object(self._chosen(schema, self._form.get(f"{name}.type", "")), name, shown)
        if kind is Kind.SWITCH:
            return _ABSENT if f"{name}.shown" not in self._form else name in self._form
        text = self._form.get(name)
        if text is None:
            return _ABSENT
        if not text.strip() and not (text and kind is Kind.TEXT):
            return "" if _means_empty(schema) and not is_required else _ABSENT
        try:
            return _PARSERS[kind](text, schema)
        except ValueError as error:
            self._unreadable[shown] = str(error)
            return text

    def _chosen(self, schema: Schema, kind: str) -> Schema:
        return chosen_schema(self._root, schema, kind)


_ABSENT = object()


def _means_empty(schema: Schema) -> bool:
    """Whether an empty text says something else than leaving the field out."""
    return bool(schema.get("default")) and schema.get("type") == "string" and "minLength" not in schema


def _parse_text(text: str, schema: Schema) -> Any:
    if _is_one_character(schema):
        return "\t" if text == "\\t" else text
    return text.strip()


def _parse_number(text: str, _schema: Schema) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ValueError("This is a number.") from None


def _parse_lines(text: str, _schema: Schema) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _parse_pairs(text: str, _schema: Schema) -> dict[str, str]:
    pairs = {}
    for line in _parse_lines(text, _schema):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"Each line is a name, a colon and a value; {line[:40]!r} is not.")
        pairs[name.strip()] = value.strip()
    return pairs


def _parse_json(text: str, _schema: Schema) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"This is not JSON: {error}.") from None


_PARSERS = {
    Kind.TEXT: _parse_text,
    Kind.SECRET: _parse_text,
    Kind.CHOICE: _parse_text,
    Kind.NUMBER: _parse_number,
    Kind.LINES: _parse_lines,
    Kind.PAIRS: _parse_pairs,
    Kind.JSON: _parse_json,
}


# --- changing ---------------------------------------------------------------------------------------------------------


def blank_task() -> TaskDraftForm:
    """A new task of the usual types."""
    return TaskDraftForm(configs={side: {"type": FIRST_TYPES[side]} for side in SIDES})


def tasks_of_job(tasks: Sequence[Task]) -> list[TaskDraftForm]:
    """The stored tasks, secrets masked."""
    return [
        TaskDraftForm(origin=str(task.position), configs={SIDES[0]: mask(task.extractor), SIDES[1]: mask(task.loader)})
        for task in tasks
    ]


def rearrange(tasks: list[TaskDraftForm], verb: str) -> list[TaskDraftForm]:
    """The tasks after a button of the form: `add`, `remove.1`, `up.1`, `down.0`; anything else changes nothing."""
    word, _, number = verb.partition(".")
    at = int(number) if number.isdecimal() else -1
    if word == "add" and len(tasks) < MAXIMUM_TASKS:
        return [*tasks, blank_task()]
    if not 0 <= at < len(tasks):
        return tasks
    rest = tasks[:at] + tasks[at + 1 :]
    if word == "remove":
        return rest
    if word in ("up", "down"):
        to = max(0, at - 1) if word == "up" else at + 1
        return [*rest[:to], tasks[at], *rest[to:]]
    return tasks


def as_drafts(tasks: Iterable[TaskDraftForm], stored: Sequence[Task]) -> tuple[TaskDraft, ...]:
    """What the operations take. Masked secrets are those of the stored task that each came from, wherever it is now."""
    before = {str(task.position): task for task in stored}
    drafts = []
    for task in tasks:
        old = before.get(task.origin)
        extractor = keep_secrets(task.configs[SIDES[0]], old.extractor if old else {})
        drafts.append(TaskDraft(extractor, keep_secrets(task.configs[SIDES[1]], old.loader if old else {})))
    return tuple(drafts)


# --- showing ----------------------------------------------------------------------------------------------------------


def draw_tasks(tasks: Sequence[TaskDraftForm], errors: Mapping[str, list[str]]) -> list[TaskView]:
    """The tasks as fields with their values and errors (by field name)."""
    return [
        TaskView(at, task.origin, _draw_side(at, SIDES[0], task, errors), _draw_side(at, SIDES[1], task, errors))
        for at, task in enumerate(tasks)
    ]


def _draw_side(at: int, side: str, task: TaskDraftForm, errors: Mapping[str, list[str]]) -> Field:
    config = task.configs[side]
    schemas = schemas_of(side)
    kind = str(config.get("type", "")).lower()
    schema = schemas.get(kind) or schemas[FIRST_TYPES[side]]
    name = f"tasks.{at}.{side}"
    return Field(
        name=name,
        label="From" if side == SIDES[0] else "To",
        help=schema.get("description", ""),
        kind=Kind.GROUP,
        value=schema["properties"]["type"]["const"],
        is_required=True,
        is_often_used=True,
        choices=tuple((word, one["title"]) for word, one in schemas.items()),
        fields=tuple(_draw_fields(schema, schema, name, config, errors)),
        errors=tuple(errors.get(name, ())),
    )


def _draw_fields(
    root: Schema, schema: Schema, prefix: str, config: Mapping[str, Any], errors: Mapping[str, list[str]]
) -> Iterator[Field]:
    required = schema.get("required", ())
    # What is needed comes first.
    for name, described in sorted(schema["properties"].items(), key=lambda item: item[0] not in required):
        if name != "type":
            is_required = name in required
            yield _draw(root, described, f"{prefix}.{name}", config.get(name, _ABSENT), is_required, errors)


def _draw(
    root: Schema, schema: Schema, name: str, value: Any, is_required: bool, errors: Mapping[str, list[str]]
) -> Field:
    kind = kind_of(schema)
    last = name.rsplit(".", 1)[-1]
    shown = schema.get("default") if value is _ABSENT else value
    fields: tuple[Field, ...] = ()
    choices = tuple((word, word) for word in schema.get("enum", ()))
    if kind is Kind.GROUP:
        config = shown if isinstance(shown, Mapping) else {}
        chosen = chosen_schema(root, schema, str(config.get("type", "")))
        fields = tuple(_draw_fields(root, chosen, name, config, errors))
        choices = tuple((word, word) for word in schema["discriminator"]["mapping"])
        shown = chosen["properties"]["type"]["const"]
    return Field(
        name=name,
        label=schema.get("title", last),
        help=_help(schema, kind),
        kind=kind,
        value=_as_text(shown, kind),
        is_required=is_required,
        is_often_used=last in OFTEN_USED,
        choices=choices,
        fields=fields,
        errors=tuple(errors.get(name, ())),
    )


def _help(schema: Schema, kind: Kind) -> str:
    said: str = schema.get("description", "")
    how = {Kind.LINES: "One on each line.", Kind.PAIRS: "On each line a name, a colon and a value."}.get(kind, "")
    return f"{said} {how}".strip()


def _as_text(value: Any, kind: Kind) -> Any:
    if kind is Kind.SWITCH:
        return bool(value)
    if value is None or value == [] or value == {}:
        return ""
    if kind is Kind.LINES and isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    if kind is Kind.PAIRS and isinstance(value, Mapping):
        return "\n".join(f"{key}: {item}" for key, item in value.items())
    if kind is Kind.JSON and not isinstance(value, str):
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return "\\t" if value == "\t" else value


# --- schemas ----------------------------------------------------------------------------------------------------------


def kind_of(schema: Schema) -> Kind:
    """How a field of this schema is shown."""
    if "discriminator" in schema:
        return Kind.GROUP
    variants = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    one = variants[0] if len(variants) == 1 else schema
    if "enum" in one:
        return Kind.CHOICE
    if one.get("format") == "password":
        return Kind.SECRET
    return _KINDS.get(one.get("type", ""), Kind.JSON)


_KINDS = {
    "string": Kind.TEXT,
    "boolean": Kind.SWITCH,
    "integer": Kind.NUMBER,
    "number": Kind.NUMBER,
    "array": Kind.LINES,
    "object": Kind.PAIRS,
}


def chosen_schema(root: Schema, union: Schema, kind: str) -> Schema:
    """The member of a union that the type names, the first one for an unknown type."""
    mapping: Mapping[str, str] = union["discriminator"]["mapping"]
    first = union["oneOf"][0]["$ref"]
    found: Schema = root["$defs"][mapping.get(kind, first).rsplit("/", 1)[-1]]
    return found


def _is_one_character(schema: Schema) -> bool:
    return any(one.get("maxLength") == 1 for one in (schema, *schema.get("anyOf", ())))


def name_errors(problems: Iterable[Mapping[str, Any]], tasks: Sequence[TaskDraftForm]) -> dict[str, list[str]]:
    """The messages of an Invalid's `errors` by the name of the field that each belongs to."""
    named: dict[str, list[str]] = {}
    for problem in problems:
        named.setdefault(_field_name(problem["loc"], tasks), []).append(_sentence(problem["msg"]))
    return named


def _sentence(message: str) -> str:
    """A message of Pydantic or of the engine as a sentence of its own."""
    text = message.removeprefix("Value error, ")
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")


def _field_name(loc: Sequence[Any], tasks: Sequence[TaskDraftForm]) -> str:
    """Without `body`, the tags that Pydantic puts in for the members of unions, and what lies inside of a field."""
    _, _, at, side, *rest = loc
    config: Any = tasks[at].configs[side]
    parts = [f"tasks.{at}.{side}"]
    for part in rest:
        if not isinstance(config, Mapping):
            break
        if part == config.get("type") and part not in config:
            continue
        parts.append(str(part))
        config = config.get(part)
        if isinstance(config, Mapping) and "type" not in config:
            break  # a mapping is one field
    return ".".join(parts)
