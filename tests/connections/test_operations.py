"""Sources and destinations: who may do what, names, secrets, and what is told to whom."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.connections.mission import SERVER, make_source
from tests.support.people import Cast, Person
from webapp import db as database
from webapp.connections import configs
from webapp.connections import operations as connections
from webapp.connections.models import Connection, ConnectionRole, ConnectionStatus
from webapp.connections.operations import ConnectionDraft
from webapp.engine.connectors import registry
from webapp.errors import Conflict, Invalid, NotAllowed, NotFound
from webapp.events import Event
from webapp.redaction import is_secret
from webapp.secrets import MASK

Unit = Callable[[], AbstractContextManager[Any]]


def test_members_see_them_by_number_and_by_id_and_strangers_do_not(work: Unit, look: Unit, people: Cast) -> None:
    with work():
        made = make_source(people.bob)
        number, key = made.number, made.id
    with look():
        for person in (people.alice, people.bob, people.dave, people.rita):
            assert connections.get_connection(person.actor, number).id == key
            assert connections.get_connection(person.actor, key).number == number
            assert len(connections.list_connections(person.actor, ConnectionRole.SOURCE)) == 1
        with pytest.raises(NotFound):
            connections.get_connection(people.charlie.actor, number)
        assert connections.list_connections(people.charlie.actor, ConnectionRole.SOURCE) == []
        with pytest.raises(NotFound):
            connections.get_connection(people.bob.actor, number, role=ConnectionRole.DESTINATION)


def test_a_viewer_may_not_write(work: Unit, people: Cast) -> None:
    with work():
        key = make_source(people.bob).id
        for attempt in (
            lambda: make_source(people.rita, name="other"),
            lambda: connections.update_connection(people.rita.actor, key, ConnectionDraft(name="x")),
            lambda: connections.delete_connection(people.rita.actor, key),
        ):
            with pytest.raises(NotAllowed):
                attempt()


def test_each_change_is_announced_and_what_changes_nothing_is_not(work: Unit, look: Unit, bob: Person) -> None:
    with work():
        key = make_source(bob).id
    with work():
        connections.update_connection(bob.actor, key, ConnectionDraft("shop", "sqlite", None, {"path": "shop.db"}))
    with work():
        connections.update_connection(bob.actor, key, ConnectionDraft(name="store"))
    with work():
        assert connections.delete_connection(bob.actor, key) == "store"
    with look() as session:
        query = sa.select(Event.kind).where(Event.subject_id == key).order_by(Event.id)
        assert list(session.scalars(query)) == ["connection.created", "connection.changed", "connection.deleted"]
        assert session.scalar(sa.select(Connection.deleted_at)) is not None


def test_two_who_take_a_name_at_once_do_not_both_get_it(app: Flask, look: Unit, bob: Person) -> None:
    barrier, outcomes = threading.Barrier(4), []

    def take() -> None:
        with app.app_context():
            barrier.wait()
            try:
                with database.unit_of_work():
                    make_source(bob)
                outcomes.append("made")
            except Conflict:
                outcomes.append("taken")

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "taken", "taken", "taken"]


def test_a_new_configuration_has_not_been_tested(work: Unit, bob: Person) -> None:
    with work():
        key = (source := make_source(bob)).id
        source.status, source.last_test_ok = ConnectionStatus.WORKS, True
    with work():
        changed = connections.update_connection(bob.actor, key, ConnectionDraft(name="other"))
        assert changed.status is ConnectionStatus.WORKS
        changed = connections.update_connection(bob.actor, key, ConnectionDraft(config={"path": "b.db"}))
        assert (changed.status, changed.last_test_ok) == (ConnectionStatus.UNTESTED, None)


def test_putting_makes_or_changes_by_name_but_never_turns_one_type_into_another(work: Unit, bob: Person) -> None:
    with work():
        project, draft = bob.actor.default_project_id, ConnectionDraft("shop", "sqlite", "v1.0.0", {"path": "a.db"})
        first = connections.put_connection(bob.actor, ConnectionRole.SOURCE, draft, project_id=project)
        again = replace(draft, config={"path": "b.db"})
        second = connections.put_connection(bob.actor, ConnectionRole.SOURCE, again, project_id=project)
        assert first.id == second.id
        assert second.config == {"path": "b.db"}
        with pytest.raises(Conflict, match="type sqlite"):
            other = ConnectionDraft("shop", "mysql", "v1.0.0", SERVER)
            connections.put_connection(bob.actor, ConnectionRole.SOURCE, other, project_id=project)


@pytest.mark.parametrize("change", [{"host": "localhost"}, {"port": 2}])
def test_secrets_stay_with_their_endpoint(work: Unit, bob: Person, change: dict[str, Any]) -> None:
    with work():
        key = make_source(bob, type_="mysql", config=SERVER).id
        with pytest.raises(Invalid, match="Type the secret again") as refusal:
            moved = ConnectionDraft(config={**SERVER, "password": MASK, **change})
            connections.update_connection(bob.actor, key, moved)
        assert refusal.value.field == "config.password"
        kept = ConnectionDraft(config={**SERVER, "password": MASK, "username": "other"})
        assert connections.update_connection(bob.actor, key, kept).config["password"] == SERVER["password"]


def test_a_draft_gets_the_secret_of_the_connection_that_is_most_like_it(work: Unit, bob: Person) -> None:
    with work():
        for name in ("a", "b", "c"):
            config = {**SERVER, "username": name, "password": f"secret of {name}"}
            make_source(bob, name=name, type_="mysql", config=config)
        sent = {**SERVER, "username": "b", "password": MASK}
        project = bob.actor.default_project_id
        found = connections.draft_config(bob.actor, ConnectionRole.SOURCE, "mysql", sent, project_id=project)
        assert found["password"] == "secret of b"
        elsewhere = {**sent, "host": "elsewhere.example"}
        with pytest.raises(Invalid, match="secret"):
            connections.draft_config(bob.actor, ConnectionRole.SOURCE, "mysql", elsewhere, project_id=project)


def test_secrets_inside_of_parts_and_lists_are_found(work: Unit) -> None:
    config = {"a": [{"password": MASK}], "b": {"token": MASK, "plain": MASK}}
    assert configs.masked_fields(config) == ["config.a.0.password", "config.b.token"]


def test_a_wrong_value_is_not_repeated_because_it_may_be_a_secret(work: Unit, bob: Person) -> None:
    with work(), pytest.raises(Invalid) as refusal:
        make_source(bob, type_="mysql", config={**SERVER, "port": "hunter2hunter2"})
    assert refusal.value.field == "config.port"
    assert "hunter2" not in str(refusal.value.message)
    assert "hunter2" not in str(refusal.value.details)


@pytest.mark.parametrize("role", list(ConnectionRole))
def test_every_secret_of_every_connector_has_a_name_that_is_masked(role: ConnectionRole) -> None:
    names = registry.source_names() if role is ConnectionRole.SOURCE else registry.destination_names()
    specs = [spec for name in names if (spec := configs.installed_spec(role, name))]
    assert specs
    for spec in specs:
        assert [name for name in secret_fields(spec.model_json_schema()) if not is_secret(name)] == [], spec


def secret_fields(schema: Any) -> list[str]:
    """The names of the fields in a schema that hold a secret, at any depth."""
    if isinstance(schema, list):
        return [name for item in schema for name in secret_fields(item)]
    if not isinstance(schema, dict):
        return []
    own = [name for name, field in schema.get("properties", {}).items() if "'format': 'password'" in str(field)]
    return own + [name for item in schema.values() for name in secret_fields(item)]
