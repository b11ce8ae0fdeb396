"""The sums of a stream: what its columns add up to at the source, against what they add up to at the destination."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors import sums
from webapp.engine.connectors.base import Read, SourceSession, Sum
from webapp.engine.sync.plan import StreamPlan

if TYPE_CHECKING:
    import pyarrow as pa

_DIGITS = 80


class Adding:
    """Asks, keeps account of rows that were read but not new, and compares. `targets` are the destination's names."""

    def __init__(self, plan: StreamPlan, targets: tuple[str, ...]) -> None:
        self._columns = plan.sums
        self._targets = dict(zip(plan.sums, targets, strict=True))
        self._asked: Mapping[str, Sum] = {}
        self._skipped: dict[str, Sum] = {}
        self._found: Mapping[str, Sum] = {}
        self._lock = threading.Lock()

    def ask(self, source: SourceSession, read: Read) -> None:
        """Ask the source. Raises EngineError."""
        self._asked = source.sums(read, self._columns) if self._columns else {}

    def skip(self, batch: pa.RecordBatch, fresh: pa.RecordBatch) -> None:
        """Leave the rows out that are in the batch, but not new."""
        if self._columns and batch.num_rows != fresh.num_rows:
            gone = sums.minus(_of(batch, self._columns), _of(fresh, self._columns))
            with self._lock:
                self._skipped = sums.minus(gone, sums.minus({name: Sum(0, "0") for name in gone}, self._skipped))

    def found(self, landed: Mapping[str, Sum]) -> None:
        """Take what the destination says."""
        self._found = {name: landed[target] for name, target in self._targets.items()}

    def disagreement(self) -> str | None:
        """Which column adds up to something else, None when all agree."""
        asked = sums.minus(self._asked, self._skipped)
        for name in self._columns:
            there, here = asked[name], self._found[name]
            if there != here:
                return (
                    f"{name} adds up to {there.total} ({there.values} values) at the source"
                    f" and to {here.total} ({here.values} values) at the destination"
                )
        return None

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Both sides, as a receipt says them."""
        asked = sums.minus(self._asked, self._skipped)
        return {
            name: {"source": asdict(asked[name]), "destination": asdict(self._found[name])} for name in self._columns
        }


def _of(batch: pa.RecordBatch, names: tuple[str, ...]) -> dict[str, Sum]:
    found = {}
    with localcontext(prec=_DIGITS):
        for name in names:
            values = [Decimal(value) for value in batch.column(name).to_pylist() if value is not None]
            found[name] = Sum(len(values), sums.plain(sum(values, Decimal())))
    return found
