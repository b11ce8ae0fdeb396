"""Tables as folders of this machine: a commit exchanges the whole folder, so every reader sees old or new."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from webapp.engine.connectors.base import Generation
from webapp.engine.connectors.parquet.durable import forced
from webapp.engine.connectors.parquet.exchange import swap
from webapp.engine.connectors.parquet.faults import explained, no_generation
from webapp.engine.connectors.parquet.foreign import foreign_manifest
from webapp.engine.connectors.parquet.quill import Piece
from webapp.engine.connectors.parquet.store import (
    HIDDEN,
    KEPT,
    MANIFEST,
    Change,
    Manifest,
    Place,
    Store,
    new_generation,
)  # fmt: skip
from webapp.engine.connectors.trials import Step
from webapp.engine.context import Context
from webapp.engine.errors import Origin
from webapp.engine.locks import file_lock
from webapp.engine.paths import allowed_path

_DAY = 86_400


def folder_steps(text: str, context: Context) -> list[Step]:
    """The steps of a test: whether the folder may be used, a small file."""

    def folder() -> Path:
        return allowed_path(text, context, origin=Origin.DESTINATION)

    def probe() -> str:
        with explained(text):
            folder().mkdir(parents=True, exist_ok=True)
            file = folder() / f".check-{uuid.uuid4().hex}"
            file.write_bytes(b"check")
            file.unlink()
        return "a file was written and removed"

    return [("resolve", lambda: str(folder())), ("write", probe)]


class LocalStore(Store):
    """A folder with one folder for each table; what is not for readers lies under `.hohmann`."""

    def __init__(self, root: Path, context: Context) -> None:
        self.root = root
        self._context = context

    @contextmanager
    def lock(self, place: Place) -> Iterator[None]:
        """Hold the table's lock file, and clear what a killed load left."""
        with file_lock(self._hidden("locks", place), self._context, shared=False, shown=place.label):
            with explained(place.label):
                self._tidy(place)
            yield

    def staging(self, place: Place) -> Path:
        """A new folder beside the tables, on the same file system."""
        folder = self._hidden("staging", place) / uuid.uuid4().hex
        with explained(place.label):
            (folder / "fresh").mkdir(parents=True)
        return folder / "fresh"

    def manifest(self, place: Place) -> Manifest | None:
        """The manifest in the table's folder, or one made from the files that are there."""
        table = self.root / place.folder
        with explained(place.label):
            try:
                return Manifest.load((table / MANIFEST).read_bytes())
            except (FileNotFoundError, NotADirectoryError):
                return foreign_manifest(table)

    @contextmanager
    def local(self, place: Place, piece: Piece) -> Iterator[Path]:
        """The file where it is."""
        yield self.root / place.folder / piece.path

    def publish(self, change: Change) -> None:
        """Put the new folder together beside the old one, exchange them, put the old one away."""
        table = self.root / change.place.folder
        with explained(change.place.label):
            new = change.staging.with_name("next")
            _assemble(new, table, change)
            table.parent.mkdir(parents=True, exist_ok=True)
            if table.exists():
                if change.before and not (table / MANIFEST).exists():
                    (table / MANIFEST).write_bytes(change.before.dump())  # so that the parachute can say what it was
                swap(new, table)
                self._put_away(new, change.manifest, change.place, change.keep_days)
            else:
                new.rename(table)
            forced([table.parent])
            self._prune(change.place, change.keep_days)
        self.forget(change.staging)

    def forget(self, staging: Path) -> None:
        """Remove the load's folder."""
        shutil.rmtree(staging.parent, ignore_errors=True)

    def generations(self, place: Place) -> list[Generation]:
        """The folders of the parachute."""
        found = self._hidden("parachute", place).glob(f"*/{MANIFEST}{KEPT}")
        with explained(place.label):
            return [Manifest.load(path.read_bytes()).generation_of() for path in sorted(found, reverse=True)]

    def restore(self, place: Place, generation: str, state: Mapping[str, Any] | None) -> Manifest:
        """Link the kept files into a new folder and exchange; what was there goes to the parachute."""
        kept = self._hidden("parachute", place) / Path(generation).name
        with self.lock(place), explained(place.label):
            if not generation or not (kept / f"{MANIFEST}{KEPT}").is_file():
                raise no_generation(place.label, generation)
            old = Manifest.load((kept / f"{MANIFEST}{KEPT}").read_bytes())
            before = self.manifest(place)
            manifest = replace(
                old,
                state=old.state if state is None else dict(state),
                generation=new_generation(),
                replaces=before.generation if before else "",
                retires=True,
            )
            staging = self.staging(place)
            for piece in old.files:
                link(kept / (piece.path + KEPT), staging / piece.path)
            # Pruned by the next load, whose plan knows how long to keep.
            self.publish(Change(place, manifest, before, (), staging, 36_500))
            shutil.rmtree(kept)
            return manifest

    def _hidden(self, what: str, place: Place) -> Path:
        return self.root / HIDDEN / what / place.folder

    def _tidy(self, place: Place) -> None:
        """Remove staging folders of killed loads; a content that one had just swapped out is put away after all."""
        folder = self._hidden("staging", place)
        current = self.manifest(place)
        for left in sorted(folder.glob("*/next")):
            manifest = Manifest.load((left / MANIFEST).read_bytes()) if (left / MANIFEST).is_file() else None
            if current and manifest and manifest.generation == current.replaces:
                self._put_away(left, current, place, 1)
        for left in [path for path in folder.glob("*") if _is_run(path)]:
            shutil.rmtree(left, ignore_errors=True)

    def _put_away(self, old: Path, manifest: Manifest, place: Place, keep_days: int) -> None:
        if not manifest.retires or keep_days <= 0 or not manifest.replaces:
            shutil.rmtree(old)
            return
        kept = self._hidden("parachute", place) / manifest.replaces
        kept.parent.mkdir(parents=True, exist_ok=True)
        for file in [*old.rglob("*.parquet"), old / MANIFEST]:
            if file.is_file():
                file.rename(file.with_name(file.name + KEPT))
        old.rename(kept)
        os.utime(kept)

    def _prune(self, place: Place, keep_days: int) -> None:
        oldest = time.time() - keep_days * _DAY
        for kept in self._hidden("parachute", place).glob(f"*/{MANIFEST}{KEPT}"):
            if kept.parent.stat().st_mtime < oldest:
                shutil.rmtree(kept.parent)


def _is_run(path: Path) -> bool:
    """A load's own folder, not that of a table whose database bears this one's name."""
    return (path / "fresh").is_dir() or (path / "next").is_dir()


def _assemble(new: Path, table: Path, change: Change) -> None:
    new.mkdir()
    for piece in change.kept:
        link(table / piece.path, new / piece.path)
    fresh = [path for path in change.staging.rglob("*") if path.is_file()]
    forced(fresh)
    for file in fresh:
        target = new / file.relative_to(change.staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target.with_suffix(".parquet"))
    (new / MANIFEST).write_bytes(change.manifest.dump())
    folders = [path for path in new.rglob("*") if path.is_dir()]
    forced([new / MANIFEST, *folders, new])  # the names, too, before the folder shows itself


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except PermissionError:
        shutil.copy2(source, target)
    except OSError as error:
        if error.errno == 2:
            raise
        shutil.copy2(source, target)  # a file system without hard links
