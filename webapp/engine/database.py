"""Opening DuckDB: bounded in memory, and shut off from every file, setting and extension that a load does not need."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.locks import Patience, file_lock
from webapp.engine.names import literal

_HELD = re.compile(r"Conflicting lock is held in (.+? \(PID \d+\))")
IN_MEMORY = ":memory:"
# A DuckDB file is three headers of 4 KiB and then whole blocks.
_HEADERS = 3 * 4096


@contextmanager
def writing(
    database: Path | None, context: Context, *, shown: str, may_read: Iterable[Path], ordered: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB file for writing (None: in memory), waiting for whoever has it; only ``may_read`` can be read.

    Unless ``ordered``, rows may land in another order than they have at their source, which is faster.

    Raises EngineError when it is not a DuckDB file, cannot be written, or stays in use beyond the lock timeout.
    """
    if database is None:
        with _opened(IN_MEMORY, context, shown, read_only=False) as connection:
            yield _fenced(connection, context, may_read, ordered=ordered)
        return
    with file_lock(database, context, shared=False, shown=shown):
        size = database.stat().st_size if database.exists() else None
        try:
            with _opened(str(database), context, shown, read_only=False) as connection:
                yield _fenced(connection, context, may_read, ordered=ordered)
        except (EngineError, duckdb.Error):
            _given_back(database, context, size)
            raise


def _given_back(database: Path, context: Context, size: int | None) -> None:
    """Give the space of a failed load back, which DuckDB leaves behind the file's end; a full disk would stay full."""
    if not database.exists() or database.stat().st_size == size:
        return
    # Best effort: the load's own error is the one to tell, and the next load writes over what stays.
    with contextlib.suppress(duckdb.Error, OSError):
        with duckdb.connect(str(database), config=connect_config(context)) as connection:
            row = connection.execute("SELECT block_size, total_blocks FROM pragma_database_size()").fetchone()
            tables = connection.execute("SELECT count(*) FROM duckdb_tables()").fetchone()
        if row is None:
            return
        _truncated(database, _HEADERS + int(row[0]) * int(row[1]))
        if size is None and tables == (0,):
            database.unlink()


def _truncated(database: Path, end: int) -> None:
    closed = database.stat()
    with database.open("r+b") as file:
        # The lock that DuckDB itself takes: nobody opens the file while its end moves.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        now = os.fstat(file.fileno())
        if now.st_mtime_ns == closed.st_mtime_ns and now.st_size == closed.st_size > end:
            file.truncate(end)


@contextmanager
def reading(database: Path, context: Context, *, shown: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB file for reading only, waiting for a running load; SQL on it reaches no other file.

    Raises EngineError as ``writing`` does, and when the file is not there.
    """
    if not database.is_file():
        raise EngineError(f"{shown} is not there yet", origin=Origin.DESTINATION, file=shown, fix="Run the load first.")
    with (
        file_lock(database, context, shared=True, shown=shown),
        _opened(str(database), context, shown, read_only=True) as connection,
    ):
        yield _fenced(connection, context, (), ordered=True)


@contextmanager
def _opened(database: str, context: Context, shown: str, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = _connect(database, context, shown, read_only=read_only)
    try:
        yield connection
    finally:
        connection.close()


def _connect(database: str, context: Context, shown: str, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    patience = Patience(context, shown)
    while True:
        try:
            return duckdb.connect(database, read_only=read_only, config=connect_config(context))
        except duckdb.Error as error:
            holder = _HELD.search(str(error))
            if not holder and "Could not set lock" not in str(error):
                raise _unopened(error, shown) from error
            # Someone who does not know our lock (the duckdb shell) has the file.
            patience.pause(holder.group(1) if holder else None)


def connect_config(context: Context) -> dict[str, str | bool | int | float | list[str]]:
    """What every connection of ours begins with: its share of the machine, and nothing fetched from elsewhere."""
    context.temp.mkdir(parents=True, exist_ok=True)
    return {
        "memory_limit": f"{context.memory_limit_mb}MB",
        "threads": context.threads,
        "temp_directory": str(context.temp),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }


def _fenced(
    connection: duckdb.DuckDBPyConnection, context: Context, may_read: Iterable[Path], *, ordered: bool
) -> duckdb.DuckDBPyConnection:
    files = ", ".join(literal(str(path)) for path in may_read)
    connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    connection.execute("SET enable_profiling = 'no_output'; SET profiling_coverage = 'ALL'; SET TimeZone = 'UTC'")
    connection.execute(f"SET preserve_insertion_order = {'true' if ordered else 'false'}")
    connection.execute(f"SET allowed_paths = [{files}]")
    connection.execute(f"SET allowed_directories = [{literal(str(context.temp))}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")
    return connection


def _unopened(error: duckdb.Error, shown: str) -> EngineError:
    text = str(error)
    if "not a valid DuckDB database file" in text:
        return EngineError(
            f"{shown} is not a DuckDB database file",
            origin=Origin.DESTINATION,
            file=shown,
            fix="Name another file; this one was left as it is.",
        )
    full = "No space left" in text
    return EngineError(
        f"cannot open {shown}: {text}", origin=Origin.DESTINATION, kind=Kind.SYSTEM, permanent=not full, file=shown
    )


def name_of_file(connection: duckdb.DuckDBPyConnection) -> str:
    """What DuckDB calls the file that is open: a schema of the same name has to be written with it."""
    [(name,)] = connection.execute("SELECT current_database()").fetchall()  # all: an open result bars the next question
    return str(name)
