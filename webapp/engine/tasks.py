"""One task of a job: rows from an extractor into a table of a loader, all of them or none."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.names import TableName
from webapp.engine.paths import allowed_path, check_pattern, has_pattern
from webapp.engine.specs import (
    ApiExtractor,
    CsvExtractor,
    DuckDBLoader,
    Extractor,
    Loader,
    parse_extractor,
    parse_loader,
)

IN_MEMORY = ":memory:"


@dataclass(frozen=True)
class Receipt:
    """What a task did. ``rows_read`` is counted at the source, ``rows_written`` by the statement that wrote,
    ``rows_found`` in the table afterwards; ``doubt`` says how they disagree, None when they agree.
    ``seconds`` is wall time by step; ``bytes_read`` counts what was read as it lies at the source.
    """

    rows_read: int
    rows_written: int
    rows_found: int
    bytes_read: int
    seconds: dict[str, float]
    schema: list[tuple[str, str]]
    schema_changes: list[str]
    doubt: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as JSON-able values."""
        return asdict(self)


class Steps:
    """Tells the reporter where the task is, and remembers how long each step took."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block as one step; it does not start once the task is cancelled."""
        if self._context.cancelled():
            raise Cancelled
        self._context.reporter.step_started(name)
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 4)
        self._context.reporter.step_ended(name)


def run_task(extractor: Mapping[str, Any], loader: Mapping[str, Any], context: Context) -> Receipt:
    """Move all rows of an extractor into a loader's table in one transaction, and prove that they arrived.

    Raises EngineError; the table is then as it was before.
    """
    from webapp.engine.flow import move  # brings DuckDB, which check_paths below does without

    source_spec, target_spec = _parsed(extractor, loader)
    _check(source_spec, target_spec, context)
    with _private_temp(context) as private:
        return move(source_spec, target_spec, target_file(target_spec, private), private, Steps(private))


def check_paths(extractor: Mapping[str, Any], loader: Mapping[str, Any], context: Context) -> None:
    """Check the rules for paths alone, as far as they can be known when a task is saved; raises EngineError."""
    _check(*_parsed(extractor, loader), context)


def target_file(spec: Loader, context: Context) -> Path | None:
    """Return the DuckDB file that a loader names, None for an in-memory one; raises EngineError when not allowed."""
    if not isinstance(spec, DuckDBLoader):
        return context.warehouse
    if spec.db_path == IN_MEMORY:
        return None
    file = allowed_path(spec.db_path, context, origin=Origin.DESTINATION)
    if file.is_dir() or spec.db_path.endswith("/"):
        raise EngineError(
            f"{spec.db_path!r} is a folder, and a database is a file", origin=Origin.DESTINATION, path=spec.db_path
        )
    return file


def shown_file(spec: Loader) -> str:
    """Return a loader's database as messages name it."""
    return spec.db_path if isinstance(spec, DuckDBLoader) else "the warehouse"


def _parsed(extractor: Mapping[str, Any], loader: Mapping[str, Any]) -> tuple[Extractor, Loader]:
    try:
        return parse_extractor(extractor), parse_loader(loader)
    except ValidationError as error:
        problems = [
            {"field": ".".join(str(part) for part in e["loc"]), "problem": e["msg"]}
            for e in error.errors(include_input=False, include_url=False)
        ]
        said = "; ".join(f"{p['field']}: {p['problem']}" for p in problems)
        raise EngineError(f"the task's configuration is wrong: {said}", origin=Origin.USER, problems=problems) from None


def _check(extractor: Extractor, loader: Loader, context: Context) -> None:
    TableName.parse(loader.table_name)
    target_file(loader, context)
    if isinstance(extractor, ApiExtractor):
        return
    noun = "csv" if isinstance(extractor, CsvExtractor) else "parquet"
    if not extractor.path.strip():
        raise EngineError(f"the {noun} path is blank", origin=Origin.SOURCE, path=extractor.path)
    if has_pattern(extractor.path) and not (context.data_root / extractor.path).exists():
        check_pattern(extractor.path, context)
    else:
        allowed_path(extractor.path, context, origin=Origin.SOURCE)


@contextlib.contextmanager
def _private_temp(context: Context) -> Iterator[Context]:
    """Give the task a temporary folder of its own, gone afterwards."""
    try:
        context.temp.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="load-", dir=context.temp))
    except OSError as error:
        raise EngineError(
            f"no temporary folder can be made: {error.strerror}",
            origin=Origin.PLATFORM,
            kind=Kind.SYSTEM,
            permanent=False,
        ) from error
    try:
        yield replace(context, temp=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
