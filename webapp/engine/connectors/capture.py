"""Change data capture, as far as it goes today: whether a server could hand its changes on. No sync reads them yet."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from webapp.engine.connectors.base import CheckStep

STEP = "change data capture"


class UpdateMethod(BaseModel):
    """How changes are found."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    type: Literal["standalone", "cdc"] = Field(
        "standalone",
        title="Method",
        description="standalone: by a cursor column. cdc: tests also say whether the server is ready to hand its "
        "changes on, and streams that are ready offer it; syncs cannot read it yet and go by a cursor column.",
    )

    @field_validator("type", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.strip().lower() or "standalone" if isinstance(value, str) else value


def step(missing: Sequence[str]) -> CheckStep:
    """What a test says of it. It never fails: everything else works without."""
    if missing:
        return CheckStep(STEP, ok=True, message="the server is not ready: " + "; ".join(missing))
    return CheckStep(STEP, ok=True, message="the server is ready; syncs cannot read its changes yet")
