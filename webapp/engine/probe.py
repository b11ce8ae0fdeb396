"""Looks at a system for the web: tests a connection, lists its streams, shows some rows. A process of its own.

One JSON line on standard input says what is wanted; standard input stays open, and its end means that nobody waits any
more. Standard output is JSON lines: `step`, `stream` and `rows` as they come, then `done` or `error`.
"""

import datetime
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Column, Destination, Mode, Read, Source, Stream, Target
from webapp.engine.context import Context, Silence
from webapp.engine.errors import EngineError, Kind, Origin
from webapp.redaction import redact, secret_values

MOST_ROWS = 1000
_LONGEST_TEXT = 2000
Say = Callable[[str, Any], None]


def main() -> None:
    """Answer the request on standard input, and leave without waiting for drivers to tidy up."""
    out = _own_output()
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    secrets: set[str] = set()

    def say(kind: str, value: Any) -> None:
        told = cleaned(value, secrets) if kind in {"step", "error"} else value
        out.write(json.dumps({kind: told}, default=str) + "\n")
        out.flush()

    try:
        _answer(request, say, secrets)
    except EngineError as error:
        say("error", as_json(error))
    except Exception as error:  # whatever a driver raises is told to whoever asked, who cannot see this process
        say("error", as_json(_unforeseen(request, error)))
    os._exit(0)


def _own_output() -> Any:
    """Standard output for answers alone: what drivers print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _answer(request: Mapping[str, Any], say: Say, secrets: set[str]) -> None:
    started = time.monotonic()
    connector = make_connector(request["role"], request["type"], request["config"], context_of(request["context"]))
    secrets.update(secret_texts(connector.config) | secret_values(request["config"]))
    told = _VERBS[request["verb"]](connector, request, say)
    say("done", {**told, "seconds": round(time.monotonic() - started, 3)})


def context_of(given: Mapping[str, Any]) -> Context:
    """The surroundings that the web process described."""
    return Context(
        data_root=Path(given["data_root"]),
        allowed_roots=tuple(Path(root) for root in given["allowed_roots"]),
        warehouse=Path(given["warehouse"]),
        temp=Path(given["temp"]),
        reporter=Silence(),
        allow_private_addresses=given["allow_private_addresses"],
        memory_limit_mb=given["memory_limit_mb"],
        lock_timeout=given["lock_timeout"],
    )


def make_connector(
    role: str, type_: str, config: Mapping[str, Any], context: Context
) -> Source[Any] | Destination[Any]:
    """The configured connector. Raises EngineError when there is none, or when its configuration is wrong."""
    origin = Origin.SOURCE if role == "source" else Origin.DESTINATION
    try:
        connector = registry.connector_class(role, type_)
        return connector(connector.Spec.model_validate(config), context)
    except registry.UnknownConnector as error:
        raise EngineError(str(error), origin=origin) from error
    except ModuleNotFoundError as error:
        message = f"the {role} connector {type_!r} is not installed on this server ({error.name} is missing)"
        raise EngineError(message, origin=origin, kind=Kind.SYSTEM) from error
    except ValidationError as error:
        item = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in item["loc"])
        raise EngineError(f"{where}: {item['msg']}", origin=origin, fix="Correct this field.", field=where) from error


def cleaned(facts: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """The facts, whose texts may quote a driver's, without these secrets and without what looks like one."""

    def clean(text: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "[struck out]")
        return redact(text)

    return {name: clean(value) if isinstance(value, str) else value for name, value in facts.items()}


def secret_texts(value: Any) -> set[str]:
    """Every secret inside a configuration."""
    if isinstance(value, SecretStr):
        return {value.get_secret_value()} if len(value.get_secret_value()) > 3 else set()
    if isinstance(value, BaseModel):
        return set().union(*(secret_texts(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, Mapping):
        return set().union(*map(secret_texts, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(secret_texts, value))
    return set()


def _check(connector: Source[Any] | Destination[Any], _request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    ok = True
    for step in connector.check():
        say("step", asdict(step))
        ok = ok and step.ok
    return {"ok": ok}


def _discover(connector: Source[Any] | Destination[Any], request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    found = 0
    for stream in _source(connector).discover(pattern=request.get("pattern", "")):
        if not _is_own(stream):
            say("stream", asdict(stream))
            found += 1
    return {"found": found}


def _is_own(stream: Stream) -> bool:
    """What syncs keep beside the tables that they write is nobody's data."""
    return any(name.rsplit(".", 1)[-1].lower().startswith("_hohmann") for name in (stream.namespace, stream.name))


def _preview(connector: Source[Any] | Destination[Any], request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    limit = max(1, min(int(request.get("limit", 50)), MOST_ROWS))
    if isinstance(connector, Destination):
        with connector.open() as session:
            table = session.preview(Target(**request["target"]), limit=limit)
            say("rows", _shown(table.schema, table.slice(0, limit).to_pylist()))
            return {"rows": min(limit, table.num_rows)}
    stream = stream_of(request["stream"])
    rows: list[dict[str, Any]] = []
    read = Read(stream, stream.columns)
    with connector.open(parallel=1) as reading:
        reader = reading.read(read, reading.chunks(read, parallel=1)[0])
        for batch in reader:
            rows += batch.slice(0, limit - len(rows)).to_pylist()
            if len(rows) >= limit:
                break
        # Told before the reader is closed: a driver may insist on pulling the rest of the rows first.
        say("rows", _shown(reader.schema, rows))
        say("done", {"rows": len(rows)})
        os._exit(0)


_VERBS: dict[str, Callable[[Source[Any] | Destination[Any], Mapping[str, Any], Say], dict[str, Any]]] = {
    "check": _check,
    "discover": _discover,
    "preview": _preview,
}


def stream_of(document: Mapping[str, Any]) -> Stream:
    """The stream that `dataclasses.asdict` wrote."""
    return Stream(
        **{
            **document,
            "columns": tuple(Column(**column) for column in document["columns"]),
            "primary_key": tuple(document["primary_key"]),
            "cursor_fields": tuple(document["cursor_fields"]),
            "modes": tuple(Mode(mode) for mode in document["modes"]),
        }
    )


def _source(connector: Source[Any] | Destination[Any]) -> Source[Any]:
    if isinstance(connector, Source):
        return connector
    raise EngineError("a destination has no streams to discover", origin=Origin.USER)


def _shown(schema: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from webapp.engine.connectors.types import duckdb_type  # PyArrow: the web imports this module, and needs none of it

    columns = [{"name": field.name, "type": duckdb_type(field.type)} for field in schema]
    return {"columns": columns, "rows": [[_plain(row[field.name]) for field in schema] for row in rows]}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        # A browser's numbers hold 53 bits, and JSON knows neither infinity nor NaN.
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"\\x{value[:_LONGEST_TEXT].hex()}"
    text = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def as_json(error: EngineError) -> dict[str, Any]:
    """The failure as whoever asked keeps it."""
    return {"message": error.message, "origin": error.origin, "kind": error.kind, "fix": error.fix or ""}


def _unforeseen(request: Mapping[str, Any], error: Exception) -> EngineError:
    origin = Origin.SOURCE if request.get("role") == "source" else Origin.DESTINATION
    said = str(error).strip().splitlines()[:1]
    return EngineError(": ".join([type(error).__name__, *said]), origin=origin, kind=Kind.SYSTEM)


if __name__ == "__main__":
    main()
