"""Files as a source: every name, folder or pattern of files is a stream, wherever the files lie."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from webapp.engine.connectors import relations
from webapp.engine.connectors.base import CheckStep, Chunk, Column, Mode, Read, Source, SourceSession, Stream
from webapp.engine.connectors.files import formats
from webapp.engine.connectors.files.object_stores import ObjectStorage
from webapp.engine.connectors.files.remote import SftpStorage, WebStorage
from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.connectors.files.storage import FileEntry, LocalStorage, Storage, fixed_folder
from webapp.engine.connectors.trials import tried
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.names import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MODIFIED = "_last_modified_time"
_INSTANT = "TIMESTAMP WITH TIME ZONE"
_SMALLEST_CHUNK = 16 * 1024 * 1024
_PLACES: Mapping[str, type[Storage]] = {
    "local": LocalStorage, "s3": ObjectStorage, "gcs": ObjectStorage, "azure": ObjectStorage, "http": WebStorage,
    "sftp": SftpStorage,
}  # fmt: skip


class FilesSource(Source[FilesSourceSpec]):
    """Files on this machine, in a bucket, on a server."""

    name = "files"
    title = "Files"
    Spec = FilesSourceSpec

    def check(self) -> Iterator[CheckStep]:
        """Reach the place, list the files, read one."""
        storage = _PLACES[self.config.storage](self.config, self.context)
        return tried(*storage.steps(), ("rights", lambda: _listed(_streams(self.config, storage))),
                     ("read one row", lambda: self._one_row(storage)))  # fmt: skip

    def discover(self, *, pattern: str = "") -> Iterator[Stream]:
        """Yield the streams; all files are looked at for their columns."""
        with _session(self.config, self.context) as session:
            for name in session.entries:
                if not pattern or fnmatchcase(name, pattern):
                    yield session.described(name)

    @contextmanager
    def open(self, *, parallel: int) -> Iterator[FilesSession]:
        """The files as they are listed now; later ones wait for the next run."""
        with _session(self.config, self.context) as session:
            yield session

    def _one_row(self, storage: Storage) -> str:
        with _session(self.config, self.context, storage) as session:
            name, (entry, *_) = next(iter(session.entries.items()))
            with session.opened(entry, None) as (connection, relation, _explain):
                connection.sql(f"SELECT * FROM {relation.sql} LIMIT 1",  # noqa: S608  made by us
                               params=relation.parameters).to_arrow_table()  # fmt: skip
                return f"from {entry.name}, stream {name}"


@contextmanager
def _session(config: FilesSourceSpec, context: Context, storage: Storage | None = None) -> Iterator[FilesSession]:
    folder = context.temp / f"files-{uuid4().hex}"
    with _own_disk():
        folder.mkdir(parents=True)
    # What is brought here may be read from here.
    inside = replace(context, temp=folder, allowed_roots=(*context.allowed_roots, folder))
    try:
        yield FilesSession(config, inside, storage or _PLACES[config.storage](config, inside))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class FilesSession(SourceSession):
    """The files of all streams, listed once."""

    def __init__(self, config: FilesSourceSpec, context: Context, storage: Storage) -> None:
        self._config = config
        self._context = context
        self._storage = storage
        self.entries = _streams(config, storage)
        self._fields: dict[str, set[str]] = {}

    def described(self, name: str) -> Stream:
        """A stream with the columns that its files have together."""
        types: dict[str, tuple[str, str]] = {}
        for entry in self._filled(name):
            with self.opened(entry, None) as (_connection, relation, _explain):
                _unite(types, relation.types)
        timed = all(entry.modified for entry in self.entries[name])
        columns = [Column(column, type_) for column, type_ in types.values()]
        return Stream(
            "", name, tuple(replace(column, native=_native(self._config, column)) for column in columns), (),
            (MODIFIED,) if timed else (), (Mode.FULL_REFRESH, Mode.INCREMENTAL) if timed else (Mode.FULL_REFRESH,),
            size_bytes=_size(self.entries[name]),
        )  # fmt: skip

    def high_water(self, read: Read) -> Any:
        """The time of the newest file."""
        _check_cursor(read)
        return max((_instant(entry) or "" for entry in self._of(read)), default=None)

    def chunks(self, read: Read, *, parallel: int) -> Sequence[Chunk]:
        """Files together until they are worth a turn."""
        entries = self._of(read)
        enough = max(_SMALLEST_CHUNK, (_size(entries) or 0) // (4 * max(1, parallel)))
        groups: list[list[FileEntry]] = [[]]
        for entry in entries:
            if groups[-1] and (_size(groups[-1]) or enough) >= enough:
                groups.append([])
            groups[-1].append(entry)
        return [Chunk(group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more",
                      {"files": [entry.path for entry in group]}) for group in groups if group]  # fmt: skip

    def read(self, read: Read, chunk: Chunk) -> pa.RecordBatchReader:
        """The rows of a chunk's files, one file after the other."""
        import pyarrow as pa

        from webapp.engine.connectors.types import arrow_schema

        if read.cursor is not None:
            _check_cursor(read)
        return pa.RecordBatchReader.from_batches(arrow_schema(read.columns), self._rows(read, chunk))

    def fields(self, read: Read) -> Collection[str]:
        """The columns of the files that were read."""
        return self._fields.get(read.stream.name, set())

    @contextmanager
    def opened(
        self, entry: FileEntry, wanted: Mapping[str, str] | None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, relations.Relation, relations.Explain]]:
        """A file as a relation, with the time of its last change. Raises EngineError."""
        import duckdb

        from webapp.engine.database import writing

        folder = self._context.temp / uuid4().hex
        with ExitStack() as stack, _own_disk():
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            context = replace(self._context, temp=folder)
            file = stack.enter_context(self._storage.brought(entry, folder))
            ready = formats.prepared(file, entry.name.split("?", 1)[0], self._config, context)
            context = replace(context, memory_limit_mb=max(context.memory_limit_mb, ready.memory_mb))
            connection = stack.enter_context(writing(None, context, shown=entry.name, may_read=ready.files))
            try:
                yield connection, _with_time(ready.relation(connection, wanted), entry), ready.explain
            except duckdb.Error as error:
                raise ready.explain(error) or relations.fault(error) from error

    def _rows(self, read: Read, chunk: Chunk) -> Iterator[pa.RecordBatch]:
        known = {entry.path: entry for entry in self.entries[read.stream.name]}
        # The window is one of files, and these are chosen already.
        plain = replace(read, cursor=None, since=None, until=None)
        wanted = {column.name: column.type for column in read.stream.columns if column.name != MODIFIED}
        paths = chunk.bounds.get("files") or [entry.path for entry in self._of(read)]
        for path in paths:
            if path not in known:
                raise EngineError(f"the file {path!r} is gone", origin=Origin.SOURCE, kind=Kind.TRANSIENT, path=path,
                                  fix="Run again: what is there then is read.")  # fmt: skip
            if known[path].size == 0 and len(known) > 1:
                continue
            with self.opened(known[path], wanted) as (connection, relation, explain):
                self._fields.setdefault(read.stream.name, set()).update(relation.types)
                yield from relations.reader(connection, relation, plain, self._context, explain)

    def _of(self, read: Read) -> list[FileEntry]:
        entries = self.entries.get(read.stream.name)
        if entries is None:
            raise EngineError(
                f"there are no files for {read.stream.name!r} now", origin=Origin.SOURCE, stream=read.stream.name,
                fix="Check the path, or discover the streams again.",
            )  # fmt: skip
        if read.cursor is None:
            return entries
        return [entry for entry in entries if _within(entry, read)]

    def _filled(self, name: str) -> list[FileEntry]:
        """The files that hold something; a lone file shall say itself that it is empty."""
        entries = self.entries[name]
        filled = [entry for entry in entries if entry.size != 0]
        for entry in entries:
            if entry.size == 0 and len(entries) > 1:
                self._context.reporter.log("warning", f"{entry.name} is empty and is passed over")
        return filled or entries[:1]


def _streams(config: FilesSourceSpec, storage: Storage) -> dict[str, list[FileEntry]]:
    if config.streams:
        return {stream.name: storage.files(stream.path) for stream in config.streams}
    found: dict[str, list[FileEntry]] = {}
    entries = storage.files(config.path)
    base = _base(config, storage)
    for entry in entries:
        inside = entry.path.removeprefix(base).strip("/") if entry.path.startswith(base) else entry.name
        inside = inside or entry.name
        folder, slash, _rest = inside.partition("/")
        name = formats.stem_of(entry.name.split("?", 1)[0]) if not slash or config.storage == "http" else folder
        found.setdefault(name, []).append(entry)
    return found


def _base(config: FilesSourceSpec, storage: Storage) -> str:
    fixed = fixed_folder(config.path)
    if isinstance(storage, LocalStorage):
        from webapp.engine.paths import allowed_path

        return str(allowed_path(fixed or ".", storage.context, origin=Origin.SOURCE))
    return fixed.strip("/") if config.storage != "sftp" else fixed


def _listed(streams: Mapping[str, Sequence[FileEntry]]) -> str:
    return f"{sum(map(len, streams.values()))} files in {len(streams)} streams"


def _unite(known: dict[str, tuple[str, str]], types: Mapping[str, str]) -> None:
    from webapp.engine.drift import common_type

    for name, type_ in types.items():
        brings = relations.travelling(type_) if type_ != '"NULL"' else type_
        first, have = known.get(name.lower(), (name, '"NULL"'))
        # Text can hold whatever two files do not agree upon.
        known[name.lower()] = (first, common_type(have, brings) or "VARCHAR")


def _native(config: FilesSourceSpec, column: Column) -> str:
    return "time of the file" if column.name == MODIFIED else config.format if config.format != "auto" else ""


def _with_time(relation: relations.Relation, entry: FileEntry) -> relations.Relation:
    if MODIFIED in relation.types:
        return relation
    number = len(relation.parameters) + 1
    return relations.Relation(
        f"(SELECT *, CAST(${number} AS {_INSTANT}) AS {quoted(MODIFIED)} FROM {relation.sql})",  # noqa: S608  made by us
        [*relation.parameters, _instant(entry)],
        {**relation.types, MODIFIED: _INSTANT},
    )


def _instant(entry: FileEntry) -> str | None:
    if entry.modified is None:
        return None
    # Always with microseconds, so that the texts sort as the times do.
    return entry.modified.astimezone(UTC).isoformat(timespec="microseconds")


def _within(entry: FileEntry, read: Read) -> bool:
    at = _instant(entry) or ""
    return (read.since is None or at >= _text(read.since)) and (read.until is None or at <= _text(read.until))


def _text(moment: Any) -> str:
    try:
        read = datetime.fromisoformat(str(moment))
    except ValueError as error:
        raise EngineError(f"{moment!r} is not a time", origin=Origin.USER, fix="Reset the stream.") from error
    return read.replace(tzinfo=read.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")


def _check_cursor(read: Read) -> None:
    if read.cursor != MODIFIED:
        raise EngineError(f"files are followed by {MODIFIED}, not by {read.cursor!r}", origin=Origin.USER,
                          fix=f"Choose {MODIFIED} as the cursor.")  # fmt: skip


def _size(entries: Sequence[FileEntry]) -> int | None:
    return sum(entry.size or 0 for entry in entries) if all(e.size is not None for e in entries) else None


@contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineError(
            f"this machine fails while files are read: {error.strerror or error}", origin=Origin.PLATFORM,
            kind=Kind.SYSTEM, permanent=False, fix="Check the free space and the rights of the temporary folder.",
        ) from error  # fmt: skip
