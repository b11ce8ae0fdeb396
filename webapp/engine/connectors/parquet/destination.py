"""The Parquet destination: tables as folders of files, here or in a bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from webapp.engine.connectors.base import (
    CheckStep,
    Column,
    Destination,
    DestinationSession,
    Generation,
    Landed,
    Load,
    Target,
    Writer,
)  # fmt: skip
from webapp.engine.connectors.parquet.spec import ParquetSpec
from webapp.engine.connectors.parquet.store import Place, Store
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import Origin
from webapp.engine.paths import allowed_path

if TYPE_CHECKING:
    import pyarrow as pa

    from webapp.engine.connectors.parquet.quill import Piece


class ParquetDestination(Destination[ParquetSpec]):
    """Writes Parquet files to a folder of this instance, or to S3, Google Cloud Storage or Azure."""

    name: ClassVar[str] = "s3"
    title: ClassVar[str] = "Parquet (a bucket or a folder)"
    Spec: ClassVar[type[ParquetSpec]] = ParquetSpec
    offers_sums: ClassVar[bool] = True

    def check(self) -> Iterator[CheckStep]:
        """Reach the place, then write and remove a small file."""
        if self.config.writer.bucket:
            from webapp.engine.connectors.parquet.clouds import bucket_steps

            return tried(*bucket_steps(self.config.writer, self.context))
        from webapp.engine.connectors.parquet.local import folder_steps

        return tried(*folder_steps(self.config.writer.local_path, self.context))

    @contextmanager
    def open(self) -> Iterator[DestinationSession]:
        """Hold the store; loads lock their own tables."""
        store, roots = self._store()
        yield ParquetSession(store, self.context, self.config.writer.compression, roots)

    def _store(self) -> tuple[Store, tuple[Path, ...]]:
        if self.config.writer.bucket:
            from webapp.engine.connectors.parquet.bucket import BucketStore
            from webapp.engine.connectors.parquet.clouds import opened

            return BucketStore(opened(self.config.writer, self.context), self.config.writer, self.context), ()
        from webapp.engine.connectors.parquet.local import LocalStore

        root = self._folder()
        return LocalStore(root, self.context), (root,)

    def _folder(self) -> Path:
        return allowed_path(self.config.writer.local_path, self.context, origin=Origin.DESTINATION)


class ParquetSession(DestinationSession):
    """The tables of one store."""

    def __init__(self, store: Store, context: Context, compression: str, roots: tuple[Path, ...]) -> None:
        self._store = store
        self._context = context
        self._compression = compression
        self._roots = roots

    def state(self, target: Target) -> dict[str, Any] | None:
        """The state in the table's manifest."""
        manifest = self._store.manifest(Place.of(target))
        return dict(manifest.state) if manifest and manifest.state else None

    def columns(self, target: Target) -> tuple[Column, ...] | None:
        """The columns by the manifest, or by the files where someone else wrote them."""
        manifest = self._store.manifest(Place.of(target))
        return manifest.columns if manifest else None

    def begin(self, load: Load) -> Writer:
        """Lock the table and make a folder aside."""
        from webapp.engine.connectors.parquet.writer import ParquetWriter

        return ParquetWriter(self._store, load, self._context, compression=self._compression, roots=self._roots)

    def generations(self, target: Target) -> list[Generation]:
        """What the parachute holds."""
        return self._store.generations(Place.of(target))

    def restore(self, target: Target, generation: str, state: Mapping[str, Any] | None) -> Landed:
        """Exchange the table for an earlier content."""
        manifest = self._store.restore(Place.of(target), generation, state)
        return Landed(manifest.rows, manifest.rows, manifest.rows, manifest.size, manifest.replaces)

    def preview(self, target: Target, *, limit: int) -> pa.Table:
        """The first rows of the table's files."""
        from contextlib import ExitStack

        from webapp.engine.connectors.parquet.quill import empty_rows, quill, scan

        place = Place.of(target)
        manifest = self._store.manifest(place)
        columns = manifest.columns if manifest else ()
        with ExitStack() as held:
            opened = held.enter_context(quill(self._context, self._roots, target.label))
            pieces = enough(manifest.files, limit) if manifest else []
            files = [held.enter_context(self._store.local(place, piece)) for piece in pieces]
            select = f"SELECT * FROM {scan(files)}" if files else empty_rows(columns)  # noqa: S608  quoted there
            cursor = held.enter_context(opened.cursor())
            return cursor.sql(f"{select} LIMIT {int(limit)}").to_arrow_table()


def enough(pieces: Sequence[Piece], limit: int) -> list[Piece]:
    """The first files that hold this many rows together."""
    found: list[Piece] = []
    for piece in pieces:
        if sum(one.rows for one in found) >= limit:
            break
        found.append(piece)
    return found
