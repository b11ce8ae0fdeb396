"""Sources and destinations of a file, brought in through their room's operations."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from webapp.connections import operations as connections
from webapp.connections.configs import endpoint
from webapp.connections.models import Connection, ConnectionRole
from webapp.connections.operations import ConnectionDraft
from webapp.portability.content import describe_connection
from webapp.portability.document import ConnectionEntry, place
from webapp.portability.left_out import fill_in, list_needed
from webapp.portability.plan import Import, Line, Verb, name_changes, same


def bring_in(under_way: Import, role: ConnectionRole, entry: ConnectionEntry, at: int) -> None:
    """Make or change the source or destination of this name."""
    loc = (f"{role.value}s", at)
    under_way.attempt(loc, entry.name, {}, lambda: _bring_in(under_way, role, entry, place(loc)))


def _bring_in(under_way: Import, role: ConnectionRole, entry: ConnectionEntry, where: str) -> None:
    found = connections.find_by_name(under_way.actor, role, entry.name, project_id=under_way.project_id)
    before = describe_connection(found) if found else {}
    saved = _save(under_way, role, entry, found)
    changes = name_changes(before, describe_connection(saved)) if found else ()
    verb = Verb.CREATED if not found else Verb.CHANGED if changes else Verb.UNCHANGED
    needed = tuple(list_needed(saved.config, f"{where}.config"))
    under_way.add(Line(role.value, saved.name, where, verb, changes, needed))


def _save(under_way: Import, role: ConnectionRole, entry: ConnectionEntry, found: Connection | None) -> Connection:
    given = {**entry.given, **_config(role, entry, found)}
    if found is None:
        draft = ConnectionDraft(**given)
        return connections.create_connection(under_way.actor, role, draft, project_id=under_way.project_id)
    before = describe_connection(found)
    differing = {name: value for name, value in given.items() if not same(before[name], value)}
    if not differing:
        return found
    return connections.update_connection(under_way.actor, found.id, ConnectionDraft(**differing))


def _config(role: ConnectionRole, entry: ConnectionEntry, found: Connection | None) -> dict[str, Any]:
    """The configuration with the secrets that are stored for the same place, if the file has one."""
    if entry.config is None:
        return {}
    type_ = (entry.type or (found.type if found else "")).strip().lower()
    stored: Mapping[str, Any] | None = found.config if found and found.type == type_ else None
    return {"config": fill_in(entry.config, stored, leads_to=partial(endpoint, role, type_))}
