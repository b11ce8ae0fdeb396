"""Dividing tables into ranges of pages that one connection reads each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webapp.engine.connectors.base import Chunk
from webapp.engine.connectors.postgres.catalog import PAGE

CHUNK_PAGES = (96 << 20) // PAGE
SMALL_PAGES = (16 << 20) // PAGE

Gap = tuple[int, int | None]
"""From a page to another that is not part of it; None is the end, wherever that will be."""


@dataclass(frozen=True)
class Leaf:
    """A table that holds rows itself. `prefix` names its chunks where it is one of several."""

    place: list[str]
    oid: int
    kind: str
    prefix: str


def gaps(covered: Sequence[Mapping[str, Any]]) -> Iterator[Gap]:
    """What ranges of pages leave of a table."""
    at = 0
    for one in sorted(covered, key=lambda one: one.get("first") or 0):
        first, end = one.get("first") or 0, one.get("end")
        if first > at:
            yield at, first
        if end is None:
            return
        at = max(at, end)
    yield at, None


def divided(leaf: Leaf, gap: Gap, pages: int, fewest: int) -> list[Chunk]:
    """Chunks of about equal size: one for a few pages, else at least `fewest`; `pages` is the table's size now."""
    first, end = gap
    size = max(0, (pages if end is None else min(end, pages)) - first)
    if size < SMALL_PAGES:
        return [_chunk(leaf, first, end)]
    count = max(-(-size // CHUNK_PAGES), fewest)
    inner = [first + size * at // count for at in range(1, count)]
    return [_chunk(leaf, *ends) for ends in zip([first, *inner], [*inner, end], strict=True)]


def _chunk(leaf: Leaf, first: int, end: int | None) -> Chunk:
    if not first and end is None:
        return Chunk(f"{leaf.prefix}all", {"table": leaf.place})
    return Chunk(f"{leaf.prefix}pages from {first}", {"table": leaf.place, "first": first, "end": end})
