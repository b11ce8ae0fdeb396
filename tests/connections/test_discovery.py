"""Discovery: in the background, kept as it goes, in pages, and honest about one that died."""

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.connections.mission import SERVER, make_shop, make_source
from tests.support.people import Person
from webapp.connections import discovery, probes
from webapp.connections.discovery import Progress
from webapp.connections.models import Discovery, DiscoveryState
from webapp.dates import utcnow
from webapp.db import db
from webapp.errors import Invalid, NotAllowed, NotFound

Unit = Callable[[], AbstractContextManager[Any]]


def wait(look: Unit, person: Person, key: uuid.UUID) -> Progress:
    """How the discovery ended."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with look():
            found = discovery.discovery_of(person.actor, key)
        if found is not None and found.state is not DiscoveryState.RUNNING:
            return found
        time.sleep(0.05)
    raise AssertionError("the discovery did not end")


def test_streams_are_found_in_the_background_and_shown_in_pages(
    work: Unit, look: Unit, home: Path, bob: Person, rita: Person
) -> None:
    make_shop(home, tables=1200)
    with work():
        key = make_source(bob).id
    with look():
        assert discovery.discovery_of(rita.actor, key) is None
    with work():
        begun = discovery.start_discovery(bob.actor, key)
        assert (begun.state, begun.found) == (DiscoveryState.RUNNING, 0)
    ended = wait(look, bob, key)
    assert (ended.state, ended.found, ended.error) == (DiscoveryState.DONE, 1200, None)
    with look():
        page = discovery.page_of_streams(rita.actor, key, offset=10, limit=3)
        assert [stream.name for stream in page.streams] == ["sale_00010", "sale_00011", "sale_00012"]
        assert page.total == 1200
        narrowed = discovery.page_of_streams(rita.actor, key, search="MAIN.sale_0119")
        assert narrowed.total == 10
        assert discovery.page_of_streams(rita.actor, key, search="%").total == 0
        assert discovery.page_of_streams(rita.actor, key, search="\0", namespace="\0main").total == 1200
        assert discovery.page_of_streams(rita.actor, key, namespace="nosuch").total == 0
        assert discovery.namespaces_of(rita.actor, key) == {"main": 1200}
        few = {("main", "sale_00000"), ("elsewhere", "sale_00001"), ("main", "nosuch")}
        assert discovery.streams_of(key, few).keys() == {("main", "sale_00000")}
        assert discovery.streams_of(key, few)["main", "sale_00000"].primary_key == ("id",)
        many = {("main", f"sale_{number:05}") for number in range(1, 3000)}
        assert len(discovery.streams_of(key, many)) == 1199


def test_a_second_start_joins_the_first(work: Unit, look: Unit, home: Path, bob: Person) -> None:
    make_shop(home)
    with work():
        key = make_source(bob).id
        first = discovery.start_discovery(bob.actor, key)
        second = discovery.start_discovery(bob.actor, key)
        assert second.started_at == first.started_at
        assert len(db.session.info["discoveries"]) == 1
    assert wait(look, bob, key).found == 1


def test_what_was_found_stands_when_a_later_look_fails(work: Unit, look: Unit, home: Path, bob: Person) -> None:
    path = make_shop(home)
    with work():
        key = make_source(bob).id
        discovery.start_discovery(bob.actor, key)
    wait(look, bob, key)
    (home / "data" / path).unlink()
    with work():
        discovery.start_discovery(bob.actor, key)
    ended = wait(look, bob, key)
    assert ended.state is DiscoveryState.FAILED
    assert ended.error is not None
    assert "shop.db" in ended.error["message"]
    assert ended.error["origin"] == "source"
    with look():
        assert discovery.page_of_streams(bob.actor, key).total == 1


def test_what_is_gone_at_the_source_is_gone_from_the_list(work: Unit, look: Unit, home: Path, bob: Person) -> None:
    path = make_shop(home, tables=5)
    with work():
        key = make_source(bob).id
        discovery.start_discovery(bob.actor, key)
    wait(look, bob, key)
    (home / "data" / path).unlink()
    make_shop(home, tables=2)
    with work():
        discovery.start_discovery(bob.actor, key)
    assert wait(look, bob, key).found == 2
    with look():
        assert discovery.page_of_streams(bob.actor, key).total == 2


def test_one_whose_process_died_is_told_as_interrupted_and_can_be_started_again(
    work: Unit, look: Unit, home: Path, bob: Person
) -> None:
    make_shop(home)
    with work() as session:
        key = make_source(bob).id
        discovery.start_discovery(bob.actor, key)
        del session.info["discoveries"]  # as if the web process had died at once
    with work() as session:
        session.execute(sa.update(Discovery).values(seen_at=utcnow() - timedelta(seconds=60)))
    with look():
        found = discovery.discovery_of(bob.actor, key)
        assert found is not None
        assert found.state is DiscoveryState.INTERRUPTED
    with work():
        discovery.start_discovery(bob.actor, key)
    assert wait(look, bob, key).state is DiscoveryState.DONE


def test_an_older_look_writes_nothing_into_a_newer_one(work: Unit, look: Unit, home: Path, bob: Person) -> None:
    make_shop(home)
    with work() as session:
        key = make_source(bob).id
        discovery.start_discovery(bob.actor, key)
        (older,) = session.info.pop("discoveries")
        session.get(Discovery, key).attempt = uuid.uuid4()
    with work() as session, pytest.raises(discovery._SupersededError):
        older.waiting = [{"namespace": "main", "name": "x"}]
        older._flush({})
    with look():
        assert discovery.page_of_streams(bob.actor, key).total == 0


def test_a_long_silence_of_the_source_is_not_taken_for_death(
    work: Unit, bob: Person, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats come also while the source says nothing."""
    beats = []
    monkeypatch.setattr(probes, "ask", lambda *_, **__: (item for item in [{}, {}, {"done": {}}]))
    monkeypatch.setattr(discovery, "FLUSH_SECONDS", -1.0)
    with work() as session:
        key = make_source(bob).id
        discovery.start_discovery(bob.actor, key)
        (search,) = session.info.pop("discoveries")
    monkeypatch.setattr(search, "_flush", beats.append)
    with work():
        search._take(probes.ask(search.asked, seconds=1))
    assert len(beats) == 3


def test_viewers_look_but_do_not_start(work: Unit, bob: Person, rita: Person, charlie: Person) -> None:
    with work():
        key = make_source(bob).id
        with pytest.raises(NotAllowed):
            discovery.start_discovery(rita.actor, key)
        with pytest.raises(NotFound):
            discovery.page_of_streams(charlie.actor, key)


def test_a_draft_is_looked_through_while_one_waits(work: Unit, home: Path, bob: Person) -> None:
    make_shop(home, tables=3)
    project = bob.actor.default_project_id
    with work():
        found = discovery.discover_now(bob.actor, type_="sqlite", config={"path": "shop.db"}, project_id=project)
        assert [stream.label for stream in found] == ["main.sale_00000", "main.sale_00001", "main.sale_00002"]
        with pytest.raises(Invalid, match=r"127\.0\.0\.1"):
            discovery.discover_now(bob.actor, type_="mysql", config=SERVER, project_id=project)
