"""How a JSON door is told to the world: what it takes, what it answers, in types that become JSON Schema."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Dialect(StrEnum):
    """In which shape a door refuses."""

    PLAIN = "Refusal"
    OLAKE = "OlakeRefusal"
    LISTER = "ListerRefusal"


class Answer(BaseModel):
    """What a door answers; a field that is not listed here is never in it."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Told:
    """What a door takes and answers, beyond what its address and its docstring say.

    `answer` is a type (a model, `list[Model]`, `dict[str, Any]`), None for an answer without a body, or `str` for text.
    """

    answer: Any = None
    status: int = 200
    body: Any = None
    body_is_optional: bool = False
    query: type[BaseModel] | None = None
    also: Mapping[int, Any] = field(default_factory=dict)
    refuses: tuple[int, ...] = ()
    example: Any = None
    shown: Any = None  # an example of the answer
    media: tuple[str, ...] = ("application/json",)
    body_media: tuple[str, ...] = ("application/json",)


@dataclass(frozen=True)
class Chapter:
    """The doors of one contract, as its readers look for them; keys are endpoints, or `endpoint METHOD`."""

    name: str
    about: str
    doors: Mapping[str, Told]
    dialect: Dialect = Dialect.PLAIN
