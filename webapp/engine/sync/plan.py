"""What a sync run is asked to do, and what it says of each stream; both are JSON-able."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from webapp.engine.connectors.base import Column, Mode, Target, Write

GUESSED = "guessed"
"""The `native` word of a column whose type was only guessed; whoever runs the plan asks the source for it."""


class Counting(StrEnum):
    """Whether the source is asked how many rows it has: also where that costs as much as a read, or only else."""

    ALWAYS = "always"
    CHEAP = "cheap"
    NEVER = "never"


@dataclass(frozen=True)
class StreamPlan:
    """One stream of a sync: what to read, how to keep it, where it goes.

    `columns` are those chosen, as they were discovered. `epoch` counts resets: a state committed with a
    smaller one is ignored. `refresh` reads everything again, once. `sums` are columns whose sum source and destination
    must agree on. `known` names all columns of the catalog, chosen or not; () where nobody says.
    """

    namespace: str
    name: str
    columns: tuple[Column, ...]
    target: Target
    mode: Mode = Mode.FULL_REFRESH
    write: Write = Write.REPLACE
    primary_key: tuple[str, ...] = ()
    cursor: str | None = None
    filter: str = ""
    partition_regex: str = ""
    normalization: bool = False
    renames: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 0
    refresh: bool = False
    sums: tuple[str, ...] = ()
    count: Counting = Counting.CHEAP
    known: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The stream's name as people and logs say it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def goes_by_text(self) -> bool:
        """Whether it goes on by a column of text, whose order is that of its letters."""
        texts = {column.name for column in self.columns if column.type == "VARCHAR"}
        return self.mode is Mode.INCREMENTAL and self.cursor in texts

    def to_json(self) -> dict[str, Any]:
        """The plan as a run's specification holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StreamPlan:
        """The plan that `to_json` wrote."""
        return cls(
            **{
                **value,
                "columns": tuple(Column(**column) for column in value["columns"]),
                "target": Target(**value["target"]),
                "mode": Mode(value["mode"]),
                "write": Write(value["write"]),
                "primary_key": tuple(value["primary_key"]),
                "sums": tuple(value.get("sums", ())),
                "known": tuple(value.get("known", ())),
                "count": Counting(value.get("count", Counting.CHEAP)),
            }
        )


@dataclass(frozen=True)
class SyncSpec:
    """All that a sync run does. `keep_days` is how long the parachute is kept."""

    source_type: str
    source_config: Mapping[str, Any]
    destination_type: str
    destination_config: Mapping[str, Any]
    streams: Sequence[StreamPlan]
    run_id: str = ""
    parallel: int = 2
    keep_days: int = 3
    count_source: bool = True


class StreamStatus(StrEnum):
    """How a stream of a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    LANDED = "landed"
    DOUBT = "landed with doubt"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class StreamReceipt:
    """What became of one stream: told while it runs, final when its status is. Counts are None where nobody counted.

    `rows_resumed` were read by an attempt that was interrupted; they are in the table like those that were `read`.
    """

    stream: str
    status: StreamStatus = StreamStatus.WAITING
    rows_source: int | None = None
    rows_read: int = 0
    rows_resumed: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_found: int | None = None
    rows_total: int | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    sums: dict[str, dict[str, Any]] = field(default_factory=dict)  # by column, {"source", "destination"} of Sum
    seconds: float = 0.0
    chunks: int = 0
    chunks_done: int = 0
    mode: str = ""
    write: str = ""
    schema_changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    state_before: dict[str, Any] | None = None
    state_after: dict[str, Any] | None = None
    epoch: int = 0
    generation: str = ""
    doubt: str | None = None
    error: dict[str, Any] | None = None  # message, origin, kind, fix, permanent

    def to_json(self) -> dict[str, Any]:
        """The receipt as the run's step keeps it."""
        return asdict(self)
