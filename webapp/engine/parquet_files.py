"""Parquet files as a source: read inside DuckDB, counted by their footers."""

from pathlib import Path

import duckdb

from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Origin
from webapp.engine.paths import has_pattern, source_files
from webapp.engine.sources import Source
from webapp.engine.specs import ParquetExtractor

_ENDINGS = (".parquet", ".parq", ".pq")
_MAGIC = b"PAR1"


def parquet_source(spec: ParquetExtractor, context: Context) -> Source:
    """Make the Parquet files of a spec readable for DuckDB; raise EngineError when one is missing or not whole."""
    files = source_files(spec.path, context, endings=_ENDINGS)
    for file in files:
        _check_whole(file)
    readable = {_unpatterned(file, context, number): file for number, file in enumerate(files)}
    many = "true" if len(files) > 1 else "false"
    return Source(
        f"read_parquet($1, union_by_name = {many})",
        [[str(path) for path in readable]],
        files=tuple(readable),
        size=sum(file.stat().st_size for file in files),
        count="SELECT coalesce(sum(num_rows), 0)::BIGINT FROM parquet_file_metadata($1)",
        explain=lambda error: _explain(error, readable),
    )


def _check_whole(file: Path) -> None:
    with file.open("rb") as raw:
        first = raw.read(4)
        raw.seek(max(0, file.stat().st_size - 4))
        last = raw.read(4)
    if first == _MAGIC == last and file.stat().st_size >= 12:
        return
    if first == _MAGIC:
        what = f"{file.name} is cut short: a Parquet file ends with its footer, and this one does not"
    elif not first:
        what = f"{file.name} is empty"
    else:
        what = f"{file.name} is not a Parquet file"
    raise EngineError(what, origin=Origin.SOURCE, file=file.name, fix="Write or copy the file again.")


def _unpatterned(file: Path, context: Context, number: int) -> Path:
    if not has_pattern(str(file)):
        return file
    link = context.temp / f"source-{number}.parquet"
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    return link


def _explain(error: duckdb.Error, files: dict[Path, Path]) -> EngineError | None:
    text = str(error)
    if not isinstance(error, duckdb.InvalidInputException | duckdb.IOException | duckdb.ConversionException):
        return None
    named = next((file.name for path, file in files.items() if str(path) in text), None)
    if named is None and "parquet" not in text.lower():
        return None
    return EngineError(
        f"{named or 'a file'} cannot be read as Parquet: {text.splitlines()[0]}",
        origin=Origin.SOURCE,
        file=named,
        fix="Write or copy the file again.",
    )
