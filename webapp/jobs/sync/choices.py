"""Which streams a form has chosen and how each shall be moved: kept across its pages, and saved as a document.

What stands in the fields of one page is read by `webapp.jobs.sync.fields`.
"""

import binascii
import functools
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import orjson

from webapp.engine.connectors.base import Mode, Stream
from webapp.engine.sync.plan import Counting
from webapp.errors import Invalid
from webapp.jobs.sync.catalog import Catalog, Selection, StreamDocument, describe, plain_name

REPLACE, APPEND, UPSERT = MODES = ("full_refresh", "append", "upsert")
LARGEST = 32 * 1024 * 1024
#: Stands for a stream's namespace in the name of a destination's database.
NAMESPACE = "{namespace}"

Place = tuple[str, str]
Choices = dict[Place, "How"]


@dataclass(frozen=True)
class How:
    """How a stream shall be moved.

    An empty table is one that is called like the stream, an empty database that of the job's other streams; no columns
    means all of them.
    """

    mode: str = REPLACE
    cursor: str = ""
    filter: str = ""
    table: str = ""
    database: str = ""
    columns: tuple[str, ...] = ()
    partitions: str = ""
    normalization: bool = True
    sums: tuple[str, ...] = ()
    count: str = Counting.CHEAP.value


_USUAL = How()


def pack(choices: Choices) -> str:
    """The choices as one field of a form carries them: thousands fit."""
    found: dict[str, dict[str, Any]] = {}
    unusual = functools.cache(_unusual)  # thousands are moved alike
    for (namespace, name), how in choices.items():
        found.setdefault(namespace, {})[name] = unusual(how)
    return urlsafe_b64encode(zlib.compress(orjson.dumps(found))).decode()


def _unusual(how: How) -> dict[str, Any]:
    named = ((item.name, getattr(how, item.name)) for item in fields(how))
    return {name: value for name, value in named if value != getattr(_USUAL, name)}


def unpack(text: str) -> Choices:
    """What `pack` wrote. Raises Invalid for anything else."""
    if not text:
        return {}
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(urlsafe_b64decode(text), LARGEST)
        how_of = functools.cache(_how_of)
        return {
            (namespace, name): how_of(orjson.dumps(settings))
            for namespace, names in orjson.loads(plain).items()
            for name, settings in names.items()
        }
    except (ValueError, TypeError, AttributeError, zlib.error, binascii.Error) as error:
        raise Invalid("The choices of this form cannot be read; open it again.", field="streams") from error


def _how_of(settings: bytes) -> How:
    said: dict[str, Any] = orjson.loads(settings)
    return How(**{key: _like(getattr(_USUAL, key), value) for key, value in said.items()})


def _like(usual: object, value: Any) -> Any:
    """The value as a setting of this kind holds it."""
    if isinstance(usual, tuple):
        return tuple(str(part) for part in value)
    return bool(value) if isinstance(usual, bool) else str(value)


# --- what a job has ---------------------------------------------------------------------------------------------------


def choices_of(catalog: Catalog) -> Choices:
    """What a document has chosen."""
    database = database_of(catalog)
    return {
        (stream.namespace, stream.name): _how(stream, selection, database) for stream, selection in catalog.selected
    }


def _how(stream: StreamDocument, selection: Selection, database: str) -> How:
    mode, cursor = REPLACE, ""
    if stream.sync_mode == Mode.INCREMENTAL:
        keyed = stream.source_defined_primary_key or selection.primary_key
        mode, cursor = UPSERT if keyed and not selection.append_mode else APPEND, stream.cursor_field or ""
    table, goes_to = stream.destination_table or stream.name, _database(stream)
    return How(
        mode=mode,
        cursor=cursor,
        filter=selection.filter,
        table="" if plain_name(table) == plain_name(stream.name) else table,
        database="" if plain_name(goes_to) == plain_name(filled(database, stream.namespace)) else goes_to,
        columns=tuple(selection.wanted),
        partitions=selection.partition_regex,
        normalization=selection.normalization,
        sums=tuple(selection.sums),
        count=selection.count.value,
    )


def _database(stream: StreamDocument) -> str:
    return stream.destination_database or stream.namespace


def database_of(catalog: Catalog) -> str:
    """Where most of a document's chosen streams go, with NAMESPACE for theirs; empty when it has chosen none."""
    known = Counter(_pattern(stream) for stream, _ in catalog.selected)
    return known.most_common(1)[0][0] if known else ""


def _pattern(stream: StreamDocument) -> str:
    database, namespace = _database(stream), stream.namespace
    if namespace and (database == namespace or database.endswith(f":{namespace}")):
        return database[: -len(namespace)] + NAMESPACE
    return database


def filled(database: str, namespace: str) -> str:
    """The database of a stream with this namespace."""
    return database.replace(NAMESPACE, namespace).rstrip(":") if database else ""


# --- the document -----------------------------------------------------------------------------------------------------


def document_for(choices: Choices, known: Mapping[Place, Stream], *, database: str, before: Any) -> dict[str, Any]:
    """The document that says these choices; what an earlier one says beyond them is kept. Raises Invalid."""
    items, selections = _earlier(before)
    streams: list[dict[str, Any]] = []
    selected: dict[str, list[dict[str, Any]]] = {}
    for place, how in choices.items():
        item = _described(place, known.get(place), items.get(place))
        how = _sound(how, place, item)
        streams.append({"stream": item | _words_of(how, place, database)})
        selected.setdefault(place[0], []).append(_selection(how, place, selections.get(place, {})))
    others = [{"stream": item} for place, item in items.items() if place not in choices]
    return {"streams": streams + others, "selected_streams": selected}


def _selection(how: How, place: Place, earlier: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "stream_name": place[1],
        "partition_regex": how.partitions,
        "normalization": how.normalization,
        "filter": how.filter,
        "append_mode": how.mode == APPEND,
        "disabled": False,
    }
    if (how.sums, how.count) != (_USUAL.sums, _USUAL.count) or {"sums", "count"} & earlier.keys():
        said |= {"sums": list(how.sums), "count": how.count}
    if tuple(Selection.model_validate({**earlier, **said}).wanted) == how.columns:
        return {**earlier, **said}
    kept = {key: value for key, value in earlier.items() if key not in ("columns", "selected_columns")}
    return {**kept, **said, **({"columns": list(how.columns)} if how.columns else {})}


def _earlier(before: Any) -> tuple[dict[Place, dict[str, Any]], dict[Place, dict[str, Any]]]:
    """The streams and the selections of a stored document, as they were sent."""
    found = orjson.loads(before) if isinstance(before, str) and before.strip() else before
    if not isinstance(found, dict):
        return {}, {}
    inner = [item.get("stream", item) for item in found.get("streams") or ()]
    selected = (found.get("selected_streams") or {}).items()
    return (
        {(item.get("namespace") or "", item["name"]): item for item in inner},
        {(namespace, item["stream_name"]): item for namespace, items in selected for item in items},
    )


def _described(place: Place, stream: Stream | None, earlier: dict[str, Any] | None) -> dict[str, Any]:
    if stream is None and earlier is None:
        raise Invalid(f"{place[1]}: the source was not found to hold it; discover it again.", field="streams")
    if stream is None:
        return dict(earlier or {})
    found = describe(stream, prefix="")
    if earlier is None:
        return found
    was = (earlier.get("type_schema") or {}).get("properties") or {}
    columns = {name: was.get(name, item) for name, item in found["type_schema"]["properties"].items()}
    return {**found, **earlier, "type_schema": {"properties": columns}}


def _sound(how: How, place: Place, item: Mapping[str, Any]) -> How:
    """The choice with a cursor where there is only one answer. Raises Invalid for an upsert without a key."""
    if how.mode not in MODES:
        raise Invalid(f"{place[1]}: {how.mode!r} is no mode.", field="streams", stream=place[1])
    if how.mode == UPSERT and not item.get("source_defined_primary_key"):
        message = f"{place[1]}: it has no primary key to upsert by; append instead."
        raise Invalid(message, field="streams", stream=place[1])
    cursors = item.get("available_cursor_fields") or ()
    return replace(how, cursor=cursors[0]) if how.mode != REPLACE and not how.cursor and cursors else how


def _words_of(how: How, place: Place, database: str) -> dict[str, Any]:
    words = {
        "sync_mode": (Mode.FULL_REFRESH if how.mode == REPLACE else Mode.INCREMENTAL).value,
        "destination_database": how.database or filled(database, place[0]),
        "destination_table": how.table or plain_name(place[1]),
    }
    return words if how.mode == REPLACE else words | {"cursor_field": how.cursor}


def in_mode(choices: Choices, mode: str, cursors: Mapping[Place, str]) -> Choices:
    """The choices with this mode at the places of these cursors, each with its own cursor where it has one."""
    if mode not in MODES:
        return choices

    @functools.cache
    def moved(how: How, cursor: str) -> How:
        return replace(how, mode=mode, cursor="" if mode == REPLACE else how.cursor or cursor)

    return {place: moved(how, cursors[place]) if place in cursors else how for place, how in choices.items()}
