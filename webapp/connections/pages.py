"""The pages of sources and destinations: two lists, a form drawn from the connector's schema, a page for each."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from webapp.connections import checks, discovery
from webapp.connections import operations as connections
from webapp.connections.checks import CheckResult
from webapp.connections.configs import check_config, installed_spec
from webapp.connections.models import Connection, ConnectionRole
from webapp.connections.spec_form import draw_fields, fold, name_errors, read_fields
from webapp.connections.uses import jobs_using
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import ConnectorSpec
from webapp.errors import Conflict, Invalid, NotFound
from webapp.guard import actor

door = Blueprint("connections", __name__, url_prefix="/connections")
PAGE = 50
ROLES = {"sources": ConnectionRole.SOURCE, "destinations": ConnectionRole.DESTINATION}


def wire(app: Flask) -> None:
    """Attach the pages."""
    app.register_blueprint(door)


@dataclass(frozen=True)
class ConnectorChoice:
    """A connector that may be chosen: its name, the word people know it by, its fields."""

    name: str
    title: str
    spec: type[ConnectorSpec]


@dataclass(frozen=True)
class ConnectionLine:
    """One connection of a list."""

    id: uuid.UUID
    name: str
    title: str
    version: str
    status: str
    last_test_at: datetime | None
    jobs: int


@door.get("")
def index() -> ResponseReturnValue:
    """The sources."""
    return redirect(url_for("connections.show_list", roles="sources"), 303)


@door.get("/<any(sources, destinations):roles>")
def show_list(roles: str) -> str:
    """All sources, or all destinations."""
    found = connections.list_connections(actor(), ROLES[roles])
    users = jobs_using(found)
    lines = [
        ConnectionLine(
            one.id, one.name, title_of(one), one.version, one.status.value, one.last_test_at, len(users[one.id])
        )
        for one in found
    ]
    return render_template("connections/index.html", role=ROLES[roles].value, lines=lines)


@door.route("/<any(sources, destinations):roles>/new", methods=["GET", "POST"])
def new(roles: str) -> ResponseReturnValue:
    """The form of a new connection of the type that the address names."""
    types = choices(ROLES[roles])
    wanted = request.args.get("type", "").strip().lower()
    chosen = next((one for one in types if one.name == wanted), types[0])
    return _edit(ROLES[roles], chosen, None, types)


@door.get("/<uuid:connection_id>")
def show(connection_id: uuid.UUID) -> str:
    """One connection: its test, what it holds, who uses it."""
    connection = connections.get_connection(actor(), connection_id)
    return render_template(
        "connections/show.html",
        connection=connection,
        title=title_of(connection),
        facts=list(_flat(connections.shown_config(connection))),
        jobs=jobs_using([connection])[connection.id],
        **_streams_part(connection),
    )


@door.post("/<uuid:connection_id>/test")
def test(connection_id: uuid.UUID) -> ResponseReturnValue:
    """Test the connection step by step; leads back to its page, which shows the steps."""
    result = checks.test_connection(actor(), connection_id)
    if "HX-Request" in request.headers:
        connection = connections.get_connection(actor(), connection_id)
        return render_template("connections/_test.html", connection=connection)
    flash(result.message, "success" if result.ok else "error")
    return redirect(url_for("connections.show", connection_id=connection_id), 303)


@door.post("/<uuid:connection_id>/discover")
def discover(connection_id: uuid.UUID) -> ResponseReturnValue:
    """Look in the background for what the source holds, or a part of it by a pattern; its page shows what is found."""
    discovery.start_discovery(actor(), connection_id, pattern=request.form.get("pattern", "").strip()[:200])
    return redirect(url_for("connections.show", connection_id=connection_id), 303)


@door.get("/<uuid:connection_id>/rows")
def rows(connection_id: uuid.UUID) -> str:
    """The first rows of one stream of a source, as they are now; to htmx the rows alone."""
    connection = connections.get_connection(actor(), connection_id)
    namespace, name = request.args.get("namespace", ""), request.args.get("name", "")
    found: dict[str, Any] = {}
    problem = ""
    try:
        found = checks.preview_rows(actor(), connection_id, namespace=namespace, name=name)
    except Invalid as error:
        problem = error.message
    return render_template(
        "connections/_rows.html" if "HX-Request" in request.headers else "connections/rows.html",
        connection=connection,
        namespace=namespace,
        name=name,
        columns=[(column["name"], column["type"]) for column in found.get("columns", ())],
        rows=found.get("rows", ()),
        problem=problem,
    )


@door.get("/<uuid:connection_id>/streams")
def streams(connection_id: uuid.UUID) -> str:
    """What a source was found to hold, as a part of its page."""
    connection = connections.get_connection(actor(), connection_id, role=ConnectionRole.SOURCE)
    return render_template("connections/_streams.html", **_streams_part(connection))


@door.route("/<uuid:connection_id>/edit", methods=["GET", "POST"])
def edit(connection_id: uuid.UUID) -> ResponseReturnValue:
    """The form of a connection as it is."""
    connection = connections.get_connection(actor(), connection_id)
    spec = installed_spec(connection.role, connection.type)
    if spec is None:
        raise NotFound(f"The connector {connection.type!r} is not installed on this server.")
    return _edit(connection.role, ConnectorChoice(connection.type, title_of(connection), spec), connection, [])


@door.route("/<uuid:connection_id>/delete", methods=["GET", "POST"])
def delete(connection_id: uuid.UUID) -> ResponseReturnValue:
    """Ask whether the connection shall go, by its name when jobs use it; then put it away."""
    connection = connections.get_connection(actor(), connection_id)
    users = jobs_using([connection])[connection.id]
    problem = ""
    if request.method == "POST":
        if not users or request.form.get("name", "").strip() == connection.name:
            role = connection.role
            flash(f"The {role} {connections.delete_connection(actor(), connection.id)} is deleted.", "success")
            return redirect(url_for("connections.show_list", roles=f"{role}s"), 303)
        problem = "This is not its name."
    page = render_template("connections/delete.html", connection=connection, jobs=users, problem=problem)
    return page, 422 if problem else 200


def choices(role: ConnectionRole) -> list[ConnectorChoice]:
    """The connectors that this server runs, in their order."""
    names = registry.source_names() if role is ConnectionRole.SOURCE else registry.destination_names()
    found = ((name, installed_spec(role, name)) for name in names)
    return [ConnectorChoice(name, registry.connector_class(role, name).title, spec) for name, spec in found if spec]


def title_of(connection: Connection) -> str:
    """What people call a connection's type."""
    try:
        return registry.connector_class(connection.role, connection.type).title
    except (registry.UnknownConnector, ModuleNotFoundError):
        return connection.type


def _edit(
    role: ConnectionRole, chosen: ConnectorChoice, connection: Connection | None, types: list[ConnectorChoice]
) -> ResponseReturnValue:
    schema = chosen.spec.model_json_schema()
    if request.method == "GET":
        config = connections.shown_config(connection) if connection else {}
        return _form(role, chosen, connection, types, schema, config, {})
    config, errors = read_fields(schema, request.form)
    if request.form.get("do", "").startswith(("add ", "remove ")):
        return _form(role, chosen, connection, types, schema, config, {})
    problem = "" if not errors else "Not saved yet: something below needs a look."
    if not errors:
        try:
            if request.form.get("do") == "test":
                tested = _try(role, chosen, connection, config)
                if connection is not None:  # no transaction was open while the system was asked
                    connection = connections.get_connection(actor(), connection.id)
                return _form(role, chosen, connection, types, schema, config, errors, tested=tested)
            saved = _save(role, chosen, connection, config)
            return redirect(url_for("connections.show", connection_id=saved, fresh=1), 303)
        except (Invalid, Conflict) as error:
            problem = error.message
            errors = name_errors(error.details.get("errors", ()))
            field = error.field if isinstance(error, Invalid) else error.details.get("field")
            if field and not errors:
                errors = {field: [error.message]}
            if field == "name":
                errors |= _mistakes_in(role, chosen, config)
                problem = "Not saved yet: something below needs a look."
    return _form(role, chosen, connection, types, schema, config, errors, problem), 422


def _mistakes_in(role: ConnectionRole, chosen: ConnectorChoice, config: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is wrong with the configuration, told together with a name that was refused before it was looked at."""
    try:
        check_config(role, chosen.name, config)
    except Invalid as error:
        return name_errors(error.details.get("errors", ()))
    return {}


def _try(
    role: ConnectionRole, chosen: ConnectorChoice, connection: Connection | None, config: Mapping[str, Any]
) -> CheckResult:
    """Test what stands in the form, saved or not."""
    project_id = connection.project_id if connection else actor().default_project_id
    return checks.test_draft(actor(), role, chosen.name, config, project_id=project_id)


def _save(
    role: ConnectionRole, chosen: ConnectorChoice, connection: Connection | None, config: Mapping[str, Any]
) -> uuid.UUID:
    draft = connections.ConnectionDraft(name=request.form.get("name", ""), type=chosen.name, config=config)
    if connection is None:
        return connections.create_connection(actor(), role, draft).id
    return connections.update_connection(actor(), connection.id, draft).id


def _form(
    role: ConnectionRole,
    chosen: ConnectorChoice,
    connection: Connection | None,
    types: list[ConnectorChoice],
    schema: Mapping[str, Any],
    config: Mapping[str, Any],
    errors: Mapping[str, list[str]],
    problem: str = "",
    tested: CheckResult | None = None,
) -> str:
    fields, more = fold(draw_fields(schema, config, errors))
    return render_template(
        "connections/form.html",
        role=role.value,
        chosen=chosen,
        connection=connection,
        types=types,
        fields=fields,
        more=more,
        tested=tested,
        errors=errors,
        problem=problem,
        name=request.form.get("name", connection.name if connection else ""),
        used_by=len(jobs_using([connection])[connection.id]) if connection else 0,
    )


def _flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name} ")
        elif value not in (None, "", [], {}):
            yield f"{path}{name}".replace("_", " "), value


def _streams_part(connection: Connection) -> dict[str, Any]:
    if connection.role is not ConnectionRole.SOURCE:
        return {}
    q, namespace = request.args.get("q", "")[:200], request.args.get("namespace", "")
    page = max(1, min(request.args.get("page", 1, type=int), 100_000))
    progress = discovery.discovery_of(actor(), connection.id)  # first: what one that is done has found is all there
    found = discovery.page_of_streams(
        actor(), connection.id, search=q, namespace=namespace or None, offset=(page - 1) * PAGE, limit=PAGE
    )
    return {
        "base": f"/connections/{connection.id}",
        "discovery": progress,
        "namespaces": discovery.namespaces_of(actor(), connection.id),
        "streams": found.streams,
        "total": found.total,
        "pages": max(1, -(-found.total // PAGE)),
        "has_more": found.total > page * PAGE,
        "q": q,
        "namespace": namespace,
        "page": page,
    }
