"""Where one table's files lie: a folder of this machine, or a prefix of a bucket."""

from __future__ import annotations

import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from webapp.engine.connectors.delta.library import told
from webapp.engine.connectors.delta.spec import DeltaWriter
from webapp.engine.connectors.parquet.bucket import checked_endpoint, file_system
from webapp.engine.connectors.parquet.durable import forced
from webapp.engine.connectors.parquet.faults import explained
from webapp.engine.connectors.parquet.local import link
from webapp.engine.connectors.parquet.store import HIDDEN, Place
from webapp.engine.connectors.parquet.uploads import fetch, send
from webapp.engine.context import Context
from webapp.engine.errors import Origin
from webapp.engine.locks import file_lock
from webapp.engine.paths import allowed_path

if TYPE_CHECKING:
    from deltalake import DeltaTable


class Folder(ABC):
    """One table's place. Files are named by their path below it."""

    def __init__(self, config: DeltaWriter, context: Context, place: Place) -> None:
        self.config = config
        self.context = context
        self.label = place.label
        self.place = place

    @property
    @abstractmethod
    def uri(self) -> str:
        """The table's address, as the library takes it."""

    @property
    def options(self) -> dict[str, str]:
        """How the library reaches the store."""
        return {}

    def table(self, version: int | None = None) -> DeltaTable | None:
        """The table as it is now, or was at a version; None when there is none. Raises EngineError."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        with told(self.config, self.label):
            try:
                return DeltaTable(self.uri, version, self.options)
            except TableNotFoundError:
                return None

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Hold the table for one load where the place can do that, and clear what a killed one left."""

    @abstractmethod
    def staging(self) -> Path:
        """A new local folder for a load's files."""

    @abstractmethod
    def bring(self, file: Path) -> str:
        """Put a finished file into the table's place, under a name that no version knows; returns the name."""

    @abstractmethod
    def local(self, name: str) -> AbstractContextManager[Path]:
        """A file of the table as a local one."""

    @abstractmethod
    def twin(self, name: str) -> str:
        """Give a file a second name in the table's place; returns it."""

    @abstractmethod
    def missing(self, names: Iterable[str]) -> list[str]:
        """Which of these files are not there any more."""


class LocalFolder(Folder):
    """A folder below the destination's own."""

    @property
    def root(self) -> Path:
        """The destination's folder."""
        return allowed_path(self.config.local_path, self.context, origin=Origin.DESTINATION)

    @property
    def uri(self) -> str:
        """The folder's path; with special characters as they are."""
        return str(self.root / self.place.folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the table's lock file."""
        lock = self.root / HIDDEN / "locks" / self.place.folder
        with file_lock(lock, self.context, shared=False, shown=self.label):
            shutil.rmtree(self._staged, ignore_errors=True)
            yield

    def staging(self) -> Path:
        """A folder on the same file system."""
        with explained(self.label):
            folder = self._staged / uuid.uuid4().hex
            folder.mkdir(parents=True)
            Path(self.uri).mkdir(parents=True, exist_ok=True)
        return folder

    def bring(self, file: Path) -> str:
        """Force the file to the disk, and move it."""
        forced([file])
        name = f"part-{uuid.uuid4()}.parquet"
        file.rename(Path(self.uri) / name)
        forced([Path(self.uri)])
        return name

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The file where it is."""
        yield self._inside(name)

    def twin(self, name: str) -> str:
        """A hard link."""
        other = f"part-{uuid.uuid4()}.parquet"
        link(self._inside(name), Path(self.uri) / other)
        return other

    def missing(self, names: Iterable[str]) -> list[str]:
        """Ask the file system for each."""
        return [name for name in names if not self._inside(name).is_file()]

    @property
    def _staged(self) -> Path:
        # One folder for each table: a table's name is never another's database here.
        return self.root / HIDDEN / "delta" / quote(self.place.folder, safe="")

    def _inside(self, name: str) -> Path:
        """A file that the log names; a shallow clone's lie elsewhere."""
        return allowed_path(str(Path(self.uri) / name), self.context, origin=Origin.DESTINATION)


class BucketFolder(Folder):
    """A prefix of a bucket. Two loads at once are noticed when the second commits."""

    def __init__(self, config: DeltaWriter, context: Context, place: Place) -> None:
        super().__init__(config, context, place)
        parts = (config.bucket, config.prefix, place.folder)
        self._base = "/".join(part for part in parts if part)
        self._files = file_system(config, context)

    @property
    def uri(self) -> str:
        """The prefix as a URL."""
        return f"s3://{quote(self._base)}"

    @property
    def options(self) -> dict[str, str]:
        """Endpoint, keys, patience; commits put the log's next file only where there is none."""
        config = self.config
        given = {
            "aws_region": config.s3_region or "us-east-1",
            "aws_access_key_id": config.s3_access_key,
            "aws_secret_access_key": config.s3_secret_key.get_secret_value(),
            "conditional_put": "etag",
            "connect_timeout": "5s",
            "timeout": "60s",
            "max_retries": "2",
            "retry_timeout": "20s",
        }
        if config.s3_endpoint:
            scheme, address = checked_endpoint(config.s3_endpoint, self.context)
            given |= {"aws_endpoint_url": f"{scheme}://{address}", "aws_allow_http": str(scheme == "http").lower()}
        return {name: text for name, text in given.items() if text}

    def lock(self) -> AbstractContextManager[None]:
        """No lock that a store could give."""
        return nullcontext()

    def staging(self) -> Path:
        """A new folder under the temporary one."""
        folder = self.context.temp / f"delta-{uuid.uuid4().hex}"
        with explained(self.label):
            folder.mkdir(parents=True)
        return folder

    def bring(self, file: Path) -> str:
        """Upload the file, and take it away here."""
        name = f"part-{uuid.uuid4()}.parquet"
        with explained(self.label):
            send(file, self._files, f"{self._base}/{name}")
        file.unlink()
        return name

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A copy, as long as the block lasts."""
        copy = self.context.temp / f"old-{uuid.uuid4().hex}.parquet"
        try:
            with explained(self.label):
                fetch(self._files, f"{self._base}/{name}", copy)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def twin(self, name: str) -> str:
        """A copy that the store makes."""
        other = f"part-{uuid.uuid4()}.parquet"
        with explained(self.label):
            self._files.copy_file(f"{self._base}/{name}", f"{self._base}/{other}")
        return other

    def missing(self, names: Iterable[str]) -> list[str]:
        """Ask the store for all."""
        from pyarrow import fs

        asked = list(names)
        with explained(self.label):
            found = self._files.get_file_info([f"{self._base}/{name}" for name in asked])
        return [name for name, info in zip(asked, found, strict=True) if info.type != fs.FileType.File]


def folder_of(config: DeltaWriter, context: Context, place: Place) -> Folder:
    """The place of one table. Raises EngineError for one that may not be used."""
    return (BucketFolder if config.bucket else LocalFolder)(config, context, place)
