"""The doors of the fleet: the board, the list, a rocket's page and its verbs."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from markupsafe import escape

from tests import factories
from tests.support.people import Browser, Cast, Person
from webapp.dates import utcnow
from webapp.rockets import operations as rockets
from webapp.rockets.models import Rocket
from webapp.rockets.states import Phase, RocketState, state_of
from webapp.runs.states import RunState


def put(phase: Phase, **facts: object) -> uuid.UUID:
    return factories.make_rocket(phase=phase, state=state_of(phase), **facts).id


@pytest.fixture
def rocket_id(alice: Person, work: Callable) -> uuid.UUID:
    """A rocket of Alice's that waits on the pad."""
    with work():
        return put(Phase.READY, source="Cape", destination="Jezero", user_id=alice.id)


def phase_of(look: Callable, rocket_id: uuid.UUID) -> Phase:
    with look() as session:
        rocket: Rocket = session.query(Rocket).filter_by(id=rocket_id).one()
        return rocket.phase


# --- the board --------------------------------------------------------------------------------------------------------


def test_before_there_is_an_owner_the_board_says_how_to_become_it(app: Flask) -> None:
    page = Browser(app).get("/")
    assert page.status_code == 200
    assert 'href="/register"' in page.text


def test_later_a_stranger_is_sent_to_the_log_in(people: Cast, browser_of_nobody: Browser) -> None:
    answer = browser_of_nobody.get("/")
    assert (answer.status_code, answer.location) == (303, "/login?next=/")


def test_the_board_shows_the_fleet_to_its_people_only(people: Cast, rocket_id: uuid.UUID) -> None:
    for person in (people.alice, people.bob, people.rita):
        assert f'id="rocket-{rocket_id}"' in person.browser().get("/").text, person.username
    assert str(rocket_id) not in people.charlie.browser().get("/").text


def test_an_empty_board_teaches(alice: Person) -> None:
    page = alice.browser().get("/").text
    assert "The pad is empty" in page
    assert 'href="/jobs/new"' in page


def test_a_filter_that_nothing_fits_leads_back(alice: Person, rocket_id: uuid.UUID) -> None:
    page = alice.browser().get("/?q=zebra").text
    assert "No rocket fits this filter" in page
    assert str(rocket_id) not in page


def test_the_board_of_a_filter_follows_another_topic(alice: Person, rocket_id: uuid.UUID) -> None:
    browser = alice.browser()
    assert 'data-live-topics="board"' in browser.get("/").text
    assert 'data-live-topics="board_part"' in browser.get("/?state=Ready").text


@pytest.mark.parametrize("query", ["state=Nowhere", "view=%00", "cursor=-1", "owner=" + "x" * 9000, "q=%ff%00'\"<b>"])
@pytest.mark.parametrize("path", ["/", "/rockets"])
def test_an_address_that_means_nothing_is_no_failure(alice: Person, path: str, query: str) -> None:
    page = alice.browser().get(f"{path}?{query}")
    assert page.status_code == 200
    assert "<b>" not in page.text.partition("<main")[2].partition("board")[0]


def test_a_name_cannot_run(alice: Person, work: Callable) -> None:
    evil = '<script>alert(1)</script>"'
    with work():
        rocket_id = put(Phase.READY, source=evil, destination="Mars")
    for path in ("/", "/rockets", f"/rockets/{rocket_id}", f"/rockets/{rocket_id}/delete"):
        page = alice.browser().get(path).text
        assert evil not in page, path
        assert str(escape(evil)) in page, path


def test_without_a_worker_the_board_says_so_and_what_to_do(alice: Person, work: Callable) -> None:
    browser = alice.browser()
    assert "No worker is alive" in browser.get("/").text
    assert "make run" in browser.get("/board/crew").text
    from webapp.runs.models import Worker

    now = utcnow()
    with work() as session:
        session.add(Worker(name="w", started_at=now, seen_at=now, slots=2, busy=0))
    assert "No worker is alive" not in browser.get("/board/crew").text
    with work():
        factories.make_run(factories.make_job(), available_at=now - timedelta(minutes=1))
    assert "1 run is late" in browser.get("/board/crew").text


def test_what_is_late_is_not_told_to_charlie(people: Cast, work: Callable) -> None:
    with work():
        factories.make_run(factories.make_job(), available_at=utcnow() - timedelta(minutes=1))
    assert "late" not in people.charlie.browser().get("/board/crew").text


def test_a_lost_rocket_alarms_the_page(alice: Person, work: Callable) -> None:
    with work():
        rocket_id = put(Phase.DESTROYED)
    assert alice.browser().get("/").text.count('data-alarm="rud"') == 1
    assert 'data-alarm="rud"' in alice.browser().get(f"/rockets/{rocket_id}").text


def test_a_full_column_leads_to_all_of_it(alice: Person, work: Callable) -> None:
    with work():
        for _ in range(30):
            put(Phase.READY)
    page = alice.browser().get("/").text
    assert page.count('<article class="card"') == 24
    assert '<a href="/rockets?state=Ready">all 30</a>' in page


def test_the_list_goes_on_where_it_ended(alice: Person, work: Callable) -> None:
    with work():
        for number in range(103):
            put(Phase.READY, source=f"pad {number}")
    first = alice.browser().get("/rockets?state=Ready").text
    assert first.count("<tr id=") == 100
    older = re.findall(r'href="(/rockets\?[^"]*cursor=[^"]*)"', first)[0].replace("&amp;", "&")
    assert "state=Ready" in older
    second = alice.browser().get(older).text
    assert second.count("<tr id=") == 3
    assert "pad 0 " in second


# --- one rocket -------------------------------------------------------------------------------------------------------


def test_a_rockets_page_says_where_it_is_and_why(alice: Person, work: Callable) -> None:
    with work():
        rocket = factories.make_rocket(source="Cape", destination="Jezero")
        rockets.enter(rocket, Phase.READY, "fuelled and ready")
        rocket_id = rocket.id
    page = alice.browser().get(f"/rockets/{rocket_id}")
    assert page.status_code == 200
    assert "<title>Cape → Jezero · Hohmann</title>" in page.text
    assert "fuelled and ready" in page.text
    assert f'data-live-topics="rocket:{rocket_id}"' in page.text


def test_a_queued_run_says_what_it_waits_for(alice: Person, work: Callable) -> None:
    with work():
        job = factories.make_job(name="Orders")
        rocket_id = put(Phase.READY, job_id=job.id)
        factories.make_run(job, available_at=utcnow() - timedelta(seconds=1))
    assert "No worker is alive, so nothing can start" in alice.browser().get(f"/rockets/{rocket_id}").text


def test_a_new_flight_launches(alice: Person, look: Callable) -> None:
    browser = alice.browser()
    assert 'name="seconds"' in browser.get("/rockets/new").text
    answer = browser.post("/rockets/new", {"source": " Cape ", "destination": "Jezero", "seconds": "30"})
    assert answer.status_code == 303
    page = browser.get(answer.location).text
    assert "<title>Cape → Jezero · Hohmann</title>" in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "  "},
        {"source": "x" * 256},
        {"source": "a\0b"},
        {"destination": ""},
        {"seconds": "soon"},
        {"seconds": "-1"},
        {"seconds": "90000"},
    ],
)
def test_a_flight_with_a_mistake_comes_back_with_the_form(alice: Person, wrong: dict[str, str]) -> None:
    sent = {"source": "Cape", "destination": "Jezero", "seconds": "30"} | wrong
    answer = alice.browser().post("/rockets/new", sent)
    assert answer.status_code == 422
    field = next(iter(wrong))
    assert f'id="{field}-error"' in answer.text


def test_launching_by_hand_comes_back_to_where_it_was_asked(
    alice: Person, rocket_id: uuid.UUID, look: Callable
) -> None:
    browser = alice.browser()
    answer = browser.post(f"/rockets/{rocket_id}/trigger", {"back": "/?q=cape"})
    assert (answer.status_code, answer.location) == (303, "/?q=cape")
    assert browser.post(f"/rockets/{rocket_id}/trigger", htmx=True).status_code == 204


def test_a_way_back_that_leads_elsewhere_is_not_taken(alice: Person, rocket_id: uuid.UUID) -> None:
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        assert alice.browser().post(f"/rockets/{rocket_id}/trigger", {"back": elsewhere}).location == "/"


def test_abort_and_rebuild(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        rocket_id = put(Phase.OUTBOUND)
    browser = alice.browser()
    assert browser.post(f"/rockets/{rocket_id}/abort").status_code == 303
    assert phase_of(look, rocket_id) is Phase.DESTROYED
    assert browser.post(f"/rockets/{rocket_id}/rebuild").status_code == 303
    assert phase_of(look, rocket_id) is Phase.PREPARING


def test_what_cannot_be_done_now_is_said_in_words(alice: Person, rocket_id: uuid.UUID) -> None:
    answer = alice.browser().post(f"/rockets/{rocket_id}/rebuild", htmx=True)
    assert answer.status_code == 409
    assert answer.headers["HX-Retarget"] == "#flashes"
    assert "cannot become Preparing" in answer.text


def test_aborting_a_rocket_with_a_job_stops_its_runs(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        job = factories.make_job()
        rocket_id = put(Phase.READY, job_id=job.id)
        run = factories.make_run(job)
        run_id = run.id
    assert alice.browser().post(f"/rockets/{rocket_id}/abort").status_code == 303
    from webapp.runs import operations as runs

    with look():
        assert runs.get_run(alice.actor, run_id).state is RunState.CANCELLED


def test_deleting_asks_first(alice: Person, rocket_id: uuid.UUID) -> None:
    browser = alice.browser()
    assert "cannot be undone" in browser.get(f"/rockets/{rocket_id}/delete").text
    answer = browser.post(f"/rockets/{rocket_id}/delete")
    assert (answer.status_code, answer.location) == (303, "/")
    assert browser.get(f"/rockets/{rocket_id}").status_code == 404


def test_a_rocket_with_a_job_goes_with_it_only(alice: Person, work: Callable) -> None:
    with work():
        rocket_id = put(Phase.READY, job_id=factories.make_job().id)
    assert alice.browser().post(f"/rockets/{rocket_id}/delete").status_code == 409


VERBS = ("trigger", "abort", "rebuild", "delete")


@pytest.mark.parametrize("verb", VERBS)
def test_a_viewer_may_look_and_do_nothing(people: Cast, rocket_id: uuid.UUID, verb: str, look: Callable) -> None:
    browser = people.rita.browser()
    assert "data-read-only" in browser.get(f"/rockets/{rocket_id}").text
    assert browser.post(f"/rockets/{rocket_id}/{verb}").status_code == 403
    assert phase_of(look, rocket_id) is Phase.READY


@pytest.mark.parametrize("verb", ["", *(f"/{verb}" for verb in VERBS)])
def test_charlie_finds_nothing(people: Cast, rocket_id: uuid.UUID, verb: str, look: Callable) -> None:
    browser = people.charlie.browser()
    answers = [browser.get(f"/rockets/{rocket_id}{verb}")] if verb in ("", "/delete") else []
    answers += [browser.post(f"/rockets/{rocket_id}{verb}")] if verb else []
    assert {answer.status_code for answer in answers} == {404}
    assert phase_of(look, rocket_id) is Phase.READY


def test_charlie_cannot_fly_either(people: Cast) -> None:
    sent = {"source": "Cape", "destination": "Jezero", "seconds": "30"}
    assert people.charlie.browser().post("/rockets/new", sent).status_code == 403
    assert people.charlie.browser().get("/rockets").text.count("<tr id=") == 0


@pytest.mark.parametrize("verb", VERBS)
def test_without_the_form_token_nothing_happens(alice: Person, rocket_id: uuid.UUID, verb: str, look: Callable) -> None:
    answer = alice.browser().post(f"/rockets/{rocket_id}/{verb}", {"csrf_token": "made up"})
    assert answer.status_code == 403
    assert phase_of(look, rocket_id) is Phase.READY


def test_all_states_have_words_and_pictures(alice: Person, work: Callable) -> None:
    with work():
        made = {state: put(phase) for phase in Phase for state in [state_of(phase)]}
    assert set(made) == set(RocketState)
    for state, rocket_id in made.items():
        page = alice.browser().get(f"/rockets/{rocket_id}")
        assert page.status_code == 200, state
        assert '<svg class="fp' in page.text, state
