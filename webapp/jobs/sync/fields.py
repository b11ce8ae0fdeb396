"""The fields of one page of streams: how each is moved, and the helpers that write filters for people."""

import re
from collections.abc import Iterator
from dataclasses import replace

from werkzeug.datastructures import MultiDict

from webapp.engine.sync.filters import parse_filter
from webapp.engine.sync.partitions import parse_partitions
from webapp.jobs.sync.choices import REPLACE, Choices, How, Place

PAGE = 100
OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
TRANSFORMS = ("identity", "year", "month", "day", "hour", "bucket", "truncate")

Fields = MultiDict[str, str]

_WORD = re.compile(r"[^\W\d][\w.$-]*")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def apply_page(choices: Choices, fields: Fields) -> Choices:
    """The choices after what stands in the fields of the page that was shown."""
    changed = dict(choices)
    for at, place in places_on(fields):
        if f"s{at}.on" in fields:
            changed[place] = _how(choices.get(place, How()), f"s{at}.", fields)
        else:
            changed.pop(place, None)
    return changed


def places_on(fields: Fields) -> Iterator[tuple[int, Place]]:
    """The streams of the page, each with the number of its row."""
    for at in range(PAGE):
        if f"s{at}.name" not in fields:
            return
        yield at, (fields.get(f"s{at}.namespace", ""), fields[f"s{at}.name"])


def opened_on(fields: Fields) -> Place | None:
    """The stream whose further settings were shown."""
    return next((place for at, place in places_on(fields) if f"s{at}.opened" in fields), None)


def _how(before: How, row: str, fields: Fields) -> How:
    how = replace(
        before,
        mode=fields.get(f"{row}mode", REPLACE),
        cursor=fields.get(f"{row}cursor", ""),
        filter=fields.get(f"{row}filter", "").strip(),
        table=fields.get(f"{row}table", "").strip(),
    )
    return _with_further(how, row, fields) if f"{row}opened" in fields else how


def _with_further(how: How, row: str, fields: Fields) -> How:
    """The settings that are shown for one stream at a time."""
    return replace(
        how,
        database=fields.get(f"{row}database", "").strip(),
        columns=_columns(how, row, fields),
        partitions=fields.get(f"{row}partitions", "").strip(),
        normalization=f"{row}normalization" in fields,
        sums=tuple(fields.getlist(f"{row}sum")) if f"{row}columns_shown" in fields else how.sums,
        count=fields.get(f"{row}count", how.count),
    )


def _columns(how: How, row: str, fields: Fields) -> tuple[str, ...]:
    in_all = fields.get(f"{row}columns_shown", "")  # absent while nobody knows the columns
    chosen = tuple(fields.getlist(f"{row}column")) if in_all else how.columns
    return () if in_all == str(len(chosen)) else chosen


# --- helpers that write the text --------------------------------------------------------------------------------------


def with_condition(how: How, row: str, fields: Fields) -> How:
    """The choice with the condition that the helper's fields describe added to its filter."""
    column, value = fields.get(f"{row}condition_column", ""), fields.get(f"{row}condition_value", "").strip()
    operator = fields.get(f"{row}condition_operator", "=")
    if not column or operator not in OPERATORS:
        return how
    name = column if _WORD.fullmatch(column) else _quoted(column)
    condition = f"{name} {operator} {_written(value)}"
    join = "or" if fields.get(f"{row}condition_join") == "or" else "and"
    return replace(how, filter=f"{how.filter} {_join_of(how.filter) or join} {condition}" if how.filter else condition)


def _join_of(text: str) -> str:
    """The word that joins the conditions of a filter already."""
    try:
        found = parse_filter(text)
    except ValueError:
        return ""
    return found.join if found and len(found.conditions) > 1 else ""


def _written(value: str) -> str:
    if _NUMBER.fullmatch(value) or value.lower() in ("true", "false", "null"):
        return value
    return _quoted(value.strip('"'))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def with_partition(how: How, row: str, fields: Fields) -> How:
    """The choice with the partition that the helper's fields describe added to its partitions."""
    column, transform = fields.get(f"{row}partition_column", ""), fields.get(f"{row}partition_transform", "identity")
    width = fields.get(f"{row}partition_width", "").strip()
    if not column or transform not in TRANSFORMS:
        return how
    wide = f"[{width if width.isdecimal() else 16}]" if transform in ("bucket", "truncate") else ""
    return replace(how, partitions=f"{how.partitions}/{{{column}, {transform}{wide}}}")


def problems_of(how: How) -> dict[str, str]:
    """What is wrong with the filter and the partitions by themselves, by field."""
    found = {}
    for name, parse, text in (("filter", parse_filter, how.filter), ("partitions", parse_partitions, how.partitions)):
        try:
            parse(text)
        except ValueError as error:
            found[name] = str(error)
    return found
