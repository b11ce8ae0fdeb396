"""Bringing files to a store, several at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from webapp.engine.context import Context

_MOST = 8
_EACH = 64
"""Megabytes of the load's memory for one file on its way; a stream holds a part of ten, the client as much again."""
Item = TypeVar("Item")
Done = TypeVar("Done")


def side_by_side(context: Context, act: Callable[[Item], Done], items: Iterable[Item]) -> list[Done]:
    """Do something for each item, as many at once as the memory allows; results in order, or the first failure."""
    workers = max(1, min(_MOST, context.memory_limit_mb // _EACH))
    with ThreadPoolExecutor(workers, "upload") as pool:
        return list(pool.map(act, items))
