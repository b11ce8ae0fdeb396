"""One load into a table of Parquet files: written aside by many threads, published by one step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors.base import Chunk, Landed, Load, Write, Writer
from webapp.engine.connectors.parquet.quill import Form, Piece, Quill, empty_rows, quill
from webapp.engine.connectors.parquet.shape import PARQUET_TYPES, hive_parts, shaped, table_key
from webapp.engine.connectors.parquet.store import Change, Manifest, Place, Store
from webapp.engine.connectors.parquet.upsert import Rewriter, one_row_a_key
from webapp.engine.context import Context

if TYPE_CHECKING:
    import pyarrow as pa

_ASIDE = "part"


class ParquetWriter(Writer):
    """Holds the table's lock from the beginning to the commit."""

    def __init__(
        self, store: Store, load: Load, context: Context, *, compression: str, roots: tuple[Path, ...]
    ) -> None:
        self._store = store
        self._load = load
        self._place = Place.of(load.target)
        with ExitStack() as held:
            held.enter_context(store.lock(self._place))
            self._before = store.manifest(self._place)
            self._shape = shaped(load, self._before.columns if self._before else None, PARQUET_TYPES)
            parts = hive_parts(load.partitions, self._shape.columns)
            self._form = Form(compression, parts, ending=_ASIDE)
            self._staging = store.staging(self._place)
            held.callback(store.forget, self._staging)
            self._quill: Quill = held.enter_context(quill(context, roots, load.target.label))
            self._held = held.pop_all()

    def write(self, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        """Write the chunk's rows into files aside."""
        return self._quill.write(batches, self._shape.projection(), self._staging, self._form)

    def commit(self, state: Mapping[str, Any]) -> Landed:
        """Publish files and state together."""
        kept, rest, fresh = self._settled()
        pieces = [Piece(f"{piece.path.removesuffix(_ASIDE)}parquet", piece.rows, piece.size) for piece in fresh]
        retires = self._load.write is not Write.APPEND and self._before is not None and self._load.keep_days > 0
        manifest = Manifest(
            self._shape.columns,
            dict(state),
            (*kept, *pieces),
            self._load.run_id,
            self._before.generation if self._before else "",
            retires,
        )
        change = Change(self._place, manifest, self._before, kept, self._staging, self._load.keep_days)
        self._store.publish(change)
        self._held.close()
        return self._landed(manifest, sum(piece.rows for piece in fresh) - rest, fresh)

    def abort(self) -> None:
        """Remove what was written aside."""
        self._held.close()

    def _settled(self) -> tuple[list[Piece], int, list[Piece]]:
        """The old files that stay, how many old rows the new files hold, and the new files."""
        key = table_key(self._load, self._shape) if self._load.write is Write.UPSERT else ()
        if key:
            one_row_a_key(self._quill, self._files(), key, self._staging, self._form)
        self._added = self._quill.sums(self._load.sums, self._files())
        kept: list[Piece] = []
        rest = 0
        if self._before and self._load.write is not Write.REPLACE:
            kept, rest = self._kept(self._before, key)
        self._drop_empty(has_kept=bool(kept))
        return kept, rest, self._new_pieces()

    def _kept(self, before: Manifest, key: tuple[str, ...]) -> tuple[list[Piece], int]:
        if not key and not self._shape.rewrite:
            return list(before.files), 0
        rewriter = Rewriter(
            self._quill, self._shape.columns, key, self._files() if key else (), all_files=self._shape.rewrite
        )
        kept, rest = [], 0
        for piece in before.files:
            with self._store.local(self._place, piece) as file:
                if rewriter.stays(file):
                    kept.append(piece)
                else:
                    rest += rewriter.rest(file, self._staging, self._form)
        return kept, rest

    def _files(self) -> list[Path]:
        return sorted(self._staging.rglob(f"*.{_ASIDE}"))

    def _drop_empty(self, *, has_kept: bool) -> None:
        """A file without rows stays only where it alone says which columns the table has."""
        rows = self._quill.rows(self._files())
        for file, count in rows.items():
            if not count:
                file.unlink()
        if not any(rows.values()) and not has_kept:
            with self._quill.cursor() as cursor:
                self._quill.copy(cursor, empty_rows(self._shape.columns), self._staging, Form(ending=_ASIDE))

    def _new_pieces(self) -> list[Piece]:
        rows = self._quill.rows(self._files())
        return [Piece(str(file.relative_to(self._staging)), n, file.stat().st_size) for file, n in rows.items()]

    def _landed(self, manifest: Manifest, written: int, fresh: list[Piece]) -> Landed:
        """Counted by the footers that the published files have, not by what was asked to be written."""
        there = self._store.manifest(self._place) or manifest
        before = self._before.rows if self._before and self._load.write is Write.APPEND else 0
        found = written if self._load.write is Write.UPSERT else there.rows - before
        size = sum(piece.size for piece in fresh)
        kept = manifest.replaces if manifest.retires else ""
        return Landed(written, found, there.rows, size, kept, self._added)
