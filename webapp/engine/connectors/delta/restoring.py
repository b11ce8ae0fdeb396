"""The parachute of a Delta table: an earlier version published as the newest.

The library's own restore cannot go between versions whose protocols differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Landed
from webapp.engine.connectors.delta.folders import Folder
from webapp.engine.connectors.delta.library import told
from webapp.engine.connectors.delta.tables import Part, parts_of, state_of, table_columns
from webapp.engine.connectors.delta.writer import publish_anew
from webapp.engine.connectors.parquet.faults import destination_fault

if TYPE_CHECKING:
    from deltalake.transaction import AddAction


def restored(folder: Folder, version: int, state: Mapping[str, Any] | None) -> Landed:
    """Publish the files, schema and partitions of a version again. Raises EngineError when files of it are gone."""
    with folder.lock(), told(folder.config, folder.label):
        now, then = folder.table(), folder.table(version)
        assert now is not None and then is not None
        parts, current = parts_of(then), {part.path for part in parts_of(now)}
        if gone := folder.missing(part.path for part in parts):
            raise destination_fault(
                f"{folder.label}: {len(gone)} files of that content were removed by another program",
                "Choose a later content, or load with full refresh.",
            )
        rows = sum(part.rows or 0 for part in parts)
        # A commit cannot name a file both as removed and as added: what both versions hold gets a second name.
        added = [_added(part, folder.twin(part.path) if part.path in current else part.path) for part in parts]
        known = state_of(now, version) if state is None else dict(state)
        publish_anew(
            folder,
            now,
            added,
            table_columns(then),
            then.metadata().partition_columns,
            state=json.dumps(known or {}),
            total=rows,
        )
        return Landed(rows, rows, rows, sum(part.size for part in parts), str(now.version()))


def _added(part: Part, path: str) -> AddAction:
    from deltalake.transaction import AddAction

    stats = json.dumps({"numRecords": part.rows} if part.rows is not None else {})
    return AddAction(path, part.size, dict(part.values), time.time_ns() // 1_000_000, True, stats)
