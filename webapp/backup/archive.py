"""The file of a backup: a tar, compressed with zstd. Its manifest comes last, so a file that was cut has none."""

import fcntl
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
import sqlalchemy as sa
import zstandard
from sqlalchemy.engine import Connection

from webapp import db as database
from webapp import schema
from webapp.backup.rows import read_rows, set_sequences, tables, write_rows
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db
from webapp.engine.locks import shared_lock
from webapp.errors import Conflict, Invalid

MANIFEST = "manifest.json"
FORMAT = 1
FOLDERS = ("keys",)
DATA_FOLDERS = ("data", "warehouse")
DUCKDB_SUFFIXES = (".duckdb", ".db")
LOCK_SECONDS = 60.0


@dataclass
class Manifest:
    """What is in a backup: rows by table, and the SHA-256 of each entry."""

    revision: str
    made_at: str
    format: int = FORMAT
    rows: dict[str, int] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)


def back_up(settings: Settings, target: Path, *, with_data: bool) -> Manifest:
    """Write a backup, readable by its owner only; it takes its name when it is whole. Beside a running stack, too.

    All tables are as they were at one instant. Raises Conflict when the file is there, or its folder cannot be written.
    """
    if target.exists():
        raise Conflict(f"{target} is there already. Choose another name.")
    manifest = Manifest(revision=schema.present_version() or "", made_at=utcnow().isoformat())
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise Conflict(f"{target.parent} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "wb") as raw:
            with (
                zstandard.ZstdCompressor(3).stream_writer(raw, closefd=False) as packed,
                tarfile.open(fileobj=packed, mode="w|") as tar,
            ):
                _add_everything(tar, settings, manifest, with_data=with_data)
            raw.flush()
            os.fsync(raw.fileno())
        Path(name).rename(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return manifest


def _add_everything(tar: tarfile.TarFile, settings: Settings, manifest: Manifest, *, with_data: bool) -> None:
    with one_instant() as connection:
        for table in tables():
            with tempfile.TemporaryFile() as file:
                manifest.rows[str(table.name)] = write_rows(connection, table, file)
                _add(tar, manifest, f"tables/{table.name}.jsonl", file)
    for folder in (*FOLDERS, *(DATA_FOLDERS if with_data else ())):
        for path in sorted((settings.hohmann_home / folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix != ".lock":
                _add_file(tar, manifest, path, path.relative_to(settings.hohmann_home).as_posix())
    content = io.BytesIO(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
    _add(tar, Manifest("", ""), MANIFEST, content)


@contextmanager
def one_instant() -> Iterator[Connection]:
    """A connection that sees all tables as they are now, whatever others write meanwhile."""
    level = {"isolation_level": "REPEATABLE READ"} if database.is_postgresql() else {}
    with database.intent(write=False), db.engine.connect().execution_options(**level) as connection:
        yield connection


def _add_file(tar: tarfile.TarFile, manifest: Manifest, path: Path, name: str) -> None:
    lock = shared_lock(path, seconds=LOCK_SECONDS) if path.suffix in DUCKDB_SUFFIXES else nullcontext()
    try:
        with lock, path.open("rb") as file:
            _add(tar, manifest, name, file)
    except FileNotFoundError:
        return  # it went meanwhile
    except BlockingIOError as error:
        raise Conflict(f"{path} is being written. Try again when its runs have ended.") from error


def _add(tar: tarfile.TarFile, manifest: Manifest, name: str, file: IO[bytes]) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    hashing = _Hashing(file)
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(utcnow().timestamp())
    tar.addfile(entry, hashing)
    manifest.entries[name] = hashing.digest.hexdigest()


class _Hashing:
    """A file that is read through, and what was read, hashed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size)
        self.digest.update(found)
        return found


def restore(settings: Settings, source: Path) -> Manifest:
    """Bring a backup back into an empty instance: its database has no owner, its home no data. All or nothing.

    Raises Invalid for a file that is no whole backup or of a newer release, Conflict for an instance that is in use.
    """
    with _home_to_itself(settings), tempfile.TemporaryDirectory(dir=settings.hohmann_home) as folder:
        content = Path(folder)
        manifest = unpack(source, content)
        if manifest.revision > schema.newest_version():
            raise Invalid(f"{source} was made by a newer release ({manifest.revision}). Install that one.")
        check_is_empty(settings, content)
        _restore_tables(manifest, content)
        for name in (*FOLDERS, *DATA_FOLDERS):
            if (content / name).exists():
                shutil.rmtree(settings.hohmann_home / name, ignore_errors=True)
                (content / name).rename(settings.hohmann_home / name)
        (settings.hohmann_home / "keys").chmod(0o700)
    return manifest


@contextmanager
def _home_to_itself(settings: Settings) -> Iterator[None]:
    settings.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.run_folder / "stack.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("A stack runs on this HOHMANN_HOME. Stop it first.") from None
        yield


def unpack(source: Path, target: Path) -> Manifest:
    """Unpack a backup into a folder and check every entry. Raises Invalid when it is not whole."""
    try:
        with (
            source.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw) as packed,
            tarfile.open(fileobj=packed, mode="r|") as tar,
        ):
            tar.extractall(target, filter="data")
        facts: dict[str, Any] = orjson.loads((target / MANIFEST).read_bytes())
    except (OSError, tarfile.TarError, zstandard.ZstdError, orjson.JSONDecodeError) as error:
        raise Invalid(f"{source} is no whole backup: {error}") from error
    if facts.get("format") != FORMAT:
        raise Invalid(f"{source} has the format {facts.get('format')}; this release reads {FORMAT}.")
    manifest = Manifest(**facts)
    for name, digest in manifest.entries.items():
        if not (target / name).is_file() or _digest(target / name) != digest:
            raise Invalid(f"{source} is damaged: {name} is not what it was.")
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_is_empty(settings: Settings, content: Path) -> None:
    """Raise Conflict when something of this instance would be written over."""
    with db.engine.connect() as connection:
        if sa.inspect(connection).has_table("user") and connection.scalar(sa.text('SELECT count(*) FROM "user"')):
            raise Conflict("This database is in use: it has users. Restore into an empty one.")
    for name in DATA_FOLDERS:
        folder = settings.hohmann_home / name
        if (content / name).exists() and any(path.is_file() for path in folder.rglob("*")):
            raise Conflict(f"{folder} holds files. Restore into an empty HOHMANN_HOME, or move them away.")


def _restore_tables(manifest: Manifest, content: Path) -> None:
    """Make the tables as they were when the backup was made, fill them, and bring them up to date."""
    schema.downgrade("base")
    schema.upgrade(manifest.revision)
    with database.unit_of_work() as session:
        connection = session.connection()
        if not database.is_postgresql():
            connection.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
        for name, expected in manifest.rows.items():
            with (content / "tables" / f"{name}.jsonl").open("rb") as lines:
                _, count = read_rows(connection, lines)
            if count != expected:
                raise Invalid(f"{name}: the backup speaks of {expected} rows and holds {count}.")
        set_sequences(connection)
    schema.upgrade()
