"""How far a stream has come: what its last commit left, what the next one reads, what it leaves in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from webapp.engine.connectors.base import Column, Mode, Read, Write
from webapp.engine.errors import EngineError, Origin
from webapp.engine.sync.cursors import CursorValues
from webapp.engine.sync.plan import StreamPlan
from webapp.engine.sync.window import Edge, Later, Tail, Taken, packed, unpacked


def known_position(plan: StreamPlan, state: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The state, where it tells how far this plan has come; None when everything is to be read."""
    if state is None or plan.refresh or int(state.get("epoch", 0)) < plan.epoch or state.get("doubt"):
        return None
    return state if state.get("cursor") == cursor_of(plan) else None


def cursor_of(plan: StreamPlan) -> str | None:
    """The column by which a plan goes on where it ended, None when it reads everything, as what replaces must."""
    return plan.cursor if plan.mode is Mode.INCREMENTAL and plan.write is not Write.REPLACE else None


def unadvanced(plan: StreamPlan, state: Mapping[str, Any] | None) -> dict[str, Any]:
    """The state to leave when rows landed but are in doubt: the one before, or one that has everything read again."""
    return dict(state) if state else {"epoch": plan.epoch, "cursor": None, "value": None, "doubt": True}


def shown_state(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A state without what only the engine reads."""
    return None if state is None else {key: value for key, value in state.items() if key not in ("hashes", "columns")}


@dataclass
class Position:
    """The window of one load, the filter for rows taken before, and the rows that the next load must know."""

    plan: StreamPlan
    before: Mapping[str, Any] | None
    high: Any = None
    values: CursorValues | None = None
    taken: Taken | Later | None = None
    tail: Tail | None = None

    @property
    def going_on(self) -> bool:
        """Whether earlier rows are left out."""
        before = self.before
        return before is not None and (before.get("value") is not None or bool(before.get("nulls")))

    @property
    def since(self) -> Any:
        """The smallest cursor value to read."""
        before = self.before or {}
        return before.get("since", before.get("value")) if self.going_on else None

    @property
    def until(self) -> Any:
        """The greatest cursor value to read; a first load also takes rows without a value, which no window has."""
        return self.high if self.going_on else None

    def look(self, high: Any, warn: Callable[[str], None]) -> None:
        """Make ready to read up to the source's present high water."""
        cursor = cursor_of(self.plan)
        assert cursor is not None
        column = _column(self.plan, cursor)
        self.high = high
        self.tail = Tail(cursor, len(self.plan.columns))
        if high is None:
            return
        self.values = CursorValues(column, high)
        before = self.before
        if before is not None and before.get("value") is not None:
            self.taken = self._filter(before, cursor, self.values.scalar(before["value"]), warn)

    def after(self, write: Write, rows: int) -> dict[str, Any]:
        """The state to commit with the rows. Raises EngineError when an append could not go on from here."""
        state: dict[str, Any] = {"epoch": self.plan.epoch, "cursor": cursor_of(self.plan), "value": None}
        if self.tail is None:
            return state
        last = (self.before or {}).get("value")
        values = self.values
        edge = self.tail.edge(None if last is None or values is None else values.scalar(last))
        if edge is None or values is None:
            return {**state, **_without_edge(self.before), "nulls": rows > 0 or self.going_on}
        if edge.hashes is None and write is not Write.UPSERT:
            raise _crowded(self.plan)
        return {**state, **self._ends(edge, values)}

    def _ends(self, edge: Edge, values: CursorValues) -> dict[str, Any]:
        since = self.since if edge.since is None else values.json(edge.since)
        ends = {"value": values.json(edge.value), "since": since, "nulls": True}
        if edge.hashes is None:
            return {**ends, "boundary": None}
        columns = [[column.name, column.type] for column in self.plan.columns]
        return {**ends, "boundary": len(edge.hashes), "hashes": packed(edge.hashes), "columns": columns}

    def _filter(
        self, before: Mapping[str, Any], cursor: str, value: pa.Scalar, warn: Callable[[str], None]
    ) -> Taken | Later | None:
        if before.get("boundary") is None:
            return None
        # A state that came back with the parachute tells how far it was, but not which rows lay there.
        columns = [Column(name, kind) for name, kind in before.get("columns", ())]
        have = {column.name for column in self.plan.columns}
        if columns and all(column.name in have for column in columns):
            return Taken(unpacked(before["hashes"]), columns, cursor, value)
        if self.plan.write is Write.UPSERT:
            return None
        why = "a column is gone" if columns else "the table was brought back"
        warn(f"{why}, so rows at the last cursor value cannot be told apart; reading those after it")
        return Later(cursor, value)


def _without_edge(before: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (before or {}).items() if key not in ("epoch", "cursor")}


def _column(plan: StreamPlan, cursor: str) -> Column:
    found = next((column for column in plan.columns if column.name == cursor), None)
    if found is None:
        raise EngineError(
            f"{plan.label}: the cursor {cursor} is not among the chosen columns",
            origin=Origin.USER,
            fix="Choose the cursor's column, too.",
        )
    return found


def _crowded(plan: StreamPlan) -> EngineError:
    return EngineError(
        f"{plan.label}: too many rows share the last value of the cursor {plan.cursor} to know them again",
        origin=Origin.USER,
        fix="Choose a finer cursor, or upsert by a key.",
    )


def narrowed(read: Read, position: Position) -> Read:
    """The read within the position's window."""
    return Read(read.stream, read.columns, read.filter, cursor_of(position.plan), position.since, position.until)
