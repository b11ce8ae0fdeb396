"""What open pages are told of the fleet: each fragment stands alone, and is the same for all who look."""

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, render_template

from tests import factories
from tests.support.people import Person
from webapp import events
from webapp.dates import utcnow
from webapp.events import Event
from webapp.rockets import board, news
from webapp.rockets import operations as rockets
from webapp.rockets.board import Filter
from webapp.rockets.states import Phase, RocketState, state_of
from webapp.runs.states import RunState


def event_of(kind: str, subject_id: uuid.UUID, person: Person) -> Event:
    return Event(kind=kind, subject_id=subject_id, project_id=person.actor.default_project_id, payload={}, at=utcnow())


def render(app: Flask, make: Callable[[list[Event]], str], *found: Event) -> str:
    with app.test_request_context("/live"):
        return make(list(found))


@pytest.fixture
def rocket_id(alice: Person, work: Callable) -> uuid.UUID:
    with work():
        return factories.make_rocket(phase=Phase.OUTBOUND, state=RocketState.IN_FLIGHT, user_id=alice.id).id


def test_a_move_brings_the_card_to_its_column_and_the_counts(app: Flask, alice: Person, rocket_id: uuid.UUID) -> None:
    html = render(app, news.render_board, event_of("rocket.moved", rocket_id, alice))
    assert f'id="rocket-{rocket_id}"' in html
    assert 'data-live-into="#col-InFlight"' in html
    for state in RocketState:
        assert f'id="count-{state}"' in html
    assert 'data-total="1"' in html
    assert "csrf" not in html


def test_many_moves_of_one_rocket_are_one_card(app: Flask, alice: Person, rocket_id: uuid.UUID) -> None:
    moved = [event_of("rocket.moved", rocket_id, alice)] * 5
    assert render(app, news.render_board, *moved).count("<article") == 1


def test_when_most_of_the_fleet_moves_at_once_pages_read_what_they_show(
    app: Flask, alice: Person, work: Callable
) -> None:
    with work():
        made = [factories.make_rocket().id for _ in range(news.CARDS_AT_ONCE + 1)]
    moved = [event_of("rocket.moved", rocket_id, alice) for rocket_id in made]
    assert render(app, news.render_board, *moved) == news.REFRESH
    assert render(app, news.render_board, *moved[1:]).count("<article") == news.CARDS_AT_ONCE


def test_a_deleted_rocket_leaves_every_board(app: Flask, alice: Person) -> None:
    gone = uuid.uuid4()
    html = render(
        app, news.render_board, event_of("rocket.moved", gone, alice), event_of("rocket.deleted", gone, alice)
    )
    assert f'<div data-live-remove="rocket-{gone}"></div>' in html
    assert "<article" not in html


def test_a_skipped_instant_moves_the_next_departure(app: Flask, alice: Person, work: Callable) -> None:
    with work():
        job = factories.make_job()
        rocket = factories.make_rocket(job_id=job.id)
        job_id, rocket_id = job.id, rocket.id
    html = render(app, news.render_board, event_of("run.skipped", job_id, alice))
    assert f'id="rocket-{rocket_id}"' in html


def test_the_rockets_own_page_gets_its_flight_and_history(app: Flask, alice: Person, rocket_id: uuid.UUID) -> None:
    html = render(app, news.render_rocket, event_of("rocket.moved", rocket_id, alice))
    assert html.lstrip().startswith('<div class="split" id="rocket">')
    assert "csrf" not in html


def test_the_page_of_a_deleted_rocket_asks_again(app: Flask, alice: Person) -> None:
    assert render(app, news.render_rocket, event_of("rocket.deleted", uuid.uuid4(), alice)) == news.REFRESH


def test_every_change_of_a_rocket_is_told(app: Flask, alice: Person, work: Callable, look: Callable) -> None:
    with work():
        rocket_id = rockets.create_rocket(alice.actor, source="A", destination="B", estimated_time=5).id
    with look():
        kinds = [event.kind for event in events.events_after(0) if event.subject_id == rocket_id]
    assert kinds == ["rocket.moved"]


def facts_for_fragments(alice: Person) -> dict[str, Any]:
    """One set of facts that every fragment of the fleet can be rendered with."""
    [card] = [card for column in board.look_at_board(alice.actor, Filter()) for card in column.cards]
    return {
        "card": card,
        "is_news": True,
        "cards": [card],
        "gone": [uuid.uuid4()],
        "summary": board.summarise(alice.actor.project_ids),
        "state": RocketState.READY,
        "wanted": Filter(text="x", state=RocketState.RUD),
        "owners": ["alice"],
        "view": "wall",
        "queue": SimpleNamespace(workers_alive=1, workers_busy=2, slots=2),
        "late": 3,
        "mark": card.strip[0],
        **news.facts_of(card),
        "entry": SimpleNamespace(id=1, state="RUD", timestamp=utcnow(), run_id=uuid.uuid4(), message="lost"),
    }


FRAGMENTS = ("_card", "_count", "_crew", "_entry", "_filters", "_flight_row", "_live", "_news", "_row", "_sample",
             "_sample_state", "_summary")  # fmt: skip


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("name", FRAGMENTS)
def test_each_fragment_stands_alone(app: Flask, alice: Person, work: Callable, name: str, phase: Phase) -> None:
    with work():
        job = factories.make_job(next_run_at=utcnow())
        factories.make_rocket(phase=phase, state=state_of(phase), job_id=job.id, user_id=alice.id)
        factories.make_finished_run(job, state=RunState.FAILED, error_message="no such file")
    with app.test_request_context("/"):
        html = render_template(f"rockets/{name}.html", **facts_for_fragments(alice))
    assert "<" in html


def test_no_fragment_is_forgotten(app: Flask) -> None:
    found = {name for name in app.jinja_env.list_templates() if name.startswith("rockets/_")}
    assert found - {f"rockets/{name}.html" for name in FRAGMENTS} == {"rockets/_verbs.html"}  # macros only
