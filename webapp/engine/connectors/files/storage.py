"""Where files lie: each kind of place lists files and brings one to this machine."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.connectors.trials import Step
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.paths import has_pattern, source_files

ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst", ".json", ".json.gz", ".jsonl",
           ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet", ".parq", ".pq", ".xlsx", ".xls", ".xlsm", ".xlsb", ".ods",
           ".avro", ".arrow", ".feather", ".ipc")  # fmt: skip
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileEntry:
    """A file as its place lists it; size and time are None where the place does not say."""

    path: str
    size: int | None = None
    modified: datetime | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


class Storage(ABC):
    """A place with files. Its methods may be called from several threads."""

    def __init__(self, config: FilesSourceSpec, context: Context) -> None:
        self.config = config
        self.context = context

    @abstractmethod
    def steps(self) -> list[Step]:
        """The steps of a test, up to being able to list files."""

    @abstractmethod
    def files(self, path: str) -> list[FileEntry]:
        """The files that a path, folder or pattern names, in order. Raises EngineError when there is none."""

    @abstractmethod
    def brought(self, entry: FileEntry, folder: Path) -> AbstractContextManager[Path]:
        """The file on this machine while the block runs. Raises EngineError."""

    def copied(self, incoming: IO[bytes], target: Path) -> None:
        """Copy in pieces, so that memory stays bounded and a cancelled run ends."""
        with target.open("wb") as out:
            while piece := incoming.read(_CHUNK):
                if self.context.cancelled():
                    raise Cancelled
                out.write(piece)


class LocalStorage(Storage):
    """Folders of this machine, under the allowed roots."""

    def steps(self) -> list[Step]:
        """Nothing has to be reached."""
        return []

    def files(self, path: str) -> list[FileEntry]:
        """The files by their real paths."""
        found = source_files(path, self.context, endings=ENDINGS)
        return [
            FileEntry(str(file), stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
            for file, stat in ((file, file.stat()) for file in found)
        ]

    @contextmanager
    def brought(self, entry: FileEntry, folder: Path) -> Iterator[Path]:
        """The file itself."""
        (file,) = (
            source_files(entry.path, self.context, endings=ENDINGS)
            if not has_pattern(entry.path)
            else (Path(entry.path),)
        )
        yield file


def fixed_folder(path: str) -> str:
    """The part of a path before its first pattern, up to a slash."""
    parts = path.split("/")
    fixed = next((at for at, part in enumerate(parts) if has_pattern(part)), len(parts))
    return "/".join(parts[:fixed])


def chosen(path: str, found: list[FileEntry]) -> list[FileEntry]:
    """Those of a folder's files that a path or pattern means, in order. Raises EngineError when there is none."""
    if has_pattern(path):
        pattern = _regex(path)
        kept = [entry for entry in found if pattern.fullmatch(entry.path)]
    else:
        kept = [entry for entry in found if entry.path == path or _readable(entry, path)]
    if not kept:
        raise missing(path)
    return sorted(kept, key=lambda entry: entry.path)


def missing(path: str) -> EngineError:
    """The error for a path that names nothing."""
    return EngineError(f"no file matches {path!r}", origin=Origin.SOURCE, path=path,
                       fix="Check the path, and the rights to list it.")  # fmt: skip


def no_right(path: str, why: str) -> EngineError:
    """The error for a file or folder that may not be read."""
    return EngineError(f"{path!r} may not be read: {why}", origin=Origin.SOURCE, kind=Kind.CONFIGURATION, path=path,
                       fix="Check the keys or the password, and their rights.")  # fmt: skip


def _readable(entry: FileEntry, folder: str) -> bool:
    inside = entry.path.startswith(f"{folder.rstrip('/')}/") or not folder
    return inside and entry.name.lower().endswith(ENDINGS) and not entry.name.startswith((".", "_"))


def _regex(path: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", path)
    spelled = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(
        spelled.get(piece, piece.replace("[!", "[^") if piece.startswith("[") and piece.endswith("]")
                    else re.escape(piece)) for piece in pieces))  # fmt: skip
