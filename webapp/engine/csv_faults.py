"""DuckDB's complaints about CSV files, as facts: which file, which line, what was expected there."""

import csv
import gzip
import io
import re
from pathlib import Path
from typing import IO

import duckdb
import zstandard

from webapp.engine.errors import EngineError, Origin
from webapp.engine.specs import CsvExtractor

_LINE = re.compile(r"CSV Error on Line: (\d+)")
_ORIGINAL = re.compile(r"Original Line: (.*)")
_COLUMNS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_CONVERT = re.compile(r'Error when converting column "(.*)"\. Could not convert string "(.*?)" to \'(.*?)\'', re.DOTALL)
_FILE = re.compile(r"^ {2}file = (.*)$", re.MULTILINE)
_UNKNOWN = re.compile(r"Columns with names: (.*?) do not exist")
_SCANNED_LINES = 200_000


def guessed_type_failed(error: duckdb.Error) -> bool:
    """Say whether a value did not fit a type that DuckDB guessed, rather than one that somebody declared."""
    text = str(error)
    return "CSV Error" in text and "This type was auto-detected" in text


def explain_csv_error(
    error: duckdb.Error, files: dict[Path, Path], spec: CsvExtractor, delimiter: str
) -> EngineError | None:
    """Turn an error of read_csv into an EngineError with its facts; None when it is not about the CSV at all."""
    text = str(error)
    if "CSV Error on Line" in text:
        return _line_error(text, files)
    if "sniffing file" in text or "auto-detect" in text.lower():
        return _dialect_error(files, spec, delimiter, text)
    if unknown := _UNKNOWN.search(text):
        return EngineError(
            f"column types are declared for columns that the file does not have: {unknown.group(1)}",
            origin=Origin.USER,
            columns=unknown.group(1),
            fix="Correct the names.",
        )
    if "GZIP" in text or "zstd" in text.lower():
        return EngineError(
            f"a compressed file is broken or cut short: {_first_line(text)}",
            origin=Origin.SOURCE,
            fix="Copy the file again.",
        )
    return None


def _line_error(text: str, files: dict[Path, Path]) -> EngineError:
    found = _LINE.search(text)
    line = int(found.group(1)) if found else None
    name = _file_name(text, files)
    original = _matched(_ORIGINAL, text)[:200]
    if counts := _COLUMNS.search(text):
        expected, got = int(counts.group(1)), int(counts.group(2))
        return EngineError(
            f"{name}, line {line}: expected {expected} columns, got {got}: {original}",
            origin=Origin.SOURCE,
            file=name,
            line=line,
            expected=expected,
            got=got,
            fix="Correct the line, or the delimiter and quote of this source.",
        )
    if converted := _CONVERT.search(text):
        column, value, wanted = converted.groups()
        return EngineError(
            f"{name}, line {line}: {value[:200]!r} in column {column} is not a {wanted}",
            origin=Origin.SOURCE,
            file=name,
            line=line,
            column=column,
            value=value[:200],
            type=wanted,
            fix="Correct the value, or declare another type for the column.",
        )
    what = next((rest for rest in text.splitlines()[2:] if rest.strip()), _first_line(text))
    fix = "Set the encoding that the file has." if "unicode" in text else "Correct the line."
    return EngineError(f"{name}, line {line}: {what}", origin=Origin.SOURCE, file=name, line=line, fix=fix)


def _dialect_error(files: dict[Path, Path], spec: CsvExtractor, delimiter: str, text: str) -> EngineError:
    """Name the line that keeps a file from being a table, which DuckDB's dialect detection does not do."""
    for readable, file in files.items():
        if ragged := _ragged_line(readable, spec, delimiter):
            line, expected, got = ragged
            return EngineError(
                f"{file.name}, line {line}: expected {expected} columns, got {got}",
                origin=Origin.SOURCE,
                file=file.name,
                line=line,
                expected=expected,
                got=got,
                fix="Correct the line, or the delimiter and quote of this source.",
            )
    return EngineError(
        f"{_file_name(text, files)} does not read as CSV with delimiter {delimiter!r} and quote {spec.quote!r}: "
        "its quotes do not close, or its line endings are mixed",
        origin=Origin.SOURCE,
        file=_file_name(text, files),
        delimiter=delimiter,
        fix="Set delimiter, quote and escape, or correct the file.",
    )


def _ragged_line(file: Path, spec: CsvExtractor, delimiter: str) -> tuple[int, int, int] | None:
    with file.open("rb") as raw, io.TextIOWrapper(_plain(raw, file), "utf-8", "replace", newline="") as lines:
        escape = spec.escape if spec.escape and spec.escape != spec.quote else None
        reader = csv.reader(
            lines,
            delimiter=delimiter,
            quotechar=spec.quote or None,
            escapechar=escape,
            quoting=csv.QUOTE_MINIMAL if spec.quote else csv.QUOTE_NONE,
        )
        expected = 0
        try:
            for row in reader:
                expected = expected or len(row)
                if row and len(row) != expected:
                    return reader.line_num, expected, len(row)
                if reader.line_num > _SCANNED_LINES:
                    return None
        except csv.Error:
            return None
    return None


def _plain(raw: IO[bytes], file: Path) -> IO[bytes]:
    if file.suffix == ".gz":
        return gzip.open(raw)  # type: ignore[return-value]
    if file.suffix == ".zst":
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))
    return raw


def _file_name(text: str, files: dict[Path, Path]) -> str:
    named = _matched(_FILE, text)
    if not named and (sniffed := re.search(r'sniffing file "(.*?)"', text)):
        named = sniffed.group(1)
    return files.get(Path(named), Path(named)).name if named else next(iter(files.values())).name


def _matched(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1).strip() if found else ""


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
