"""A place for tables made of Parquet files: what each holds is said by a manifest, whose change is the commit."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from webapp.engine.connectors.base import Column, Generation, Target
from webapp.engine.connectors.parquet.faults import destination_fault
from webapp.engine.connectors.parquet.quill import Piece

MANIFEST = "_hohmann.json"
HIDDEN = ".hohmann"
KEPT = ".kept"
"""Files of an earlier content end with this: no pattern `**/*.parquet` finds them."""


@dataclass(frozen=True)
class Place:
    """A table's folder below the store's root."""

    folder: str
    label: str

    @classmethod
    def of(cls, target: Target) -> Place:
        """The folder for a target. Raises EngineError for a name that no folder can have."""
        parts = [_segment(name) for name in (target.database, target.table) if name]
        if not target.table or any(len(part.encode()) > 255 for part in parts):
            raise destination_fault(
                f"{target.label!r} cannot be the name of a folder", "Give the table a name of 1 to 255 bytes."
            )
        return cls("/".join(parts), target.label)


def _segment(name: str) -> str:
    """A name as one folder: slashes, control characters and a leading dot or underscore are written as %XX."""
    plain = re.sub(r"[/\\%\x00-\x1f*?\[\]]", lambda sign: f"%{ord(sign[0]):02X}", name)
    return f"%{ord(plain[0]):02X}{plain[1:]}" if plain[:1] in (".", "_") else plain


def plain_name(name: str) -> str:
    """A name as a folder that every store and library takes; one with other signs gets a hash, so as to stay apart."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Manifest:
    """What a table holds: its files, its columns, and the state that came with them."""

    columns: tuple[Column, ...]
    state: Mapping[str, Any]
    files: tuple[Piece, ...]
    run_id: str = ""
    replaces: str = ""
    retires: bool = False
    generation: str = field(default_factory=lambda: new_generation())
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def rows(self) -> int:
        """The rows of all files."""
        return sum(piece.rows for piece in self.files)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(piece.size for piece in self.files)

    def dump(self) -> bytes:
        """The manifest as its file holds it."""
        return json.dumps({"version": 1, **asdict(self)}, ensure_ascii=False).encode()

    @classmethod
    def load(cls, text: bytes) -> Manifest:
        """The manifest that `dump` wrote. Raises EngineError when it is something else."""
        try:
            value = json.loads(text)
            value.pop("version")
            columns = tuple(Column(**column) for column in value.pop("columns"))
            files = tuple(Piece(**piece) for piece in value.pop("files"))
            return cls(columns=columns, files=files, **value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise destination_fault(
                f"the table's manifest {MANIFEST} cannot be read", "Restore the file, or load into another table."
            ) from error

    def generation_of(self) -> Generation:
        """This content, as the parachute lists it."""
        return Generation(self.generation, self.at, self.rows, self.size)


def new_generation() -> str:
    """A name for a content of a table; later ones sort behind earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Change:
    """A commit: the new manifest, the old content, and which of the new files lie in the staging folder."""

    place: Place
    manifest: Manifest
    before: Manifest | None
    kept: Sequence[Piece]
    staging: Path
    keep_days: int


class Store(ABC):
    """Holds tables; the writing side of one table is used by one load at a time."""

    @abstractmethod
    def lock(self, place: Place) -> AbstractContextManager[None]:
        """Hold the table for one load; clears what a killed one left. Raises EngineError."""

    @abstractmethod
    def staging(self, place: Place) -> Path:
        """A new local folder for a load's files."""

    @abstractmethod
    def manifest(self, place: Place) -> Manifest | None:
        """What the table holds now, None when there is no such table; foreign Parquet files are read for it."""

    @abstractmethod
    def local(self, place: Place, piece: Piece) -> AbstractContextManager[Path]:
        """A file of the table as a local one."""

    @abstractmethod
    def publish(self, change: Change) -> None:
        """Make a change visible; the old content goes to the parachute when the new manifest says so."""

    @abstractmethod
    def forget(self, staging: Path) -> None:
        """Remove a load's files. Never raises."""

    @abstractmethod
    def generations(self, place: Place) -> list[Generation]:
        """Earlier contents that are kept, newest first."""

    @abstractmethod
    def restore(self, place: Place, generation: str, state: Mapping[str, Any] | None) -> Manifest:
        """Bring an earlier content back in one step. Raises EngineError."""
