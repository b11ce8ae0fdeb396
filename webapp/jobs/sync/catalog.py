"""The catalog document of contract 002, written from what a source can give and read back as what a run shall do.

A document is `{"streams": [{"stream": {...}}, ...], "selected_streams": {"<namespace>": [{"stream_name": ...}, ...]}}`.
Keys beyond the contract's are ours and optional: `data_type` beside a column's words, `columns` and `primary_key` in a
selection.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from webapp.engine.connectors.base import Column, Mode, Stream, Target, Write
from webapp.engine.connectors.registry import VERSION, destination_class, source_class
from webapp.engine.connectors.sums import adds_up
from webapp.engine.connectors.words import json_words
from webapp.engine.sync.filters import parse_filter
from webapp.engine.sync.partitions import parse_partitions
from webapp.engine.sync.plan import GUESSED, Counting, StreamPlan
from webapp.errors import Invalid

#: What a column of contract 002's words is, when the document does not say more.
_TYPES = {
    "boolean": "BOOLEAN", "integer": "BIGINT", "integer_small": "INTEGER", "number": "DOUBLE", "number_small": "FLOAT",
    "string": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE", "timestamp_milli": "TIMESTAMP WITH TIME ZONE",
    "timestamp_micro": "TIMESTAMP WITH TIME ZONE", "timestamp_nano": "TIMESTAMP_NS", "binary": "BLOB", "object": "JSON",
    "array": "JSON",
}  # fmt: skip
_NOT_PLAIN = re.compile(r"[^0-9a-z_]+")
_CAPTURES = ("cdc", "strict_cdc")


class Property(BaseModel):
    """A column of a stream's `type_schema`."""

    model_config = ConfigDict(extra="ignore")

    type: str | list[str] = []
    destination_column_name: str = ""
    data_type: str = ""


class TypeSchema(BaseModel):
    """The columns of a stream."""

    model_config = ConfigDict(extra="ignore")

    properties: dict[str, Property] = {}


class StreamDocument(BaseModel):
    """A stream as the document describes it."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=512)
    namespace: str = Field("", max_length=512)
    sync_mode: str = "full_refresh"
    supported_sync_modes: list[str] | None = None
    cursor_field: str | None = None
    source_defined_primary_key: list[str] | None = None
    type_schema: TypeSchema | None = None
    destination_database: str | None = None
    destination_table: str | None = None

    @property
    def label(self) -> str:
        """The stream's name as people and logs say it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def properties(self) -> Mapping[str, Property]:
        """The columns; none when the document does not list them."""
        return self.type_schema.properties if self.type_schema else {}


class ColumnChoice(BaseModel):
    """Which columns are wanted, in the words of later releases of OLake."""

    model_config = ConfigDict(extra="ignore")

    columns: list[str] = []


class Selection(BaseModel):
    """A stream that is wanted, and how."""

    model_config = ConfigDict(extra="ignore")

    stream_name: str
    partition_regex: str = ""
    normalization: bool = False
    filter: str = ""
    disabled: bool = False
    append_mode: bool = False
    columns: list[str] = []
    selected_columns: ColumnChoice | None = None
    primary_key: list[str] = []
    sums: list[str] = []
    count: Counting = Counting.CHEAP

    @property
    def wanted(self) -> Sequence[str]:
        """The names of the columns that are wanted; none means all."""
        return self.columns or (self.selected_columns.columns if self.selected_columns else [])


@dataclass(frozen=True)
class Catalog:
    """A document that was read: each stream that is wanted, with its description."""

    streams: tuple[StreamDocument, ...] = ()
    selected: tuple[tuple[StreamDocument, Selection], ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The streams that a run would move."""
        return tuple(document.label for document, _ in self.selected)


@dataclass(frozen=True)
class Standing:
    """What is known of the streams besides the document: what was discovered, and how often each was reset."""

    discovered: Mapping[tuple[str, str], Stream] = field(default_factory=dict)
    epochs: Mapping[tuple[str, str], int] = field(default_factory=dict)


def read_catalog(value: Any) -> Catalog:
    """The document, sent as JSON or as a text that holds it. Raises Invalid that names the stream and the field."""
    found = _parsed(value)
    streams = tuple(_stream(at, item) for at, item in enumerate(_listed(found.get("streams"), "streams")))
    known = {(stream.namespace, stream.name): stream for stream in streams}
    selected = [
        (_described(known, namespace, selection, at), selection)
        for namespace, at, selection in _selections(found.get("selected_streams"))
        if not selection.disabled
    ]
    _check_no_repeats([document for document, _ in selected])
    return Catalog(streams, tuple(selected))


def _parsed(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise _wrong(f"this string holds no JSON: {error}") from error
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise _wrong("must be an object with `streams` and `selected_streams`.")
    return value


def _wrong(message: str, *, where: str = "") -> Invalid:
    place = f"streams_config: {where}: " if where else "streams_config: "
    return Invalid(place + message, field="streams_config", stream=where or None)


def _listed(value: Any, name: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise _wrong("must be a list.", where=name)
    return value or []


def _stream(at: int, item: Any) -> StreamDocument:
    inner = item.get("stream", item) if isinstance(item, dict) else item
    name = inner.get("name") if isinstance(inner, dict) else None
    try:
        return StreamDocument.model_validate(inner)
    except ValidationError as error:
        raise _wrong(_first(error), where=str(name or f"streams.{at}")) from error


def _selections(value: Any) -> Iterator[tuple[str, int, Selection]]:
    if value is not None and not isinstance(value, dict):
        raise _wrong("must be an object of lists by namespace.", where="selected_streams")
    for namespace, items in (value or {}).items():
        for at, item in enumerate(_listed(items, f"selected_streams.{namespace}")):
            name = item.get("stream_name") if isinstance(item, dict) else None
            try:
                yield namespace, at, Selection.model_validate(item)
            except ValidationError as error:
                raise _wrong(_first(error), where=str(name or f"selected_streams.{namespace}.{at}")) from error


def _first(error: ValidationError) -> str:
    item = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"


def _described(
    known: Mapping[tuple[str, str], StreamDocument], namespace: str, selection: Selection, at: int
) -> StreamDocument:
    found = known.get((namespace, selection.stream_name))
    if found is None:
        where = f"selected_streams.{namespace}.{at}"
        raise _wrong(f"stream_name: {selection.stream_name!r} is not among the streams.", where=where)
    return found


def _check_no_repeats(documents: Sequence[StreamDocument]) -> None:
    seen: set[str] = set()
    targets: dict[Target, str] = {}
    for document in documents:
        if document.label in seen:
            raise _wrong("stream_name: is selected twice.", where=document.label)
        seen.add(document.label)
        target = target_of(document)
        if target in targets:
            message = f"destination_table: {target.label} is also the target of {targets[target]}."
            raise _wrong(message, where=document.label)
        targets[target] = document.label


# --- plans ------------------------------------------------------------------------------------------------------------


def plan_streams(catalog: Catalog, standing: Standing) -> list[StreamPlan]:
    """What a run does with each selected stream. Raises Invalid that names the stream and the field."""
    return [_plan(document, selection, standing) for document, selection in catalog.selected]


def check_catalog(catalog: Catalog) -> None:
    """Raise Invalid for a selection that no run could carry out, naming the stream and the field."""
    plan_streams(catalog, Standing())


def _plan(document: StreamDocument, selection: Selection, standing: Standing) -> StreamPlan:
    place = (document.namespace, document.name)
    _check_texts(document, selection)
    columns = _columns(document, selection, standing.discovered.get(place))
    mode = _mode(document)
    key = tuple(selection.primary_key or document.source_defined_primary_key or ())
    write = _write(mode, key, selection)
    _check_cursor(document, mode, columns)
    _check_key(document, key, columns, write)
    _check_sums(document, selection, columns)
    return StreamPlan(
        namespace=document.namespace,
        name=document.name,
        columns=columns,
        known=tuple(document.properties),
        target=target_of(document),
        mode=mode,
        write=write,
        primary_key=key,
        cursor=document.cursor_field if mode is Mode.INCREMENTAL else None,
        filter=selection.filter.strip(),
        partition_regex=selection.partition_regex.strip(),
        normalization=selection.normalization,
        renames=_renames(document, columns),
        epoch=standing.epochs.get(place, 0),
        sums=tuple(selection.sums),
        count=selection.count,
    )


def _mode(document: StreamDocument) -> Mode:
    word = document.sync_mode.strip().lower()
    if word in _CAPTURES:
        message = (
            f"sync_mode: {word} (change data capture) is not offered: connectors of {VERSION} do not read a server's"
            " log of changes. Choose incremental with a cursor, or full_refresh."
        )
        raise _wrong(message, where=document.label)
    if word not in (Mode.FULL_REFRESH, Mode.INCREMENTAL):
        raise _wrong(f"sync_mode: {word!r} is not full_refresh or incremental.", where=document.label)
    return Mode(word)


def _write(mode: Mode, key: Sequence[str], selection: Selection) -> Write:
    if mode is Mode.FULL_REFRESH:
        return Write.REPLACE
    return Write.UPSERT if key and not selection.append_mode else Write.APPEND


def _columns(document: StreamDocument, selection: Selection, found: Stream | None) -> tuple[Column, ...]:
    """The chosen columns, as discovered where that is known, else as the document says."""
    discovered = {column.name: column for column in found.columns} if found else {}
    described = {name: discovered.get(name) or _column(name, item) for name, item in document.properties.items()}
    columns = described or discovered
    unknown = [name for name in selection.wanted if columns and name not in columns]
    if unknown:
        raise _wrong(f"columns: there is no column {unknown[0]!r}.", where=document.label)
    if not selection.wanted:
        return tuple(columns.values())
    needed = {*selection.wanted, *_needed(document, selection)}
    return tuple(column for name, column in columns.items() if name in needed)


def _needed(document: StreamDocument, selection: Selection) -> Iterator[str]:
    """Columns that are read whoever chose them: without them no filter, no state and no upsert would be possible."""
    filtered = parse_filter(selection.filter)
    yield from (condition.column for condition in (filtered.conditions if filtered else ()))
    yield from selection.sums
    if document.sync_mode == Mode.INCREMENTAL:
        yield from selection.primary_key or document.source_defined_primary_key or ()
        if document.cursor_field:
            yield document.cursor_field


def _column(name: str, item: Property) -> Column:
    words = [item.type] if isinstance(item.type, str) else item.type
    word = next((word for word in words if word != "null"), "string")
    native = "" if item.data_type else GUESSED
    return Column(name, item.data_type or _TYPES.get(word, "VARCHAR"), "null" in words or not words, native)


def _renames(document: StreamDocument, columns: Sequence[Column]) -> dict[str, str]:
    chosen = {column.name for column in columns}
    renames = {
        name: item.destination_column_name
        for name, item in document.properties.items()
        if name in chosen and item.destination_column_name and item.destination_column_name != name
    }
    names = [renames.get(column.name, column.name).casefold() for column in columns]
    twice = next((name for name in names if names.count(name) > 1), None) if renames else None
    if twice is not None:
        raise _wrong(f"destination_column_name: {twice!r} is used twice.", where=document.label)
    return renames


def _check_cursor(document: StreamDocument, mode: Mode, columns: Sequence[Column]) -> None:
    if mode is not Mode.INCREMENTAL:
        return
    if not document.cursor_field:
        raise _wrong("cursor_field: an incremental stream needs a cursor column.", where=document.label)
    if columns and document.cursor_field not in {column.name for column in columns}:
        raise _wrong(f"cursor_field: there is no column {document.cursor_field!r}.", where=document.label)


def _check_key(document: StreamDocument, key: Sequence[str], columns: Sequence[Column], write: Write) -> None:
    missing = [name for name in key if columns and name not in {column.name for column in columns}]
    if missing and write is Write.UPSERT:
        raise _wrong(f"source_defined_primary_key: there is no column {missing[0]!r}.", where=document.label)


def _check_sums(document: StreamDocument, selection: Selection, columns: Sequence[Column]) -> None:
    types = {column.name: column for column in columns}
    for name in selection.sums:
        column = types.get(name)
        if columns and column is None:
            raise _wrong(f"sums: there is no column {name!r}.", where=document.label)
        if column is not None and column.native != GUESSED and not adds_up(column.type):
            message = f"sums: {name} is {column.type}; only whole numbers and decimals add up the same in any order."
            raise _wrong(message, where=document.label)


def check_ends_add_up(catalog: Catalog, source_type: str, destination_type: str) -> None:
    """Raise Invalid for sums that one of these connectors cannot tell, naming the stream and the connector."""
    asked = next((document for document, selection in catalog.selected if selection.sums), None)
    if asked is None:
        return
    for connector in (source_class(source_type), destination_class(destination_type)):
        if not connector.offers_sums:
            raise _wrong(f"sums: {connector.title} cannot add columns up; leave them out.", where=asked.label)


def _check_texts(document: StreamDocument, selection: Selection) -> None:
    """The filter and the partitions can be understood, and the filter names columns that there are."""
    name = "filter"
    try:
        found = parse_filter(selection.filter)
        name = "partition_regex"
        parse_partitions(selection.partition_regex)
    except ValueError as error:
        raise _wrong(f"{name}: {error}", where=document.label) from error
    known = document.properties
    missing = [item.column for item in (found.conditions if found else ()) if known and item.column not in known]
    if missing:
        raise _wrong(f"filter: there is no column {missing[0]!r}.", where=document.label)


def target_of(document: StreamDocument) -> Target:
    """The table that the stream goes to: `prefix:namespace` is the database prefix_namespace."""
    database = plain_name(document.destination_database or document.namespace)
    return Target(database, plain_name(document.destination_table or document.name) or "table")


def plain_name(text: str) -> str:
    """A name that every destination takes: lower case letters, digits and underscores."""
    return _NOT_PLAIN.sub("_", text.strip().lower())[:128]


# --- documents --------------------------------------------------------------------------------------------------------


def document_of(streams: Sequence[Stream], *, prefix: str, chosen: Any = None) -> dict[str, Any]:
    """The document for what was discovered, all of it selected; `chosen`, an earlier document, keeps its choices."""
    earlier = read_catalog(chosen) if chosen else Catalog()
    before = {(item.namespace, item.name): item for item in earlier.streams}
    described = [_with_choices(describe(stream, prefix=prefix), before, stream) for stream in streams]
    there = {(stream.namespace, stream.name) for stream in streams}
    selected = _still_there(_parsed(chosen).get("selected_streams") or {}, there) if chosen else _all_of(streams)
    return {"streams": [{"stream": item} for item in described], "selected_streams": selected}


def _all_of(streams: Sequence[Stream]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stream in streams:
        item = {"stream_name": stream.name, "partition_regex": "", "normalization": True, "filter": "",
                "disabled": False, "append_mode": False}  # fmt: skip
        found.setdefault(stream.namespace, []).append(item)
    return found


def _still_there(selected: Mapping[str, Any], there: set[tuple[str, str]]) -> dict[str, Any]:
    kept = {
        namespace: [item for item in items if (namespace, item["stream_name"]) in there]
        for namespace, items in selected.items()
    }
    return {namespace: items for namespace, items in kept.items() if items}


def describe(stream: Stream, *, prefix: str) -> dict[str, Any]:
    """A stream as contract 002 writes it, with its default settings."""
    incremental = Mode.INCREMENTAL in stream.modes and stream.cursor_fields
    return {
        "name": stream.name,
        "namespace": stream.namespace,
        "sync_mode": Mode.FULL_REFRESH.value,
        "supported_sync_modes": [mode.value for mode in stream.modes],
        "cursor_field": stream.cursor_fields[0] if incremental else "",
        "available_cursor_fields": list(stream.cursor_fields),
        "source_defined_primary_key": list(stream.primary_key),
        "type_schema": {
            "properties": {
                column.name: {
                    "type": json_words(column),
                    "destination_column_name": column.name,
                    "data_type": column.type,
                }
                for column in stream.columns
            }
        },
        "destination_database": f"{plain_name(prefix)}:{stream.namespace}" if stream.namespace else plain_name(prefix),
        "destination_table": plain_name(stream.name),
        "rows": stream.rows,
        "size_bytes": stream.size_bytes,
    }


def _with_choices(
    described: dict[str, Any], before: Mapping[tuple[str, str], StreamDocument], stream: Stream
) -> dict[str, Any]:
    """The description with the settings that somebody chose earlier."""
    earlier = before.get((stream.namespace, stream.name))
    if earlier is None:
        return described
    for name in ("sync_mode", "cursor_field", "destination_database", "destination_table"):
        if value := getattr(earlier, name):
            described[name] = value
    for name, item in described["type_schema"]["properties"].items():
        if name in earlier.properties and earlier.properties[name].destination_column_name:
            item["destination_column_name"] = earlier.properties[name].destination_column_name
    return described
