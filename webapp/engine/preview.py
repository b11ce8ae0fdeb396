"""The first rows of a loaded table, for a page to show.

They are read in a process of their own (``look.py``): DuckDB would stay in the memory of the web server for good, and a
file that breaks it would take the web server along.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from pydantic import ValidationError

from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.engine.names import TableName
from webapp.engine.specs import parse_loader
from webapp.engine.tasks import shown_file, target_file
from webapp.redaction import environment_for_others

_MOST_ROWS = 1000
_MOST_AT_ONCE = 4
_SECONDS = 15.0  # beyond the time that is spent waiting for a running load
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_places = BoundedSemaphore(_MOST_AT_ONCE)


@dataclass(frozen=True)
class Preview:
    """Columns with their types, some rows with JSON-able values, and how many rows there are in all."""

    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    total: int


def preview_table(loader: Mapping[str, Any], context: Context, *, limit: int = 50) -> Preview:
    """Return up to ``limit`` (at most 1000) rows of a loader's table, waiting for a running load.

    Raises EngineError when there is no such file or table, or it stays in use beyond the lock timeout.
    """
    try:
        spec = parse_loader(loader)
    except ValidationError as error:
        raise EngineError("the loader's configuration is wrong", origin=Origin.USER) from error
    database = target_file(spec, context)
    if database is None:
        raise EngineError("a database in memory is gone after its run", origin=Origin.USER)
    wanted = {
        "database": str(database),
        "shown": shown_file(spec),
        "table": spec.table_name,
        "limit": max(0, min(limit, _MOST_ROWS)),
        "temp": str(context.temp),
        "memory_limit_mb": context.memory_limit_mb,
        "threads": context.threads,
        "lock_timeout": context.lock_timeout,
        "seconds": context.lock_timeout + _SECONDS,
    }
    found = _ask(wanted, f"{TableName.parse(spec.table_name)} in {shown_file(spec)}")
    return Preview([(name, type_) for name, type_ in found["columns"]], found["rows"], found["total"])


def _ask(wanted: dict[str, Any], what: str) -> dict[str, Any]:
    """What the process found; raises the EngineError that it came to, or one that says how it ended."""
    command = [sys.executable, "-m", "webapp.engine.look"]
    question = json.dumps(wanted).encode()
    with _place(what):
        try:
            done = subprocess.run(
                command,
                input=question,
                capture_output=True,
                check=False,
                cwd=_CHECKOUT,
                env=environment_for_others(),
                timeout=wanted["seconds"],
            )
        except subprocess.TimeoutExpired as error:
            raise _unread(what, f"it took longer than {wanted['seconds']:.0f} s") from error
        except OSError as error:
            raise _unread(what, f"no process can be started: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _unread(what, "".join(said) or f"the process that read it ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if problem := answer.get("problem"):
        raise EngineError(**{**problem, "origin": Origin(problem["origin"]), "kind": Kind(problem["kind"])})
    return answer


@contextmanager
def _place(what: str) -> Iterator[None]:
    """One of the few places for such a process: each takes the memory of a small load."""
    if not _places.acquire(timeout=_SECONDS):
        raise EngineError(f"{what} cannot be shown at this moment: many tables are being looked at",
                          origin=Origin.PLATFORM, kind=Kind.TRANSIENT, fix="Look again in a moment.")  # fmt: skip
    try:
        yield
    finally:
        _places.release()


def _unread(what: str, why: str) -> EngineError:
    return EngineError(f"{what} cannot be read: {why}", origin=Origin.DESTINATION, kind=Kind.SYSTEM)
