"""A file as a relation that DuckDB reads: CSV, JSON and Parquet as they are, the others by way of Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webapp.engine.connectors import relations
from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Origin
from webapp.engine.names import quoted

if TYPE_CHECKING:
    import duckdb

    from webapp.engine.sources import Source

# Up to this size every value is looked at before types are settled; of larger CSV files the first rows.
WHOLE = 256 * 1024 * 1024
_BY_ENDING = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "json": "json", "jsonl": "jsonl", "ndjson": "jsonl",
    "parquet": "parquet", "parq": "parquet", "pq": "parquet", "xlsx": "excel", "xls": "excel", "xlsm": "excel",
    "xlsb": "excel", "ods": "excel", "avro": "avro", "arrow": "arrow", "feather": "arrow", "ipc": "arrow",
}  # fmt: skip
_PACKED = (".gz", ".zst")
_CLEAR_ROWS = 1_000
_MEGABYTE = 1024 * 1024
_LONGEST_RECORD = 16 * _MEGABYTE
_SHORTEST_LIMIT = _MEGABYTE  # no file needs DuckDB's buffers to be smaller
_BESIDE_BUFFERS_MB = 64


@dataclass(frozen=True)
class Prepared:
    """A file made ready: which paths DuckDB reads for it, and how to open it as a relation there.

    `relation` takes the types that are wanted, or None to settle them by the file's own values. `memory_mb` is what
    DuckDB needs at least to read it.
    """

    files: tuple[Path, ...]
    relation: Callable[[duckdb.DuckDBPyConnection, Mapping[str, str] | None], relations.Relation]
    explain: relations.Explain
    memory_mb: int = 0


def format_of(name: str, config: FilesSourceSpec) -> str:
    """A file's format. Raises EngineError when its ending says nothing."""
    if config.format != "auto":
        return config.format
    found = _BY_ENDING.get(_unpacked(name).rsplit(".", 1)[-1])
    if found is None:
        raise EngineError(f"the ending of {name!r} does not tell its format", origin=Origin.SOURCE, file=name,
                          fix="Choose the format.")  # fmt: skip
    return found


def stem_of(name: str) -> str:
    """A file's name without the endings for its format and packing."""
    plain = _unpacked(name)
    return name[: plain.rindex(".")] if "." in plain.lstrip(".") else name


def prepared(file: Path, name: str, config: FilesSourceSpec, context: Context) -> Prepared:
    """Make a file ready to be read. Raises EngineError when it is broken."""
    kind = format_of(name, config)
    if kind == "csv":
        return _csv(file, config, context)
    if kind in ("json", "jsonl"):
        return _json(file, name, kind, config, context.threads)
    if kind != "parquet":
        from webapp.engine.connectors.files.conversion import as_parquet

        file = as_parquet(kind, file, name, config, context)
    return _parquet(file, context)


def _unpacked(name: str) -> str:
    lower = name.lower()
    return next((lower[: -len(ending)] for ending in _PACKED if lower.endswith(ending)), lower)


def _csv(file: Path, config: FilesSourceSpec, context: Context) -> Prepared:
    from webapp.engine.csv_files import csv_source
    from webapp.engine.specs import CsvExtractor

    spec = CsvExtractor(type="csv", path=str(file), delimiter=config.delimiter, header=config.header,
                        encoding=config.encoding, null_values=config.null_values)  # fmt: skip
    source = csv_source(spec, context)
    whole = ", sample_size = -1)" if source.size <= WHOLE else ")"

    def relation(connection: duckdb.DuckDBPyConnection, wanted: Mapping[str, str] | None) -> relations.Relation:
        if wanted is not None and (settled := _settled_csv(connection, source, wanted)):
            return settled
        found = relations.described(connection, source.relation[:-1] + whole, source.parameters)
        declared = _lower(config.columns if wanted is None else wanted)
        known = {name: declared.get(name.lower(), type_) for name, type_ in found.types.items()}
        changed = {name: type_ for name, type_ in known.items() if type_ != found.types[name]}
        if not changed or source.retyped is None:
            return found
        retyped = source.retyped(changed)
        return relations.described(connection, retyped.relation[:-1] + whole, retyped.parameters)

    return Prepared(source.files, relation, _explained(source))


def _lower(types: Mapping[str, str]) -> dict[str, str]:
    """Types by names in lower case: files of one stream may spell a column in several ways."""
    return {name.lower(): type_ for name, type_ in types.items()}


def _settled_csv(
    connection: duckdb.DuckDBPyConnection, source: Source, wanted: Mapping[str, str]
) -> relations.Relation | None:
    """The file under types that are known, which saves looking through all of it once more.

    None where it has dates in a spelling that only the whole file may tell: 01/02/2024.
    """
    found = relations.described(connection, source.relation, source.parameters)
    if source.retyped is None:
        return None
    types = {name: _lower(wanted).get(name.lower(), "VARCHAR") for name in found.types}
    times = [name for name, type_ in types.items() if type_.startswith(("DATE", "TIME"))]
    if times:
        texts = source.retyped(dict.fromkeys(found.types, "VARCHAR"))
        clear = " AND ".join(
            f"coalesce(regexp_matches({quoted(name)}, '^[0-9]{{4}}-[0-9]{{2}}-'), true)" for name in times
        )
        sql = f"SELECT bool_and({clear}) FROM (FROM {texts.relation} LIMIT {_CLEAR_ROWS})"  # noqa: S608  names are quoted
        if connection.execute(sql, texts.parameters).fetchall() != [(True,)]:
            return None
    settled = source.retyped(types)
    return relations.Relation(settled.relation, settled.parameters, types)


def _json(file: Path, name: str, kind: str, config: FilesSourceSpec, threads: int) -> Prepared:
    layout = "newline_delimited" if kind == "jsonl" else "auto"
    packed = name.lower().endswith(_PACKED)
    longest = _LONGEST_RECORD if packed else min(_LONGEST_RECORD, max(file.stat().st_size, _SHORTEST_LIMIT))

    def relation(connection: duckdb.DuckDBPyConnection, wanted: Mapping[str, str] | None) -> relations.Relation:
        options = f"format = '{layout}', maximum_object_size = {longest}"
        # Every value is looked at: DuckDB rounds a fraction that comes after a column was taken for integers.
        sql = f"read_json($1, {options}, sample_size = -1, map_inference_threshold = -1)"
        found = relations.described(connection, sql, [[str(file)]])
        if list(found.types) == ["json"] and found.types["json"] != "JSON":
            raise EngineError(f"{name} holds no records: an array of objects or one object a line is needed",
                              origin=Origin.SOURCE, file=name, fix="Correct the file.")  # fmt: skip
        declared = _lower(wanted or config.columns)
        texts = {column for column in found.types if declared.get(column.lower()) in ("VARCHAR", "JSON")}
        texts |= set() if wanted else _long_integers(connection, options, file, found.types)
        types = {column: "VARCHAR" if column in texts else "VARCHAR" if type_ == '"NULL"' else type_
                 for column, type_ in found.types.items()}  # fmt: skip
        return relations.Relation(f"read_json($1, {options}, columns = $2)", [[str(file)], types], types)

    def explain(error: Exception) -> EngineError | None:
        line = str(error).splitlines()[0].replace(str(file), name)
        if "Out of Memory" in line:
            return None
        if "maximum_object_size" in line:
            return EngineError(f"{name} holds a record of more than {longest // _MEGABYTE} MB", origin=Origin.SOURCE,
                               file=name, fix="Split the record, or bring the file as Parquet.")  # fmt: skip
        return EngineError(f"{name} cannot be read as JSON: {line}", origin=Origin.SOURCE, file=name,
                           fix="Correct the record, or declare the column's type.")  # fmt: skip

    # Each thread holds two buffers, and each of them twice the longest record.
    return Prepared((file,), relation, explain, memory_mb=threads * 4 * longest // _MEGABYTE + _BESIDE_BUFFERS_MB)


def _long_integers(
    connection: duckdb.DuckDBPyConnection, options: str, file: Path, types: Mapping[str, str]
) -> set[str]:
    """Columns that DuckDB takes for DOUBLE, but with integers that this would round."""
    doubles = [name for name, type_ in types.items() if type_ == "DOUBLE"]
    if not doubles:
        return set()
    asked = ", ".join(f"bool_or(regexp_full_match({quoted(name)}, '-?[0-9]{{16,}}'))" for name in doubles)
    (found,) = connection.execute(
        f"SELECT {asked} FROM read_json($1, {options}, columns = $2)",  # noqa: S608  names are quoted
        [[str(file)], dict.fromkeys(doubles, "VARCHAR")],
    ).fetchall()
    return {name for name, long in zip(doubles, found, strict=True) if long}


def _parquet(file: Path, context: Context) -> Prepared:
    from webapp.engine.parquet_files import parquet_source
    from webapp.engine.specs import ParquetExtractor

    source = parquet_source(ParquetExtractor(type="parquet", path=str(file)), context)

    def relation(connection: duckdb.DuckDBPyConnection, wanted: Mapping[str, str] | None) -> relations.Relation:
        return relations.described(connection, source.relation, source.parameters)

    return Prepared(source.files, relation, _explained(source))


def _explained(source: Source) -> relations.Explain:
    def explain(error: Any) -> EngineError | None:
        import duckdb

        # PyArrow passes DuckDB's errors on as OSError; what is known about them goes by their text.
        known = error if isinstance(error, duckdb.Error) else duckdb.InvalidInputException(str(error))
        return source.explain(known)

    return explain
