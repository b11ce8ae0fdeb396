"""Tables as objects of a bucket or container: new objects first, then the manifest (the commit), then the old go."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from webapp.engine.addresses import checked_address
from webapp.engine.connectors.base import Generation
from webapp.engine.connectors.parquet.faults import destination_fault, explained, no_bucket, no_generation
from webapp.engine.connectors.parquet.foreign import manifest_of
from webapp.engine.connectors.parquet.quill import Piece
from webapp.engine.connectors.parquet.spec import FolderOrS3
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
from webapp.engine.connectors.parquet.uploads import fetch, send, side_by_side
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

if TYPE_CHECKING:
    from pyarrow import fs


def checked_endpoint(text: str, context: Context) -> tuple[str, str]:
    """The scheme and the `host:port` of an endpoint, its addresses checked. Raises EngineError."""
    parts = urlsplit("")
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise destination_fault(
            "the endpoint is not an address of a store", "Write it as https://host:port, for example."
        )
    try:
        checked_address(parts.hostname, port, allow_private=context.allow_private_addresses)
    except EngineError as error:
        error.origin = Origin.DESTINATION
        raise
    return parts.scheme, f"{parts.hostname}:{port}"


def file_system(config: FolderOrS3, context: Context) -> fs.FileSystem:
    """An S3-compatible store as a file system; nothing is asked of it yet. Raises EngineError."""
    from pyarrow import fs

    given: dict[str, Any] = {"region": config.s3_region or "us-east-1", "connect_timeout": 5, "request_timeout": 60}
    if config.s3_access_key:
        given |= {"access_key": config.s3_access_key, "secret_key": config.s3_secret_key.get_secret_value()}
    if config.s3_endpoint:
        given["scheme"], given["endpoint_override"] = checked_endpoint(config.s3_endpoint, context)
    retries = fs.AwsStandardS3RetryStrategy(max_attempts=3)
    with explained(f"the bucket {config.s3_bucket}"):
        # Parts that wait in the background would hold a whole file in memory where the store is slower than the disk.
        return fs.S3FileSystem(
            **given, retry_strategy=retries, check_directory_existence_before_creation=False, background_writes=False
        )


class BucketStore(Store):
    """A prefix of a bucket. One load at a time may write a table; a second is noticed when it commits."""

    def __init__(self, files: fs.FileSystem, config: FolderOrS3, context: Context) -> None:
        self._files = files
        self._context = context
        self._bucket = config.bucket
        self._shown = f"the bucket {self._bucket}"
        self._root = "/".join(part for part in (self._bucket, config.prefix) if part)

    def look(self) -> str:
        """Ask for the bucket. Raises EngineError when it is not there or the keys do not fit."""
        from pyarrow import fs

        with explained(self._shown):
            try:
                self._files.get_file_info(fs.FileSelector(self._bucket, recursive=False))
            except FileNotFoundError as error:  # what some clouds say is only that a path is not there
                raise no_bucket(self._shown) from error
        return f"{self._bucket} answers"

    def probe(self) -> str:
        """Write and remove a small object."""
        path = f"{self._root}/{HIDDEN}/check-{uuid.uuid4().hex}"
        with explained(self._shown):
            self._put(path, b"check")
            self._files.delete_file(path)
        return "an object was written and removed"

    @contextmanager
    def lock(self, place: Place) -> Iterator[None]:
        """No lock that a store could give; remove objects that a killed load left in the table."""
        manifest = self.manifest(place)
        if manifest is not None:
            known = {f"{self._table(place)}/{piece.path}" for piece in manifest.files}
            with explained(self._shown):
                for info in self._under(self._table(place)):
                    if info.base_name.startswith("part-") and info.path not in known:
                        self._files.delete_file(info.path)
        yield

    def staging(self, place: Place) -> Path:
        """A new folder under the temporary one."""
        folder = self._context.temp / f"stage-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        return folder

    def manifest(self, place: Place) -> Manifest | None:
        """The manifest object, or one made from the objects that are there."""
        from pyarrow import fs

        path = f"{self._table(place)}/{MANIFEST}"
        with explained(self._shown):
            if self._files.get_file_info(path).type == fs.FileType.File:
                return Manifest.load(self._get(path))
            return self._foreign(place)

    @contextmanager
    def local(self, place: Place, piece: Piece) -> Iterator[Path]:
        """A copy of the object in the temporary folder, as long as the block lasts."""
        folder = self.staging(place)
        copy = folder / Path(piece.path).name
        try:
            with explained(self._shown):
                fetch(self._files, f"{self._table(place)}/{piece.path}", copy)
            yield copy
        finally:
            self.forget(folder)

    def publish(self, change: Change) -> None:
        """Put the new objects, then the manifest, then keep or delete the old ones."""
        now = self.manifest(change.place)
        if (now and now.generation) != (change.before and change.before.generation):
            raise EngineError(
                f"{change.place.label} was changed by another load meanwhile",
                origin=Origin.DESTINATION,
                kind=Kind.TRANSIENT,
                fix="Let one job write the table; this load can be tried again.",
            )
        table = self._table(change.place)
        with explained(self._shown):
            files = [path for path in change.staging.rglob("*") if path.is_file()]
            targets = [f"{table}/{file.relative_to(change.staging).with_suffix('.parquet')}" for file in files]
            side_by_side(self._context, lambda pair: self._send(*pair), zip(files, targets, strict=True))
            self._put(f"{table}/{MANIFEST}", change.manifest.dump())
            self._retire(change)
            self._prune(change.place, change.keep_days)

    def forget(self, staging: Path) -> None:
        """Remove the load's folder."""
        shutil.rmtree(staging, ignore_errors=True)

    def generations(self, place: Place) -> list[Generation]:
        """The manifests in the parachute."""
        with explained(self._shown):
            kept = [info.path for info in self._under(self._parachute(place)) if info.base_name == MANIFEST + KEPT]
            return [Manifest.load(self._get(path)).generation_of() for path in sorted(kept, reverse=True)]

    def restore(self, place: Place, generation: str, state: Mapping[str, Any] | None) -> Manifest:
        """Copy the kept objects back, put the manifest, keep what was there."""
        if generation not in {kept.name for kept in self.generations(place)}:
            raise no_generation(place.label, generation)
        folder = f"{self._parachute(place)}/{generation}"
        with explained(self._shown):
            old = Manifest.load(self._get(f"{folder}/{MANIFEST}{KEPT}"))
        before = self.manifest(place)
        manifest = replace(
            old,
            state=old.state if state is None else dict(state),
            generation=new_generation(),
            replaces=before.generation if before else "",
            retires=True,
        )
        staging = self.staging(place)
        with explained(self._shown):
            for piece in old.files:
                self._files.copy_file(f"{folder}/{piece.path}{KEPT}", f"{self._table(place)}/{piece.path}")
        self.publish(Change(place, manifest, before, (), staging, 36_500))
        self.forget(staging)
        return manifest

    def _retire(self, change: Change) -> None:
        before, stay = change.before, {piece.path for piece in change.manifest.files}
        if before is None:
            return
        keep = change.manifest.retires and change.keep_days > 0
        table, kept = self._table(change.place), f"{self._parachute(change.place)}/{before.generation}"
        for piece in before.files:
            if keep:
                self._files.copy_file(f"{table}/{piece.path}", f"{kept}/{piece.path}{KEPT}")
        if keep:
            self._put(f"{kept}/{MANIFEST}{KEPT}", before.dump())
        for piece in before.files:
            if piece.path not in stay:
                self._files.delete_file(f"{table}/{piece.path}")

    def _prune(self, place: Place, keep_days: int) -> None:
        oldest = datetime.now(UTC) - timedelta(days=keep_days)
        for info in self._under(self._parachute(place)):
            if info.base_name == MANIFEST + KEPT and info.mtime < oldest:
                # Google's asks at last for an object of the folder's own name, which there need not be.
                with suppress(FileNotFoundError):
                    self._files.delete_dir(info.path.rpartition("/")[0])

    def _foreign(self, place: Place) -> Manifest | None:
        import pyarrow.parquet as pq

        table = self._table(place)
        found = [info for info in self._under(table) if info.path.endswith(".parquet")]
        footers = [pq.read_metadata(info.path, filesystem=self._files) for info in found]
        pieces = [
            Piece(info.path.removeprefix(f"{table}/"), footer.num_rows, info.size)
            for info, footer in zip(found, footers, strict=True)
        ]
        made = manifest_of(pieces, [footer.schema.to_arrow_schema() for footer in footers])
        return made and replace(made, generation="foreign")

    def _table(self, place: Place) -> str:
        return f"{self._root}/{place.folder}"

    def _parachute(self, place: Place) -> str:
        return f"{self._root}/{HIDDEN}/parachute/{place.folder}"

    def _under(self, prefix: str) -> list[Any]:
        from pyarrow import fs

        found = self._files.get_file_info(fs.FileSelector(prefix, recursive=True, allow_not_found=True))
        return [info for info in found if info.type == fs.FileType.File]

    def _get(self, path: str) -> bytes:
        with self._files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _put(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)

    def _send(self, file: Path, path: str) -> None:
        send(file, self._files, path)
        with suppress(OSError):
            file.unlink()
