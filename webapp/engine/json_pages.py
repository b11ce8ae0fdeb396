"""One page of JSON as an Arrow table, read by PyArrow from the bytes; no Python object is made for a record.

PyArrow reads lines of objects, so the page is wrapped into one object with the single field ``page``; the records are
then a list inside a table of one row. Pages that PyArrow refuses or would change (mixed types, null records, integers
beyond 64 bits) are left to ``json_values``, which is slower and takes anything.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

_EXACT = 2**53
_ISO_START = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z)?)?$"


class NotFast(Exception):
    """This page must be read value by value."""


@dataclass(frozen=True)
class FastPage:
    """A page's records as a table, and the page around them to look things up in."""

    records: pa.Table
    _page: pa.Array

    def lookup(self, path: str) -> Any:
        """Return the value at a dotted path of the page, None when there is none."""
        try:
            found = _at(self._page, path)
        except NotFast:
            return None
        return found[0].as_py()


def read_fast(body: bytes, records: str | None) -> FastPage:
    """Read a page's records; raise NotFast when only reading value by value does them justice."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        str(body, "utf-8")  # PyArrow lets broken UTF-8 pass
        wrapped = b'{"page":' + body + b"}"
        table = pj.read_json(
            pa.BufferReader(wrapped),
            read_options=pj.ReadOptions(block_size=len(wrapped) + 16, use_threads=False),
            parse_options=pj.ParseOptions(newlines_in_values=True),
        )
        # PyArrow drops null objects from lists and leaves the offsets as they were: such arrays must not be touched.
        table.validate()
    except (pa.ArrowException, UnicodeError) as error:
        raise NotFast from error
    if table.num_rows != 1 or table.column_names != ["page"]:
        raise NotFast
    page = table.column(0).chunk(0)
    rows = _rows(_at(page, records) if records else page)
    return FastPage(_refined(rows), page)


def _at(node: pa.Array, path: str) -> pa.Array:
    for part in path.split("."):
        if not pa.types.is_struct(node.type) or node.null_count or node.type.get_field_index(part) < 0:
            raise NotFast
        node = node.field(part)
    return node


def _rows(node: pa.Array) -> pa.Table:
    if node.null_count:
        raise NotFast
    if pa.types.is_struct(node.type):
        return _unnested(node)
    if not pa.types.is_list(node.type):
        raise NotFast
    length = node.value_lengths()[0].as_py()
    if length == 0:
        return pa.table({})
    values = node.values
    if not pa.types.is_struct(values.type) or len(values) != length or values.null_count:
        raise NotFast
    return _unnested(values)


def _unnested(records: pa.StructArray) -> pa.Table:
    if not records.type.num_fields:
        raise NotFast
    return pa.Table.from_struct_array(records)


def _refined(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if not _faithful(column):
            raise NotFast
        if field.type == pa.string():
            column = _instants(column)
        wide = _settled(column.type)
        if wide != field.type:
            table = table.set_column(index, field.name, column if column.type == wide else column.cast(wide))
    return table


def _faithful(column: pa.ChunkedArray | pa.Array) -> bool:
    """False where PyArrow may have rounded an integer, or made a struct without fields, which no table can hold."""
    type_ = column.type
    if pa.types.is_floating(type_):
        bounds = pc.min_max(column)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        return low is None or -_EXACT < low <= high < _EXACT
    if pa.types.is_struct(type_):
        arrays = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return type_.num_fields > 0 and all(_faithful(part) for array in arrays for part in array.flatten())
    if pa.types.is_list(type_):
        arrays = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return all(_faithful(array.flatten()) for array in arrays)
    return True


def _instants(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read a text column as UTC instants when all its values are ISO 8601; PyArrow itself stops at whole seconds."""
    first = next((value.as_py() for value in column if value.is_valid), None)
    if first is None or not first[:4].isdigit() or not pc.all(pc.match_substring_regex(column, _ISO_START)).as_py():
        return column
    try:
        return pc.utf8_rtrim(column, "Z").cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return column


def _settled(type_: pa.DataType) -> pa.DataType:
    """The same type with instants in microseconds, as a DuckDB TIMESTAMP has them."""
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us")
    if pa.types.is_list(type_):
        return pa.list_(_settled(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(field.name, _settled(field.type)) for field in type_])
    return type_
