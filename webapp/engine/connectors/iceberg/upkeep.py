"""What old snapshots and killed loads leave: expired after the days of the parachute, and their files removed.

A file is removed only when no snapshot that stays, whosever it is, names it, and only below the table's own location.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from webapp.engine.connectors.iceberg.tables import STATE

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

_DAY = 86_400_000
_MARK = ".loading"


def expire(table: Table, keep_days: int) -> int:
    """Expire snapshots that ceased to be current before these days, and remove their files; returns how many.

    A table that forbids it (`gc.enabled`) keeps all. Raises what the catalog and the store raise.
    """
    old = _expired(table, keep_days)
    if not old or table.properties.get("gc.enabled", "true").lower() == "false":
        return 0
    numbers = {snapshot.snapshot_id for snapshot in old}
    stay = [snapshot for snapshot in table.snapshots() if snapshot.snapshot_id not in numbers]
    leftover = _files_only_of(old, stay, table.io)
    table.maintenance.expire_snapshots().by_ids(sorted(numbers)).commit()
    _remove(table, leftover)
    return len(old)


def _expired(table: Table, keep_days: int) -> list[Snapshot]:
    """Snapshots of the table's own line that gave way to a newer one before the days began."""
    oldest = time.time() * 1000 - max(0, keep_days) * _DAY
    ended: dict[int, int] = {}
    log = table.metadata.snapshot_log
    for entry, newer in itertools.pairwise(log):
        ended[entry.snapshot_id] = newer.timestamp_ms
    held = {ref.snapshot_id for ref in table.metadata.refs.values()}
    current = table.current_snapshot()
    if current is not None and not (current.summary and STATE in current.summary):
        return []  # the state lies in a snapshot before it
    return [
        snapshot
        for snapshot in table.snapshots()
        if snapshot.snapshot_id not in held and ended.get(snapshot.snapshot_id, oldest) < oldest
    ]


def _files_only_of(old: Iterable[Snapshot], stay: Iterable[Snapshot], io: FileIO) -> list[str]:
    """The files that the old snapshots alone name: manifest lists, manifests, data files."""
    living = {manifest.manifest_path: manifest for snapshot in stay for manifest in snapshot.manifests(io)}
    dead: dict[str, ManifestFile] = {}
    lists = []
    for snapshot in old:
        lists.append(snapshot.manifest_list)
        dead |= {one.manifest_path: one for one in snapshot.manifests(io) if one.manifest_path not in living}
    data = _data_files(dead.values(), io)
    if data:
        data -= _data_files(living.values(), io)
    return [*data, *dead, *lists]


def _data_files(manifests: Iterable[ManifestFile], io: FileIO) -> set[str]:
    return {
        entry.data_file.file_path for one in manifests for entry in one.fetch_manifest_entry(io, discard_deleted=True)
    }


def _remove(table: Table, paths: Iterable[str]) -> None:
    inside = table.location().rstrip("/") + "/"
    for path in paths:
        if path.startswith(inside):
            table.io.delete(path)


@contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Mark a folder as one that a load writes into, for as long as the load lives."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / _MARK
    handle = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        mark.unlink(missing_ok=True)
        os.close(handle)
        with suppress(OSError):  # it holds files now
            folder.rmdir()


def clear_killed(data: Path, table: Table | None) -> None:
    """Remove data files of loads that ended without a word, where no snapshot names them."""
    named: set[str] | None = None
    for mark in data.glob(f"load-*/{_MARK}"):
        with _taken(mark) as taken:
            if not taken:
                continue
            if named is None:
                named = _named(table)
            for file in mark.parent.rglob("*.parquet"):
                if f"file://{file}" not in named:
                    file.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            if not any(path.is_file() for path in mark.parent.rglob("*")):
                shutil.rmtree(mark.parent, ignore_errors=True)


def _named(table: Table | None) -> set[str]:
    if table is None:
        return set()
    manifests = {one.manifest_path: one for snapshot in table.snapshots() for one in snapshot.manifests(table.io)}
    return _data_files(manifests.values(), table.io)


@contextmanager
def _taken(mark: Path) -> Iterator[bool]:
    """Whether nobody holds the mark; it is held for the block then."""
    try:
        handle = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)
