"""CSV files as a source: read inside DuckDB, with the dialect settled beforehand so that no line is skipped silently.

DuckDB's own dialect detection may drop leading lines, take lines for comments, or fall back to a single column when
lines are ragged. Here quote, escape, delimiter and header are always given; DuckDB guesses only types. Encodings other
than UTF-8 are transcoded with Python's codecs, because DuckDB's latin-1 and utf-16 readers refuse or misread some valid
files.
"""

import codecs
import contextlib
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import duckdb
import zstandard

from webapp.engine.context import Context
from webapp.engine.csv_faults import explain_csv_error, guessed_type_failed
from webapp.engine.errors import Cancelled, EngineError, Origin
from webapp.engine.paths import has_pattern, source_files
from webapp.engine.sources import Source
from webapp.engine.specs import CsvExtractor

_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
_DELIMITERS = (",", ";", "\t", "|")
_CHUNK = 1 << 20
_FIRST = 1 << 16
# Above this size of all files, reading on all cores matters more than the order of lines in the table.
_ORDERED_SIZE = 100 * 1024 * 1024
_UTF8 = ("utf-8", "utf-8-sig", "ascii")


def csv_source(spec: CsvExtractor, context: Context) -> Source:
    """Make the CSV files of a spec readable for DuckDB.

    Raises EngineError when a file is missing, empty, cut short (zstd) or not in the declared encoding, and Cancelled.
    """
    files = source_files(spec.path, context, endings=_ENDINGS)
    filled = [file for file in files if _has_content(file, spec, context, alone=len(files) == 1)]
    if not filled:
        raise _empty(spec.path)
    head = _head(filled[0], spec)
    delimiter = spec.delimiter or _likely_delimiter(head, spec.quote)
    readable = {_readable_copy(file, spec, context, number): file for number, file in enumerate(filled)}
    # DuckDB would take the header for a line of data behind empty lines that nobody told it of.
    blank_lines = _leading_blank_lines(head) if len(filled) == 1 else 0
    size = sum(file.stat().st_size for file in filled)
    relation, parameters = _relation(spec, list(readable), delimiter, blank_lines)
    source = Source(
        relation,
        parameters,
        files=tuple(readable),
        size=size,
        rows_estimate=_estimate_rows(head, filled, spec),
        ordered=size <= _ORDERED_SIZE,
        explain=lambda error: explain_csv_error(error, readable, spec, delimiter),
    )
    return replace(
        source,
        wider=lambda error: _looked_through(source, error),
        retyped=lambda types: _retyped(source, spec, list(readable), delimiter, blank_lines, types),
    )


def _relation(
    spec: CsvExtractor,
    files: list[Path],
    delimiter: str,
    blank_lines: int,
    *,
    types: dict[str, str] | None = None,
) -> tuple[str, list[Any]]:
    parameters: list[Any] = [[str(file) for file in files]]
    options = [
        f"header = {'true' if spec.header else 'false'}",
        f"skip = {blank_lines}",
        "comment = ''",
        "null_padding = false",
        "ignore_errors = false",
        f"union_by_name = {'true' if len(files) > 1 else 'false'}",
    ]

    def bind(name: str, value: Any) -> None:
        parameters.append(value)
        options.append(f"{name} = ${len(parameters)}")

    bind("delim", delimiter)
    bind("quote", spec.quote)
    bind("escape", spec.quote if spec.escape is None else spec.escape)
    if _compression(files[0], spec) != "none":
        bind("compression", _compression(files[0], spec))
    declared = {**(types or {}), **spec.columns}
    if declared:
        bind("types", declared)
    if spec.columns and not spec.header:
        bind("names", list(spec.columns))
    if spec.null_values is not None:
        bind("nullstr", spec.null_values)
    return f"read_csv($1, {', '.join(options)})", parameters


def _looked_through(source: Source, error: duckdb.Error) -> Source | None:
    if not guessed_type_failed(error):
        return None
    whole = replace(source, relation=source.relation[:-1] + ", sample_size = -1)", wider=lambda _error: None)
    retyped = source.retyped
    if retyped is None:
        return whole
    return replace(
        whole,
        retyped=lambda types: replace(retyped(types), relation=retyped(types).relation[:-1] + ", sample_size = -1)"),
    )


def _retyped(
    source: Source,
    spec: CsvExtractor,
    files: list[Path],
    delimiter: str,
    blank_lines: int,
    types: dict[str, str],
) -> Source:
    declared = {name.lower() for name in spec.columns}
    wanted = {name: type_ for name, type_ in types.items() if name.lower() not in declared}
    relation, parameters = _relation(spec, files, delimiter, blank_lines, types=wanted)
    return replace(source, relation=relation, parameters=parameters, wider=lambda _error: None)


def _compression(file: Path, spec: CsvExtractor) -> str:
    if spec.compression != "auto":
        return spec.compression
    return {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower(), "none")


@contextlib.contextmanager
def _unpacked(file: Path, spec: CsvExtractor) -> Iterator[IO[bytes] | gzip.GzipFile]:
    kind = _compression(file, spec)
    with file.open("rb") as raw:
        if kind == "gzip":
            with gzip.open(raw) as stream:
                yield stream
        elif kind == "zstd":
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
                yield io.BufferedReader(stream, _CHUNK)
        else:
            yield raw


def _has_content(file: Path, spec: CsvExtractor, context: Context, *, alone: bool) -> bool:
    try:
        with _unpacked(file, spec) as stream:
            first = stream.read(_FIRST)
            text = _decoder(spec).decode(first)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise EngineError(
            f"{file.name} cannot be read: {error}",
            origin=Origin.SOURCE,
            file=file.name,
            fix="Check that the file is complete and its compression is named right.",
        ) from error
    except UnicodeError as error:
        raise _not_in_encoding(file, spec, error) from error
    filled = bool(text.strip("\ufeff\r\n\t \0"))
    if not filled and not alone:
        context.reporter.log("warning", f"{file.name} is empty and is passed over")
    return filled


def _decoder(spec: CsvExtractor) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(spec.encoding)(errors="strict")


def _head(file: Path, spec: CsvExtractor) -> str:
    with _unpacked(file, spec) as stream:
        return _decoder(spec).decode(stream.read(_FIRST)).lstrip("\ufeff")


def _likely_delimiter(head: str, quote: str) -> str:
    line = re.split(r"\r\n|\n|\r", head.lstrip("\r\n"), maxsplit=1)[0]
    if quote:
        line = re.sub(f"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}", "", line)
    return max(_DELIMITERS, key=line.count)


def _leading_blank_lines(head: str) -> int:
    blank = re.match(r"(?:\r?\n)*", head)
    return blank.group().count("\n") if blank else 0


def _estimate_rows(head: str, files: list[Path], spec: CsvExtractor) -> int:
    lines = head.count("\n")
    if not lines or _compression(files[0], spec) != "none":
        return 0
    return sum(file.stat().st_size for file in files) * lines // len(head.encode("utf-8"))


def _readable_copy(file: Path, spec: CsvExtractor, context: Context, number: int) -> Path:
    """Return a path that DuckDB can read as UTF-8 and will not take for a pattern; never changes the file itself."""
    kind = _compression(file, spec)
    if kind == "zstd":
        _check_complete(file, context)
    if spec.encoding not in _UTF8:
        return _transcoded(file, spec, context, number)
    if not has_pattern(str(file)):
        return file
    link = context.temp / f"source-{number}{'.gz' if kind == 'gzip' else '.zst' if kind == 'zstd' else '.csv'}"
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    return link


def _check_complete(file: Path, context: Context) -> None:
    # DuckDB takes a zstd file that was cut between two lines for a whole one.
    with file.open("rb") as raw:
        pending, decompressor = False, zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
        while chunk := raw.read(_CHUNK):
            while chunk:
                _stop_if_cancelled(context)
                decompressor.decompress(chunk)
                pending = not decompressor.eof
                chunk = decompressor.unused_data if decompressor.eof else b""
                if decompressor.eof:
                    decompressor = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
    if pending:
        raise EngineError(
            f"{file.name} is cut short: its compressed data does not end",
            origin=Origin.SOURCE,
            file=file.name,
            fix="Copy the file again.",
        )


def _transcoded(file: Path, spec: CsvExtractor, context: Context, number: int) -> Path:
    copy = context.temp / f"utf8-{number}.csv"
    decoder = _decoder(spec)
    try:
        with _unpacked(file, spec) as stream, copy.open("wb") as out:
            while chunk := stream.read(_CHUNK):
                _stop_if_cancelled(context)
                out.write(decoder.decode(chunk).encode("utf-8"))
            out.write(decoder.decode(b"", final=True).encode("utf-8"))
    except UnicodeError as error:
        raise _not_in_encoding(file, spec, error) from error
    return copy


def _stop_if_cancelled(context: Context) -> None:
    if context.cancelled():
        raise Cancelled


def _not_in_encoding(file: Path, spec: CsvExtractor, error: UnicodeError) -> EngineError:
    return EngineError(
        f"{file.name} is not in {spec.encoding}: {getattr(error, 'reason', error)}",
        origin=Origin.SOURCE,
        file=file.name,
        encoding=spec.encoding,
        fix="Set the encoding that the file has.",
    )


def _empty(path: str) -> EngineError:
    return EngineError(
        f"{path!r} is empty: not even a header line",
        origin=Origin.SOURCE,
        path=path,
        fix="Check what writes the file; a file with only a header is fine.",
    )
