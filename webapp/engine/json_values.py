"""Records of JSON value by value, for pages whose shape or types drift in a way that Arrow cannot unite.

A column's type is what all its values have in common: integers and floats become DOUBLE when that loses nothing, ISO
8601 texts become TIMESTAMP when all are, objects unite their fields; whatever has nothing else in common becomes text,
where a text stays itself and everything else is its JSON.
"""

import datetime
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa

from webapp.engine.errors import EngineError, Origin

_INSTANT = pa.timestamp("us")
# Narrow integers are those that a double holds exactly; they are stored as BIGINT like the others.
_NARROW, _WIDE, _HUGE = pa.int32(), pa.int64(), pa.decimal128(38, 0)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?Z?)?")


def parse_page(body: bytes) -> Any:
    """Return a page's JSON as Python values; raise EngineError that names HTML, an empty body, or where JSON breaks."""
    text = body.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip()[:1] == b"<":
        raise _not_json("the server answered HTML or XML, not JSON", "Check the address and the token.")
    if not text.strip():
        raise _not_json("the server answered with an empty body, not JSON", "Check the address.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(f"the server's answer is not JSON: {error}", "Check the address.") from error


def records_of(page: Any, path: str | None) -> list[dict[str, Any]]:
    """Return the records at a dotted path of a page; raise EngineError that says what is there instead."""
    for part in path.split(".") if path else ():
        if not isinstance(page, dict) or part not in page:
            there = ", ".join(list(page)[:20]) if isinstance(page, dict) else f"a {type(page).__name__}"
            raise EngineError(f"the answer has no {path!r}: at {part!r} there is {there}", origin=Origin.SOURCE,
                              records=path, fix="Correct the path to the records.")  # fmt: skip
        page = page[part]
    rows = [page] if isinstance(page, dict) else page
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows if row is not None):
        what = "an array that holds more than objects" if isinstance(rows, list) else f"{json.dumps(rows)[:50]}"
        raise EngineError(f"the records are {what}; an array of objects or one object is needed", origin=Origin.SOURCE,
                          records=path, fix="Set the path to the records.")  # fmt: skip
    return [row or {} for row in rows]


def lookup(page: Any, path: str) -> Any:
    """Return the value at a dotted path of a page, None when there is none."""
    for part in path.split("."):
        if not isinstance(page, dict):
            return None
        page = page.get(part)
    return page


def widened(known: dict[str, pa.DataType], rows: Iterable[dict[str, Any]]) -> None:
    """Widen the types known by column so that they hold these rows, too."""
    for row in rows:
        for name, value in row.items():
            known[name] = _common(known.get(name, pa.null()), _type_of(value))


def to_table(rows: list[dict[str, Any]], types: dict[str, pa.DataType]) -> pa.Table:
    """Return rows as a table of the united types."""
    columns = {name: [_converted(row.get(name), type_) for row in rows] for name, type_ in types.items()}
    return pa.table({name: pa.array(values, _stored(types[name])) for name, values in columns.items()})


def schema_of(types: dict[str, pa.DataType]) -> pa.Schema:
    """Return the schema of the tables that ``to_table`` makes."""
    return pa.schema([pa.field(name, _stored(type_)) for name, type_ in types.items()])


def _type_of(value: Any) -> pa.DataType:
    match value:
        case None:
            return pa.null()
        case bool():
            return pa.bool_()
        case int():
            return _integer(value)
        case float():
            return pa.float64()
        case str():
            return _INSTANT if _instant(value) is not None else pa.string()
        case dict():
            return pa.struct([pa.field(name, _type_of(inner)) for name, inner in value.items()])
        case list():
            inner = pa.null()
            for item in value:
                inner = _common(inner, _type_of(item))
            return pa.list_(inner)
    return pa.string()


def _integer(value: int) -> pa.DataType:
    size = abs(value)
    if size <= 2**53:
        return _NARROW
    if size < 2**63:
        return _WIDE
    return _HUGE if size < 10**38 else pa.string()


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    integers = (_NARROW, _WIDE, _HUGE)
    if first in integers and second in integers:
        return max(first, second, key=integers.index)
    if {first, second} == {_NARROW, pa.float64()}:
        return pa.float64()
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(_common(first.value_type, second.value_type))
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        fields = {field.name: field.type for field in first}
        for field in second:
            fields[field.name] = _common(fields.get(field.name, pa.null()), field.type)
        return pa.struct([pa.field(name, type_) for name, type_ in fields.items()])
    return pa.string()


def _stored(type_: pa.DataType) -> pa.DataType:
    if type_ == _NARROW:
        return pa.int64()
    if _as_text(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(_stored(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(field.name, _stored(field.type)) for field in type_])
    return type_


def _as_text(type_: pa.DataType) -> bool:
    # No table has a type without values, or a struct without fields.
    return bool(
        pa.types.is_string(type_) or pa.types.is_null(type_) or (pa.types.is_struct(type_) and type_.num_fields == 0)
    )


def _converted(value: Any, type_: pa.DataType) -> Any:
    if value is None:
        return None
    if _as_text(type_):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if pa.types.is_list(type_):
        return [_converted(item, type_.value_type) for item in value]
    if pa.types.is_struct(type_):
        return {field.name: _converted(value.get(field.name), field.type) for field in type_}
    if type_ == _INSTANT:
        return _instant(value)
    return Decimal(value) if type_ == _HUGE else float(value) if type_ == pa.float64() else value


def _instant(text: str) -> datetime.datetime | None:
    if not _ISO.fullmatch(text):
        return None
    try:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None


def _not_json(message: str, fix: str) -> EngineError:
    return EngineError(message, origin=Origin.SOURCE, fix=fix)
