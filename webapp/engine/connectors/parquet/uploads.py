"""Bringing files to a store, several at a time, and back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from webapp.engine.context import Context

if TYPE_CHECKING:
    from pyarrow import fs

_MOST = 8
_EACH = 48
"""Megabytes of the load's memory for one file on its way; a stream holds a part of ten, the client as much again."""
Item = TypeVar("Item")
Done = TypeVar("Done")


def side_by_side(context: Context, act: Callable[[Item], Done], items: Iterable[Item]) -> list[Done]:
    """Do something for each item, as many at once as the memory allows; results in order, or the first failure."""
    workers = max(1, min(_MOST, context.memory_limit_mb // _EACH))
    with ThreadPoolExecutor(workers, "upload") as pool:
        return list(pool.map(act, items))


def send(file: Path, store: fs.FileSystem, path: str) -> None:
    """Copy a local file to a path of the store."""
    with file.open("rb") as source, store.open_output_stream(path) as target:
        shutil.copyfileobj(source, target, 1 << 22)


def fetch(store: fs.FileSystem, path: str, file: Path) -> None:
    """Copy what lies at a path of the store to a local file."""
    with store.open_input_stream(path) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
