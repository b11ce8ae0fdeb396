"""What a source holds: looked for in the background, kept as it is found, shown in pages."""

import logging
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.orm import Session

from webapp import db as database
from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.config import Role
from webapp.connections import probes
from webapp.connections.models import Connection, ConnectionRole, DiscoveredStream, Discovery, DiscoveryState
from webapp.connections.operations import check_word, draft_config, get_connection
from webapp.connections.probes import Question, question
from webapp.dates import utcnow
from webapp.db import db, let_go
from webapp.engine.connectors.base import Stream
from webapp.engine.errors import EngineError
from webapp.engine.probe import as_json, stream_of
from webapp.errors import HohmannError, Invalid, NotFound

SILENT_SECONDS = 20.0
BATCH = 500
FLUSH_SECONDS = 0.5
NOW_SECONDS = 120.0
MAXIMUM_PAGE = 1000
MOST_NAMED = 500  # a statement with more is slower than reading all
log = logging.getLogger("hohmann.web")


@dataclass(frozen=True)
class Progress:
    """How a discovery stands; `error` has message, origin, kind and fix."""

    state: DiscoveryState
    found: int
    started_at: datetime
    finished_at: datetime | None
    error: dict[str, Any] | None

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return ((self.finished_at or utcnow()) - self.started_at).total_seconds()


@dataclass(frozen=True)
class StreamPage:
    """Some of the streams that were found, and how many match in all."""

    streams: list[Stream]
    total: int


# --- asking ----------------------------------------------------------------------------------------------------------


def start_discovery(actor: Actor, connection_id: uuid.UUID, *, pattern: str = "") -> Progress:
    """Look through a source in the background, once this unit of work is committed; one that runs already goes on."""
    connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
    actor.require(Role.OPERATOR, connection.project_id, Scope.JOBS_WRITE, what="Source")
    query = sa.select(Discovery).where(Discovery.connection_id == connection.id).with_for_update()
    known = db.session.scalar(query)
    if known is not None and _state(known) is DiscoveryState.RUNNING:
        return _progress(known)
    found = known or Discovery(connection_id=connection.id)
    now = utcnow()
    found.attempt, found.state, found.found, found.error = uuid.uuid4(), DiscoveryState.RUNNING, 0, None
    found.started_at, found.seen_at, found.finished_at = now, now, None
    db.session.add(found)
    db.session.flush()
    asked = question("discover", connection.role, connection.type, connection.config, pattern=pattern)
    search = _Search(asked, connection.id, connection.project_id, found.attempt)
    db.session.info.setdefault("discoveries", []).append(search)
    return _progress(found)


def discovery_of(actor: Actor, connection_id: uuid.UUID) -> Progress | None:
    """How the last discovery of a source stands; None when there was none."""
    connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
    found = db.session.get(Discovery, connection.id)
    return _progress(found) if found else None


def page_of_streams(
    actor: Actor,
    connection_id: uuid.UUID,
    *,
    search: str = "",
    namespace: str | None = None,
    offset: int = 0,
    limit: int = 100,
) -> StreamPage:
    """Streams of a source as they were found, narrowed by a part of `namespace.name` and by namespace."""
    connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
    wanted = _matching(connection, search, namespace)
    total = db.session.scalar(sa.select(sa.func.count()).select_from(DiscoveredStream).where(*wanted)) or 0
    query = sa.select(DiscoveredStream).where(*wanted)
    page = query.order_by(DiscoveredStream.position).offset(max(0, offset)).limit(max(1, min(limit, MAXIMUM_PAGE)))
    return StreamPage([stream_of(row.document) for row in db.session.scalars(page)], total)


def places_of(
    actor: Actor, connection_id: uuid.UUID, *, search: str = "", namespace: str | None = None
) -> list[tuple[str, str]]:
    """Namespace and name of every stream that `page_of_streams` would show, in its order."""
    connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
    query = sa.select(DiscoveredStream.namespace, DiscoveredStream.name).where(
        *_matching(connection, search, namespace)
    )
    return [(row[0], row[1]) for row in db.session.execute(query.order_by(DiscoveredStream.position))]


def cursors_of(
    actor: Actor,
    connection_id: uuid.UUID,
    *,
    search: str = "",
    namespace: str | None = None,
    keyed: bool = False,
) -> dict[tuple[str, str], str]:
    """The first cursor field of each stream that `places_of` would name and that has one; `keyed`: and a primary key.

    The database reads the documents, for thousands of them are slow to make in Python.
    """
    connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
    cursor, key = (DiscoveredStream.document[(name, 0)].as_string() for name in ("cursor_fields", "primary_key"))
    query = sa.select(DiscoveredStream.namespace, DiscoveredStream.name, cursor).where(
        *_matching(connection, search, namespace)
    )
    rows = db.session.execute(query.where(key.is_not(None)) if keyed else query)
    return {(row[0], row[1]): row[2] for row in rows if row[2] is not None}


def _matching(connection: Connection, search: str, namespace: str | None) -> list[sa.ColumnElement[bool]]:
    search, namespace = search.replace("\0", "").strip(), namespace and namespace.replace("\0", "")
    wanted = [DiscoveredStream.connection_id == connection.id]
    if namespace is not None:
        wanted.append(DiscoveredStream.namespace == namespace)
    if search:
        label = sa.func.lower(DiscoveredStream.namespace + "." + DiscoveredStream.name)
        wanted.append(label.contains(search.lower(), autoescape=True))
    return wanted


def namespaces_of(actor: Actor, connection_id: uuid.UUID) -> dict[str, int]:
    """The namespaces of a source's streams, in order, and how many streams each has."""
    connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
    rows = db.session.execute(
        sa.select(DiscoveredStream.namespace, sa.func.count())
        .where(DiscoveredStream.connection_id == connection.id)
        .group_by(DiscoveredStream.namespace)
        .order_by(DiscoveredStream.namespace)
    )
    return {row[0]: row[1] for row in rows}


def streams_of(connection_id: uuid.UUID, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], Stream]:
    """What is known of a source's streams with these namespaces and names; the caller has checked who asks."""
    columns = (DiscoveredStream.namespace, DiscoveredStream.name, DiscoveredStream.document)
    query = sa.select(*columns).where(DiscoveredStream.connection_id == connection_id)
    names = {name for _, name in places}
    if len(names) <= MOST_NAMED:
        query = query.where(DiscoveredStream.name.in_(names))
    rows = db.session.execute(query)
    return {(row.namespace, row.name): stream_of(row.document) for row in rows if (row.namespace, row.name) in places}


def stream_document(connection_id: uuid.UUID, *, namespace: str, name: str) -> dict[str, Any]:
    """One discovered stream as JSON. Raises NotFound."""
    found = db.session.scalar(
        sa.select(DiscoveredStream).where(
            DiscoveredStream.connection_id == connection_id,
            DiscoveredStream.namespace == namespace.replace("\0", ""),
            DiscoveredStream.name == name.replace("\0", ""),
        )
    )
    if found is None:
        raise NotFound("Stream not found: discover the source again.")
    return found.document


def discover_now(
    actor: Actor,
    *,
    type_: str,
    config: Mapping[str, Any],
    project_id: uuid.UUID,
    connection_id: uuid.UUID | None = None,
    seconds: float = NOW_SECONDS,
) -> list[Stream]:
    """All streams of a configuration, looked for while the caller waits; kept with the source when it is given.

    No database transaction is open meanwhile, so nothing may have been written before. Raises Invalid with the reason
    when the system does not answer.
    """
    restored = draft_config(actor, ConnectionRole.SOURCE, type_, config, project_id=project_id)
    asked = question("discover", ConnectionRole.SOURCE, check_word(type_, field="type").lower(), restored)
    let_go()
    try:
        said = probes.ask(asked, seconds=seconds)
        documents = [item["stream"] for item in said if "stream" in item]
    except EngineError as error:
        raise Invalid(f"{error.message}. {error.fix}" if error.fix else error.message, code="NO_CATALOG") from error
    if connection_id is not None:
        connection = get_connection(actor, connection_id, role=ConnectionRole.SOURCE)
        if connection.config == restored:  # else it is a draft that looks elsewhere
            _keep_all(connection, documents)
    return [stream_of(document) for document in documents]


def _keep_all(connection: Connection, documents: list[dict[str, Any]]) -> None:
    now = utcnow()
    found = db.session.get(Discovery, connection.id) or Discovery(connection_id=connection.id, started_at=now)
    found.attempt, found.state, found.found, found.error = uuid.uuid4(), DiscoveryState.DONE, len(documents), None
    found.seen_at = found.finished_at = now
    db.session.add(found)
    _forget(connection.id)
    _insert(connection.id, 0, documents)


def _progress(found: Discovery) -> Progress:
    return Progress(_state(found), found.found, found.started_at, found.finished_at, found.error)


def _state(found: Discovery) -> DiscoveryState:
    """Running means that somebody was heard of lately: a process that died says nothing any more."""
    is_silent = utcnow() - found.seen_at > timedelta(seconds=SILENT_SECONDS)
    return DiscoveryState.INTERRUPTED if found.state is DiscoveryState.RUNNING and is_silent else found.state


# --- looking, in a thread of its own ---------------------------------------------------------------------------------


class _SupersededError(Exception):
    """Another discovery of the same source was begun, or the source is gone."""


@dataclass
class _Search:
    asked: Question
    connection_id: uuid.UUID
    project_id: uuid.UUID
    attempt: uuid.UUID
    found: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)

    def run(self, app: Flask) -> None:
        with app.app_context():
            try:
                self._look()
            except _SupersededError:
                log.info("discovery of %s: superseded", self.connection_id)
            except Exception:  # a thread has nobody above it to tell; the row goes silent, which pages show
                log.exception("discovery of %s broke", self.connection_id)

    def _look(self) -> None:
        try:
            with closing(probes.ask(self.asked, seconds=probes.DISCOVER_SECONDS)) as answers:
                self._take(answers)
        except EngineError as error:
            self._end(DiscoveryState.FAILED, as_json(error))
        except HohmannError as error:
            self._end(DiscoveryState.FAILED, {"message": error.message, "origin": "platform", "kind": "transient",
                                              "fix": ""})  # fmt: skip
        else:
            self._end(DiscoveryState.DONE, None)

    def _take(self, answers: Iterator[dict[str, Any]]) -> None:
        told = 0.0
        for said in answers:
            if "stream" in said:
                self.waiting.append(said["stream"])
            if len(self.waiting) >= BATCH or time.monotonic() - told > FLUSH_SECONDS:
                with database.unit_of_work():
                    self._flush({})
                told = time.monotonic()

    def _flush(self, news: Mapping[str, Any]) -> None:
        """Keep what waits; the list of an earlier discovery stands until this one has found something."""
        found = self.found + len(self.waiting)
        mine = sa.and_(Discovery.connection_id == self.connection_id, Discovery.attempt == self.attempt)
        values = {"found": found, "seen_at": utcnow(), **news}
        changed = db.session.execute(sa.update(Discovery).where(mine).values(**values))
        if not changed.rowcount:  # type: ignore[attr-defined]
            raise _SupersededError
        if self.found == 0 and (self.waiting or news.get("state") is DiscoveryState.DONE):
            _forget(self.connection_id)
        _insert(self.connection_id, self.found, self.waiting)
        self.found, self.waiting = found, []

    def _end(self, state: DiscoveryState, error: dict[str, Any] | None) -> None:
        with database.unit_of_work():
            self._flush({"state": state, "finished_at": utcnow(), "error": error})
            events.record(
                "connection.discovered",
                project_id=self.project_id,
                subject_id=self.connection_id,
                payload={"state": state, "found": self.found},
            )


def _forget(connection_id: uuid.UUID) -> None:
    db.session.execute(sa.delete(DiscoveredStream).where(DiscoveredStream.connection_id == connection_id))


def _insert(connection_id: uuid.UUID, position: int, documents: list[dict[str, Any]]) -> None:
    rows = [
        {
            "connection_id": connection_id,
            "position": position + at,
            "namespace": document["namespace"],
            "name": document["name"],
            "document": document,
        }
        for at, document in enumerate(documents)
    ]
    if rows:
        db.session.execute(sa.insert(DiscoveredStream), rows)


def _start_waiting(session: Session) -> None:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    for search in session.info.pop("discoveries", []):
        threading.Thread(target=search.run, args=(app,), name="discovery", daemon=True).start()


database.after_commit.append(_start_waiting)
