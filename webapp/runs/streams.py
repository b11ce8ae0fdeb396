"""The streams of a sync run as its page shows them: what needs a look first."""

import uuid
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webapp.engine.sync.plan import StreamReceipt, StreamStatus
from webapp.runs.models import Run, RunStep

SHOWN = 25
#: In this order people want to see them.
ORDER = (
    StreamStatus.FAILED, StreamStatus.DOUBT, StreamStatus.RUNNING, StreamStatus.CANCELLED, StreamStatus.LANDED,
    StreamStatus.WAITING,
)  # fmt: skip


@dataclass(frozen=True)
class StreamLine:
    """A stream of a run: its receipt as it stands, empty while it waits."""

    name: str
    status: str
    receipt: dict[str, Any]
    origin: str | None = None

    @property
    def key(self) -> str:
        """What its element is called on the page."""
        return f"{zlib.crc32(self.name.encode()):08x}"

    @property
    def fraction(self) -> float | None:
        """How far it is; None when that cannot be known."""
        source, chunks = self.receipt.get("rows_source"), self.receipt.get("chunks")
        if source:
            return min(1.0, int(self.receipt.get("rows_read") or 0) / int(source))
        return int(self.receipt.get("chunks_done") or 0) / int(chunks) if chunks else None

    @property
    def rate(self) -> int | None:
        """Rows read in a second, on average."""
        seconds = self.receipt.get("seconds")
        return round((self.receipt.get("rows_read") or 0) / seconds) if seconds else None

    @property
    def arrives_in(self) -> float | None:
        """Seconds until it lands, should it go on like this."""
        seconds = self.receipt.get("seconds")
        if self.status != StreamStatus.RUNNING or not seconds or not self.fraction:
            return None
        return float(seconds) * (1 - self.fraction) / self.fraction


@dataclass(frozen=True)
class Flight:
    """The streams of one attempt, those that need a look first; `lines` are the first of them."""

    run_id: uuid.UUID
    every: Sequence[StreamLine]

    @property
    def lines(self) -> Sequence[StreamLine]:
        """What the run's own page shows."""
        return self.every[:SHOWN]

    @property
    def total(self) -> int:
        """How many streams there are."""
        return len(self.every)

    @property
    def left_out(self) -> int:
        """How many the run's own page does not show."""
        return max(0, len(self.every) - SHOWN)

    @property
    def tally(self) -> list[tuple[str, int]]:
        """How many streams have each status."""
        found = Counter(line.status for line in self.every)
        return [(status.value, found[status.value]) for status in ORDER if found[status.value]]


def flight_of(run: Run, steps: Sequence[RunStep], origins: dict[str, str]) -> Flight | None:
    """The streams of the attempt whose steps these are; None for a run that is no sync."""
    plans = run.spec.get("sync", {}).get("streams")
    if plans is None:
        return None
    told = {step.facts["stream"]["stream"]: step for step in steps if "stream" in step.facts}
    names = dict.fromkeys([*(_label(plan) for plan in plans), *told])
    lines = [_line(name, told.get(name), run, origins) for name in names]
    order = {status.value: at for at, status in enumerate(ORDER)}
    return Flight(run.id, sorted(lines, key=lambda line: order.get(line.status, 0)))


def _label(plan: dict[str, Any]) -> str:
    return f"{plan['namespace']}.{plan['name']}" if plan.get("namespace") else str(plan["name"])


def _line(name: str, step: RunStep | None, run: Run, origins: dict[str, str]) -> StreamLine:
    receipt = {**StreamReceipt(name).to_json(), **step.facts["stream"]} if step else {}
    status = str(receipt.get("status") or StreamStatus.WAITING.value)
    lost = status == StreamStatus.RUNNING and (run.is_finished or (step is not None and step.outcome is not None))
    if lost:  # its worker went before it could say so
        status = StreamStatus.FAILED.value if run.state == "failed" else StreamStatus.CANCELLED.value
    error = receipt.get("error") or {}
    return StreamLine(name, status, receipt, origins.get(str(error.get("origin"))))
