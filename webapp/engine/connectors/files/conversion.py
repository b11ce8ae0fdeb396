"""Excel, Avro and Arrow files written out as Parquet, batch by batch, so that DuckDB can read them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Origin

_ROWS = 20_000


def as_parquet(kind: str, file: Path, name: str, config: FilesSourceSpec, context: Context) -> Path:
    """A Parquet file with the same rows, in the temporary folder. Raises EngineError when the file is broken."""
    target = context.temp / f"{uuid4().hex}.parquet"
    write = {"excel": _excel, "avro": _avro, "arrow": _arrow}[kind]
    try:
        write(file, target, config, context)
    except EngineError:
        raise
    except Exception as error:  # each library has its own ways to say that a file is broken
        raise EngineError(f"{name} cannot be read as {kind}: {str(error) or type(error).__name__:.200}",
                          origin=Origin.SOURCE, file=name, fix="Write or copy the file again.") from error  # fmt: skip
    return target


def _arrow(file: Path, target: Path, config: FilesSourceSpec, context: Context) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.memory_map(str(file)) as mapped:
        try:
            opened = pa.ipc.open_file(mapped)
            batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        except pa.ArrowInvalid:
            mapped.seek(0)
            opened = batches = pa.ipc.open_stream(mapped)
        with pq.ParquetWriter(target, opened.schema) as writer:
            for batch in batches:
                _stop_if(context)
                writer.write_batch(batch)


def _avro(file: Path, target: Path, config: FilesSourceSpec, context: Context) -> None:
    import fastavro

    def rows() -> Iterator[dict[str, Any]]:
        with file.open("rb") as incoming:
            for record in fastavro.reader(incoming):
                yield record if isinstance(record, dict) else {"value": record}

    _written(rows, target, context)


def _excel(file: Path, target: Path, config: FilesSourceSpec, context: Context) -> None:
    import python_calamine

    workbook = python_calamine.CalamineWorkbook.from_path(str(file))
    if config.sheet and config.sheet not in workbook.sheet_names:
        raise EngineError(f"{file.name} has no sheet {config.sheet!r}; it has {', '.join(workbook.sheet_names)}",
                          origin=Origin.SOURCE, file=file.name, fix="Correct the sheet's name.")  # fmt: skip
    sheet = workbook.get_sheet_by_name(config.sheet) if config.sheet else workbook.get_sheet_by_index(0)
    cells = sheet.to_python(skip_empty_area=True)
    titles = _titles(cells[0] if cells and config.header else [""] * (len(cells[0]) if cells else 0))
    body = cells[1:] if config.header else cells

    def rows() -> Iterator[dict[str, Any]]:
        for row in body:
            if any(cell != "" for cell in row):
                yield {title: _cell(cell) for title, cell in zip(titles, row, strict=False)}

    _written(rows, target, context, titles)


def _titles(first: list[Any]) -> list[str]:
    """Names for all columns, each once."""
    titles: list[str] = []
    for at, cell in enumerate(first):
        plain = str(_cell(cell)).strip() if cell != "" else f"column{at + 1}"
        taken = {title.lower() for title in titles}
        titles.append(next(name for name in chain([plain], (f"{plain}_{n}" for n in range(2, 10_000)))
                           if name.lower() not in taken))  # fmt: skip
    return titles


def _cell(cell: Any) -> Any:
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    return cell


def _written(rows: Any, target: Path, context: Context, titles: list[str] | None = None) -> None:
    """Write rows of Python values: types in a first pass over all, values in a second."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known: dict[str, Any] = {title: pa.null() for title in titles or ()}
    for part in _parts(rows(), context):
        for name in dict.fromkeys(chain.from_iterable(part)):
            known[name] = _common(known.get(name, pa.null()), _kind([row.get(name) for row in part]))
    schema = pa.schema([pa.field(name, pa.string() if pa.types.is_null(kind) else kind)
                        for name, kind in known.items()])  # fmt: skip
    with pq.ParquetWriter(target, schema) as writer:
        for part in _parts(rows(), context):
            arrays = [_array([row.get(field.name) for row in part], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _parts(rows: Iterator[dict[str, Any]], context: Context) -> Iterator[list[dict[str, Any]]]:
    while part := list(islice(rows, _ROWS)):
        _stop_if(context)
        yield part


def _kind(values: list[Any]) -> Any:
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float} and all(abs(value) <= 2**53 for value in values if isinstance(value, int)):
        return pa.float64()
    if len(kinds) > 1 and kinds != {datetime.date, datetime.datetime}:
        return pa.string()
    if len(kinds) > 1:
        return pa.timestamp("us")
    try:
        kind = pa.array(values).type
    except pa.ArrowException:
        return pa.string()
    return kind if not pa.types.is_duration(kind) else pa.string()


def _common(first: Any, second: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_null(first) or first == second:
        return second
    if pa.types.is_null(second):
        return first
    if {first, second} == {pa.date32(), pa.timestamp("us")}:
        return pa.timestamp("us")
    if pa.types.is_decimal(first) or pa.types.is_nested(first) or {first, second} == {pa.int64(), pa.float64()}:
        try:
            return pa.unify_schemas([pa.schema([("x", first)]), pa.schema([("x", second)])],
                                    promote_options="permissive").field(0).type  # fmt: skip
        except pa.ArrowException:
            return pa.string()
    return pa.string()


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string(kind):
        values = [value if value is None or isinstance(value, str) else _text(value) for value in values]
    elif pa.types.is_timestamp(kind) and kind.tz is None:
        values = [datetime.datetime.combine(value, datetime.time()) if type(value) is datetime.date else value
                  for value in values]  # fmt: skip
    return pa.array(values, kind)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise ValueError("a column mixes bytes with other values")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _stop_if(context: Context) -> None:
    if context.cancelled():
        raise Cancelled
