"""Everything that can be asked of or done to sources and destinations, but tests and discovery, which take time."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from webapp import events
from webapp.accounts.access import Actor, Scope
from webapp.accounts.models import User
from webapp.config import Role
from webapp.connections.configs import check_config, endpoint, masked_fields, restore_secrets
from webapp.connections.models import Connection, ConnectionRole, ConnectionStatus
from webapp.connections.uses import connection_changed, connection_created, connection_deleted, jobs_using
from webapp.dates import utcnow
from webapp.db import db
from webapp.engine.connectors.registry import VERSION
from webapp.errors import Conflict, Invalid, NotFound
from webapp.secrets import mask

MAXIMUM_WORD = 64


@dataclass(frozen=True)
class ConnectionDraft:
    """A connection as somebody wants it; in a change, what is None stays as it is."""

    name: str | None = None
    type: str | None = None
    version: str | None = None
    config: Mapping[str, Any] | None = None


def connections_visible_to(actor: Actor) -> sa.Select[Connection]:
    """The living connections of the actor's projects."""
    return sa.select(Connection).where(Connection.project_id.in_(actor.project_ids), Connection.deleted_at.is_(None))


def list_connections(
    actor: Actor, role: ConnectionRole, *, project_id: uuid.UUID | None = None, type_: str | None = None
) -> list[Connection]:
    """The sources or destinations that the actor may see, newest first; of one project, of one type, when asked."""
    query = connections_visible_to(actor).where(Connection.role == role)
    if project_id is not None:
        query = query.where(Connection.project_id == project_id)
    if type_ is not None:
        query = query.where(Connection.type == type_)
    return list(db.session.scalars(query.order_by(Connection.number.desc())))


def get_connection(
    actor: Actor,
    key: int | uuid.UUID,
    *,
    role: ConnectionRole | None = None,
    project_id: uuid.UUID | None = None,
) -> Connection:
    """The connection with this number or id. Raises NotFound, also for a stranger, another role, another project."""
    return _found(db.session.scalar(_query(actor, key, role, project_id)), role)


def find_by_name(actor: Actor, role: ConnectionRole, name: str, *, project_id: uuid.UUID) -> Connection | None:
    """The living connection of this name, None when there is none."""
    query = connections_visible_to(actor).where(Connection.project_id == project_id, Connection.role == role)
    return db.session.scalar(query.where(Connection.name == name.strip()))


def create_connection(
    actor: Actor, role: ConnectionRole, draft: ConnectionDraft, *, project_id: uuid.UUID | None = None
) -> Connection:
    """Define a source or a destination. Raises Invalid that names the field, Conflict when the name is taken."""
    project = actor.default_project_id if project_id is None else project_id
    actor.require(Role.OPERATOR, project, Scope.JOBS_WRITE, what="Project")
    for field in ("name", "type", "config"):
        if getattr(draft, field) is None:
            raise Invalid(f"A {role} needs a {field}.", field=field)
    connection = Connection(
        project_id=project,
        role=role,
        type=check_word(draft.type or "", field="type").lower(),
        version=check_word(draft.version or VERSION, field="version"),
        name=_check_name(draft.name or ""),
        created_by=actor.user_id,
        updated_by=actor.user_id,
        status=ConnectionStatus.UNTESTED,
    )
    connection.config = restore_secrets(role, connection.type, draft.config or {}, None)
    check_config(role, connection.type, connection.config)
    _refuse_taken(connection)
    db.session.add(connection)
    _flush(connection)
    events.record("connection.created", **_subject(connection))
    connection_created.tell(connection)
    return connection


def update_connection(
    actor: Actor,
    key: int | uuid.UUID,
    draft: ConnectionDraft,
    *,
    role: ConnectionRole | None = None,
    project_id: uuid.UUID | None = None,
) -> Connection:
    """Change what the draft names; masks that come back keep the stored secrets, unless the address has changed.

    Raises Invalid, NotFound, Conflict (the name is taken, or the type of one in use would change).
    """
    connection = _find_to_change(actor, key, role, project_id)
    type_ = connection.type if draft.type is None else check_word(draft.type, field="type").lower()
    if type_ != connection.type and jobs_using([connection])[connection.id]:
        raise Conflict(f"Jobs use this {connection.role}: its type stays {connection.type}.", code="IN_USE")
    if draft.config is not None or type_ != connection.type:
        _apply_config(connection, type_, connection.config if draft.config is None else draft.config)
    if draft.version is not None:
        connection.version = check_word(draft.version or VERSION, field="version")
    if draft.name is not None:
        connection.name = _check_name(draft.name)
        _refuse_taken(connection)
    if db.session.is_modified(connection):
        connection.updated_by, connection.updated_at = actor.user_id, utcnow()
        _flush(connection)
        events.record("connection.changed", **_subject(connection))
        connection_changed.tell(connection)
    return connection


def _apply_config(connection: Connection, type_: str, sent: Mapping[str, Any]) -> None:
    old = connection.config if type_ == connection.type else None
    config = restore_secrets(connection.role, type_, sent, old)
    check_config(connection.role, type_, config)
    if (type_, config) != (connection.type, connection.config):
        connection.type, connection.config = type_, config
        connection.status = ConnectionStatus.UNTESTED
        connection.last_test_at = connection.last_test_ok = connection.last_test_steps = None


def put_connection(actor: Actor, role: ConnectionRole, draft: ConnectionDraft, *, project_id: uuid.UUID) -> Connection:
    """The connection of this name and type, changed to this draft, or made. Raises what creating and changing raise."""
    found = find_by_name(actor, role, draft.name or "", project_id=project_id)
    if found is None:
        return create_connection(actor, role, draft, project_id=project_id)
    if draft.type is not None and draft.type.strip().lower() != found.type:
        raise Conflict(f"There is a {role} {found.name!r} of the type {found.type}.", code="NAME_TAKEN", field="name")
    return update_connection(actor, found.id, draft, project_id=project_id)


def delete_connection(
    actor: Actor,
    key: int | uuid.UUID,
    *,
    role: ConnectionRole | None = None,
    project_id: uuid.UUID | None = None,
) -> str:
    """Put a connection away; its name is free again, and the jobs that use it are switched off. Returns its name."""
    connection = _find_to_change(actor, key, role, project_id)
    connection.deleted_at = utcnow()
    connection.updated_by = actor.user_id
    events.record("connection.deleted", **_subject(connection))
    connection_deleted.tell(connection)
    return connection.name


def draft_config(
    actor: Actor, role: ConnectionRole, type_: str, config: Mapping[str, Any], *, project_id: uuid.UUID
) -> dict[str, Any]:
    """A configuration that somebody tries out, checked, its masks replaced by the secrets stored for the same endpoint.

    Forms send the masks of the connection that they edit, without saying which one it is. Raises Invalid.
    """
    actor.require(Role.OPERATOR, project_id, Scope.JOBS_WRITE, what="Project")
    plain = check_word(type_, field="type").lower()
    old = _behind_masks(actor, role, plain, config, project_id) if masked_fields(config) else None
    restored = restore_secrets(role, plain, config, old)
    check_config(role, plain, restored)
    return restored


def _behind_masks(
    actor: Actor, role: ConnectionRole, type_: str, config: Mapping[str, Any], project_id: uuid.UUID
) -> dict[str, Any] | None:
    known = [item.config for item in list_connections(actor, role, project_id=project_id, type_=type_)]
    there = endpoint(role, type_, config)
    alike = [item for item in known if endpoint(role, type_, item) == there]
    return max(alike, key=lambda item: _likeness(mask(item), config), default=None)


def _likeness(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(other.get(key) == value for key, value in one.items())


def usernames(connections: Iterable[Connection]) -> dict[uuid.UUID | None, str]:
    """The names of the people who made or changed these connections, by user id."""
    ids = {user_id for item in connections for user_id in (item.created_by, item.updated_by) if user_id}
    rows = db.session.execute(sa.select(User.id, User.username).where(User.id.in_(ids))) if ids else ()
    return {None: "", **{row.id: row.username for row in rows}}


def shown_config(connection: Connection) -> dict[str, Any]:
    """The configuration as it may be shown: secrets masked."""
    shown: dict[str, Any] = mask(connection.config)
    return shown


def check_word(text: str, *, field: str) -> str:
    """A type or a version, trimmed. Raises Invalid."""
    word = text.strip()
    if not word or len(word) > MAXIMUM_WORD or not word.isprintable():
        raise Invalid(f"{field}: 1 to {MAXIMUM_WORD} printable characters.", field=field, value=text[:MAXIMUM_WORD])
    return word


def _check_name(name: str) -> str:
    text = name.strip()
    if not text or len(text) > 255 or not text.isprintable():
        raise Invalid("name: 1 to 255 printable characters.", field="name", value=name[:255])
    return text


def _query(
    actor: Actor, key: int | uuid.UUID, role: ConnectionRole | None, project_id: uuid.UUID | None
) -> sa.Select[Connection]:
    named = Connection.number == key if isinstance(key, int) else Connection.id == key
    query = connections_visible_to(actor).where(named)
    if role is not None:
        query = query.where(Connection.role == role)
    return query if project_id is None else query.where(Connection.project_id == project_id)


def _found(connection: Connection | None, role: ConnectionRole | None) -> Connection:
    if connection is None:
        raise NotFound(f"{(role or 'connection').capitalize()} not found")
    return connection


def _find_to_change(
    actor: Actor, key: int | uuid.UUID, role: ConnectionRole | None, project_id: uuid.UUID | None
) -> Connection:
    query = _query(actor, key, role, project_id).with_for_update().execution_options(populate_existing=True)
    connection = _found(db.session.scalar(query), role)
    actor.require(Role.OPERATOR, connection.project_id, Scope.JOBS_WRITE, what="Connection")
    return connection


def _refuse_taken(connection: Connection) -> None:
    query = sa.select(Connection.id).where(
        Connection.project_id == connection.project_id,
        Connection.role == connection.role,
        Connection.name == connection.name,
        Connection.deleted_at.is_(None),
    )
    with db.session.no_autoflush:
        taken = db.session.scalar(query)
    if taken is not None and taken != connection.id:
        raise _taken(connection)


def _flush(connection: Connection) -> None:
    """Write it now: listeners need its id. Somebody who took the name in this instant is noticed by the database."""
    try:
        db.session.flush()
    except IntegrityError as error:
        raise _taken(connection) from error


def _taken(connection: Connection) -> Conflict:
    message = f"There is a {connection.role} called {connection.name!r} already."
    return Conflict(message, code="NAME_TAKEN", field="name")


def _subject(connection: Connection) -> dict[str, Any]:
    return {
        "project_id": connection.project_id,
        "user_id": connection.created_by,
        "subject_id": connection.id,
        "payload": {"name": connection.name, "role": connection.role, "type": connection.type},
    }
