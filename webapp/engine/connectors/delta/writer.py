"""One load into a Delta table: data files written by DuckDB, one commit for rows, state and schema."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Chunk, Column, Landed, Load, Partition, Write, Writer
from webapp.engine.connectors.delta.folders import Folder
from webapp.engine.connectors.delta.library import told
from webapp.engine.connectors.delta.tables import (
    DELTA_TYPES,
    Part,
    check_writable,
    commit_properties,
    delta_schema,
    parts_of,
    table_columns,
    total_of,
)  # fmt: skip
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.connectors.parquet.quill import Form, quill, scan
from webapp.engine.connectors.parquet.shape import hive_parts, shaped, table_key
from webapp.engine.connectors.parquet.uploads import side_by_side
from webapp.engine.connectors.parquet.upsert import Rewriter, one_row_a_key
from webapp.engine.context import Context
from webapp.engine.errors import EngineError
from webapp.engine.names import quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction


@dataclass(frozen=True)
class Change:
    """What a commit does: files that come, files that go, and whether the table's shape is made anew."""

    added: Sequence[AddAction]
    gone: Sequence[Part]
    anew: bool


class DeltaLoad(Writer):
    """Writes data files aside, brings them to the table's place, and commits them with the state."""

    def __init__(self, folder: Folder, load: Load, context: Context) -> None:
        self._folder = folder
        self._load = load
        self._context = context
        with told(folder.config, folder.label), ExitStack() as held:
            held.enter_context(folder.lock())
            self._table = folder.table()
            kept = None if load.write is Write.REPLACE else self._table
            if kept is not None:
                check_writable(kept, folder.label)
            self._shape = shaped(load, table_columns(kept) if kept else None, DELTA_TYPES)
            self._partitions = self._partitions_for(kept)
            parts = hive_parts([Partition(name) for name in self._partitions], self._shape.columns)
            self._aside = folder.staging()
            held.callback(shutil.rmtree, self._aside, ignore_errors=True)
            self._form = Form(folder.config.compression, parts)
            self._quill = held.enter_context(quill(context, [self._aside, *_roots(folder)], folder.label))
            self._held = held.pop_all()

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Write the chunk's rows into files aside."""
        return self._quill.write(batches, self._shape.projection(), self._aside, self._form)

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Bring the files and publish one version."""
        with told(self._folder.config, self._folder.label):
            before = self._table.version() if self._table else None
            gone, rest, left = self._settled()
            added = self._brought()
            actions, fresh = [action for action, _ in added], sum(rows for _, rows in added)
            self._publish(Change(actions, gone, self._anew()), json.dumps(dict(state)), left + fresh)
            landed = self._landed(fresh - rest, rest, actions, before)
        if added or gone:
            self._vacuum()
        self._held.close()
        return landed

    def abort(self) -> None:
        """Remove what was written aside."""
        self._held.close()

    def _partitions_for(self, kept: DeltaTable | None) -> tuple[str, ...]:
        """The columns that divide the table. Raises EngineError for a partition that is no column."""
        for one in self._load.partitions:
            if one.transform != "identity":
                raise destination_fault(
                    f"Delta tables are divided by columns, not by {one.transform}({one.column})",
                    "Name a column in the partition, without a transform.",
                )
        wanted = tuple(one.column for one in self._load.partitions)
        if kept is None:
            return wanted
        own = tuple(kept.metadata().partition_columns)
        if wanted and wanted != own:
            self._context.reporter.log(
                "warning", f"{self._folder.label} keeps its partitions until it is loaded with full refresh"
            )
        return own

    def _settled(self) -> tuple[list[Part], int, int]:
        """The old files that go, how many of their rows are in new files, and the rows of those that stay."""
        key = self._one_row_a_key() if self._load.write is Write.UPSERT else ()
        self._added = self._quill.sums(self._load.sums, self._files())
        if self._table is None or self._load.write is Write.REPLACE:
            return [], 0, 0
        if not key and not self._shape.rewrite:
            return [], 0, total_of(self._table)
        return self._rewritten(key)

    def _rewritten(self, key: tuple[str, ...]) -> tuple[list[Part], int, int]:
        assert self._table is not None
        fresh = self._files() if key else []
        rewriter = Rewriter(self._quill, self._shape.columns, key, fresh, all_files=self._shape.rewrite)
        gone, rest, left = [], 0, 0
        for part in parts_of(self._table):
            with self._folder.local(part.path) as file:
                self._check_names(file)
                if rewriter.stays(file):
                    left += part.rows or 0
                else:
                    gone.append(part)
                    rest += rewriter.rest(file, self._aside, self._form)
        return gone, rest, left

    def _one_row_a_key(self) -> tuple[str, ...]:
        key = table_key(self._load, self._shape)
        one_row_a_key(self._quill, self._files(), key, self._aside, self._form)
        return key

    def _check_names(self, file: Path) -> None:
        """Files of other programs do not hold the columns that they are divided by."""
        have = {column.name for column in self._quill.columns([file])}
        if lacking := [name for name in self._partitions if name not in have]:
            raise destination_fault(
                f"{self._folder.label} holds files of another program, without the column {lacking[0]}",
                "Load once with full refresh, or switch to append.",
            )

    def _files(self) -> list[Path]:
        return sorted(self._aside.rglob("*.parquet"))

    def _brought(self) -> list[tuple[AddAction, int]]:
        """The new files in the table's place, as the log names them, with their rows."""
        filled = [pair for pair in self._quill.rows(self._files()).items() if pair[1]]
        return side_by_side(self._context, lambda pair: self._one_brought(*pair), filled)

    def _one_brought(self, file: Path, rows: int) -> tuple[AddAction, int]:
        from deltalake.transaction import AddAction

        size, values = file.stat().st_size, self._values(file)
        name, stats = self._folder.bring(file), json.dumps({"numRecords": rows})
        return AddAction(name, size, values, time.time_ns() // 1_000_000, True, stats), rows

    def _values(self, file: Path) -> dict[str, str | None]:
        """The partition values of a file, which are those of its first row, as the log writes them."""
        if not self._partitions:
            return {}
        kinds = {column.name: column.type for column in self._shape.columns}
        texts = ", ".join(_text_sql(name, kinds[name]) for name in self._partitions)
        with self._quill.cursor() as cursor:
            row = cursor.execute(f"SELECT {texts} FROM {scan([file])} LIMIT 1").fetchone()  # noqa: S608  quoted names
        values = dict(zip(self._partitions, row or (), strict=True))
        if "" in values.values():
            raise destination_fault(
                f"{self._folder.label}: a partition column holds empty texts, which Delta takes for nulls",
                "Partition by another column.",
            )
        return values

    def _anew(self) -> bool:
        """Whether all that is there goes, and the shape with it."""
        return self._table is None or self._load.write is Write.REPLACE or self._shape.rewrite

    def _publish(self, change: Change, state: str, total: int) -> None:
        if not change.anew:
            self._add(change, state, total)
            return
        publish_anew(
            self._folder, self._table, change.added, self._shape.columns, self._partitions, state=state, total=total
        )

    def _add(self, change: Change, state: str, total: int) -> None:
        from deltalake.transaction import RemoveAction

        assert self._table is not None
        known = {column.name for column in table_columns(self._table)}
        new = [column for column in self._shape.columns if column.name not in known]
        if new:
            # The library has no commit for both. Killed in between, the table has a column of nulls more.
            self._table.alter.add_columns(list(delta_schema(new).fields))
        moment = time.time_ns() // 1_000_000
        gone = [RemoveAction(part.path, True, moment, part.size, dict(part.values)) for part in change.gone]
        self._table.create_write_transaction(
            [*change.added, *gone],
            "append",
            self._table.schema(),
            list(self._partitions),
            commit_properties=commit_properties(self._table, state, total),
        )

    def _landed(self, written: int, rest: int, added: Sequence[AddAction], before: int | None) -> Landed:
        """Counted by the version that is there now."""
        now = self._folder.table()
        total = total_of(now)
        there = {part.path: part.rows or 0 for part in parts_of(now)} if now else {}
        found = sum(there.get(action.path, 0) for action in added) - rest
        size = sum(action.size for action in added)
        kept = before is not None and self._load.keep_days > 0
        found = total if self._load.write is Write.REPLACE else found
        return Landed(written, found, total, size, str(before) if kept else "", self._added)

    def _vacuum(self) -> None:
        """Remove files that were replaced before the days of the parachute; the load has landed whatever happens."""
        hours = max(0, self._load.keep_days) * 24
        try:
            with told(self._folder.config, self._folder.label):
                table = self._folder.table()
                if table and table.vacuum(hours, dry_run=True, enforce_retention_duration=False):
                    table.vacuum(hours, dry_run=False, enforce_retention_duration=False)
        except EngineError as error:
            self._context.reporter.log("warning", f"old files were not removed: {error.message}")


def publish_anew(
    folder: Folder,
    table: DeltaTable | None,
    added: Sequence[AddAction],
    columns: Sequence[Column],
    partitions: Sequence[str],
    *,
    state: str,
    total: int,
) -> None:
    """One version with these files alone. The table stays the same one where its shape does."""
    from deltalake.transaction import create_table_with_add_actions

    schema, properties = delta_schema(columns), commit_properties(table, state, total)
    about = table.metadata() if table else None
    same = table is not None and table.schema().to_json() == schema.to_json()
    if table is not None and about and same and list(about.partition_columns) == list(partitions):
        table.create_write_transaction(list(added), "overwrite", schema, list(partitions), commit_properties=properties)
        return
    create_table_with_add_actions(
        folder.uri,
        schema,
        list(added),
        "error" if table is None else "overwrite",
        list(partitions),
        about.name if about else None,
        about.description if about else None,
        dict(about.configuration) if about else None,
        folder.options,
        commit_properties=properties,
    )


def _roots(folder: Folder) -> list[Path]:
    """What DuckDB may read besides the temporary folder."""
    return [] if folder.options else [Path(folder.uri)]


def _text_sql(name: str, kind: str) -> str:
    """A value as the log of a Delta table writes it."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({quoted(name)}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if kind == "BLOB" or kind.endswith("[]") or kind.startswith("STRUCT("):
        raise destination_fault(f"a Delta table cannot be partitioned by {name}, a {kind}", "Choose another column.")
    return f"CAST({quoted(name)} AS VARCHAR)"
