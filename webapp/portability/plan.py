"""What an import finds and does: a line for each thing, a place for each problem."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from webapp.accounts.access import Actor
from webapp.db import db
from webapp.errors import HohmannError, NotAllowed

Loc = tuple[str | int, ...]
Made = TypeVar("Made")


class Verb(StrEnum):
    """What an import does with one thing."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Line:
    """One thing in the file: what becomes of it, which of its settings change, and where it needs a secret."""

    kind: str
    name: str
    place: str
    verb: Verb
    changes: tuple[str, ...] = ()
    needs_secret: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What an import does, or did. `new_secrets` are the keys of new webhooks by name, shown this once."""

    lines: list[Line] = field(default_factory=list)
    new_secrets: list[tuple[str, str]] = field(default_factory=list)

    def count(self, verb: Verb) -> int:
        """How many things are created, changed or unchanged."""
        return sum(line.verb == verb for line in self.lines)

    @property
    def lacking(self) -> list[Line]:
        """The things that need a secret before they work."""
        return [line for line in self.lines if line.needs_secret]

    @property
    def digest(self) -> str:
        """The same for the same plan, so that whoever confirms one is not given another."""
        return uuid.uuid5(uuid.NAMESPACE_OID, orjson.dumps([asdict(line) for line in self.lines]).decode()).hex


@dataclass
class Import:
    """An import under way: who, where to, what it found wrong so far; `failed` are the parts of the file and names."""

    actor: Actor
    project_id: uuid.UUID
    outcome: Outcome = field(default_factory=Outcome)
    problems: list[tuple[Loc, str]] = field(default_factory=list)
    failed: set[tuple[str, str]] = field(default_factory=set)

    def attempt(self, loc: Loc, name: str, renames: dict[str, str], do: Callable[[], Made]) -> Made | None:
        """What was made, None when it was refused: that part is undone and its place noted, and the rest looked at."""
        try:
            with db.session.begin_nested():
                made = do()
                db.session.flush()
                return made
        except NotAllowed:
            raise
        except HohmannError as error:
            self.failed.add((str(loc[0]), name))
            self.problems.extend(_point(loc, error, renames))
            return None

    def add(self, line: Line) -> None:
        """Note what became of a thing."""
        self.outcome.lines.append(line)


def _point(loc: Loc, error: HohmannError, renames: dict[str, str]) -> Iterator[tuple[Loc, str]]:
    """What an operation refused: its fields, in the file's words, behind the thing's place."""
    said = getattr(error, "field", None) or error.details.get("field") or ""
    found = error.details.get("errors") or [{"loc": ["body", *filter(None, said.split("."))], "msg": error.message}]
    for item in found:
        inner = (renames.get(part, part) if isinstance(part, str) else part for part in item["loc"][1:])
        yield (*loc, *inner), str(item["msg"]).removeprefix(f"{said}: ")


def name_changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """The settings that differ, in the file's order; the order inside a setting counts."""
    return tuple(name for name in after if not same(before.get(name), after[name]))


def same(one: Any, other: Any) -> bool:
    """Whether two values are written alike."""
    return orjson.dumps(one) == orjson.dumps(other)
