"""What the board reads: columns, cards, strips, who has failed since when, what leaves next."""

from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa

from tests import factories
from tests.support.people import Cast, Person
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.rockets import board
from webapp.rockets.board import Card, Column, Filter
from webapp.rockets.models import Rocket
from webapp.rockets.states import Phase, RocketState, state_of
from webapp.runs.states import RunState


def put(phase: Phase, *, job: Job | None = None, **facts: object) -> Rocket:
    return factories.make_rocket(phase=phase, state=state_of(phase), job_id=job.id if job else None, **facts)


def column(columns: list[Column], state: RocketState) -> Column:
    return next(found for found in columns if found.state is state)


def only_card(person: Person, wanted: Filter | None = None) -> Card:
    [card] = [card for found in board.look_at_board(person.actor, wanted or Filter()) for card in found.cards]
    return card


def test_every_state_has_its_column_in_the_order_of_a_flight(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        put(Phase.READY)
        put(Phase.OUTBOUND)
        put(Phase.RETURNING)
        put(Phase.DESTROYED)
    with look():
        columns = board.look_at_board(alice.actor, Filter())
    assert [found.state for found in columns] == list(RocketState)
    assert [found.total for found in columns] == [0, 1, 2, 0, 1]
    assert [len(found.cards) for found in columns] == [0, 1, 2, 0, 1]


def test_a_full_column_shows_those_that_moved_last_and_counts_them_all(
    alice: Person, work: Callable, look: Callable
) -> None:
    now = utcnow()
    with work():
        for age in range(board.CARDS_A_COLUMN + 6):
            put(Phase.READY, source=f"pad {age}", phase_started_at=now - timedelta(minutes=age))
    with look():
        ready = column(board.look_at_board(alice.actor, Filter()), RocketState.READY)
    assert ready.total == board.CARDS_A_COLUMN + 6
    assert [card.source for card in ready.cards] == [f"pad {age}" for age in range(board.CARDS_A_COLUMN)]


def test_a_stranger_sees_an_empty_board(people: Cast, work: Callable, look: Callable) -> None:
    with work():
        put(Phase.READY)
    with look():
        columns = board.look_at_board(people.charlie.actor, Filter())
        assert [found.total for found in columns] == [0] * 5
        assert board.list_fleet(people.charlie.actor, Filter(), cursor=None, limit=10) == []
        assert board.owners(people.charlie.actor) == []


def test_filters_narrow_cards_and_counts_alike(people: Cast, work: Callable, look: Callable) -> None:
    with work():
        job = factories.make_job(name="Nightly ORDERS")
        put(Phase.READY, job=job, source="a.csv", destination="lake/a", user_id=people.bob.id)
        put(Phase.OUTBOUND, source="Luna", destination="Phobos 100%", user_id=people.alice.id)
        put(Phase.OUTBOUND, source="Earth", destination="Mars", user_id=people.alice.id)
    expected = {
        Filter(text="orders"): ["Nightly ORDERS"],
        Filter(text="luna"): ["Luna → Phobos 100%"],
        Filter(text="100%"): ["Luna → Phobos 100%"],
        Filter(owner="bob"): ["Nightly ORDERS"],
        Filter(source="EAR"): ["Earth → Mars"],
        Filter(destination="lake"): ["Nightly ORDERS"],
        Filter(state=RocketState.READY): ["Nightly ORDERS"],
        Filter(text="nothing like this"): [],
    }
    with look():
        for wanted, names in expected.items():
            columns = board.look_at_board(people.rita.actor, wanted)
            assert [card.name for found in columns for card in found.cards] == names, wanted
            assert sum(found.total for found in columns) == len(names), wanted


def test_the_strip_holds_the_last_twenty_runs_oldest_first(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        job = factories.make_job()
        put(Phase.LANDED, job=job)
        made = [factories.make_finished_run(job, state=RunState.SUCCEEDED).number for _ in range(23)]
    for _ in range(2):  # the second time it is remembered
        with look():
            assert [mark.number for mark in only_card(alice).strip] == made[3:]


def test_a_run_that_moves_is_never_remembered(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        job = factories.make_job()
        put(Phase.OUTBOUND, job=job)
        factories.make_finished_run(job, state=RunState.SUCCEEDED)
        running = factories.make_run(job, state=RunState.RUNNING, started_at=utcnow(), fraction=0.25).id
    with look():
        assert only_card(alice).fraction == 0.25
    from webapp.runs.models import Run

    with work():
        change = {"state": RunState.FAILED, "finished_at": utcnow()}
        db.session.execute(sa.update(Run).where(Run.id == running).values(**change))
    with look():
        assert [mark.status for mark in only_card(alice).strip] == ["succeeded", "failed"]


def test_failing_since_is_the_end_of_the_first_failure_after_the_last_success(
    alice: Person, work: Callable, look: Callable
) -> None:
    start = utcnow() - timedelta(hours=50)
    outcomes = [RunState.FAILED, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.FAILED]
    with work():
        job = factories.make_job()
        put(Phase.DESTROYED, job=job)
        for hour, state in enumerate(outcomes):
            factories.make_finished_run(job, state=state, finished_at=start + timedelta(hours=hour))
    with look():
        assert only_card(alice).failing_since == start + timedelta(hours=2)


def test_failing_since_reaches_back_behind_the_strip(alice: Person, work: Callable, look: Callable) -> None:
    start = utcnow() - timedelta(hours=50)
    with work():
        job = factories.make_job()
        put(Phase.DESTROYED, job=job)
        for hour in range(25):
            factories.make_finished_run(job, state=RunState.FAILED, finished_at=start + timedelta(hours=hour))
    with look():
        assert only_card(alice).failing_since == start


def test_who_succeeded_last_does_not_fail(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        job = factories.make_job()
        put(Phase.LANDED, job=job)
        factories.make_finished_run(job, state=RunState.FAILED)
        factories.make_finished_run(job, state=RunState.SUCCEEDED, doubt="two rows are missing")
    with look():
        card = only_card(alice)
    assert card.failing_since is None
    assert card.landed_with_doubt
    assert card.plain_word == "with doubt"


def test_a_flight_with_a_known_end_has_a_plan(alice: Person, work: Callable, look: Callable) -> None:
    began = utcnow() - timedelta(seconds=25)
    with work():
        put(Phase.OUTBOUND, phase_started_at=began, counting_since=began, estimated_time=100)
    with look():
        card = only_card(alice)
    assert card.arrives == began + timedelta(seconds=100)
    assert 0.24 <= card.fraction <= 0.35
    assert None not in card.plan


def test_a_rocket_is_lost_where_it_was(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        put(Phase.DESTROYED, location="Hohmann transfer orbit, 40 % of the way")
    with look():
        assert only_card(alice).fraction == 0.4


def test_the_plain_word_says_what_a_state_means_here(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        off = factories.make_job(name="off", is_enabled=False)
        scheduled = factories.make_job(name="scheduled", next_run_at=utcnow() + timedelta(hours=1))
        waiting = factories.make_job(name="queued")
        factories.make_run(waiting)
        put(Phase.PREPARING, job=off)
        put(Phase.READY, job=scheduled)
        put(Phase.READY, job=waiting)
        put(Phase.RETURNING, source="home", destination="bound")
    with look():
        found = board.look_at_board(alice.actor, Filter())
    words = {card.name: card.plain_word for one in found for card in one.cards}
    assert words == {
        "off": "switched off",
        "scheduled": "scheduled",
        "queued": "queued",
        "home → bound": "on the way home",
    }


def test_the_next_departures_are_named_and_late_runs_counted(alice: Person, work: Callable, look: Callable) -> None:
    now = utcnow()
    with work():
        for hours in (7, 1, 3, 2, 9, 4):
            factories.make_job(name=f"in {hours} h", next_run_at=now + timedelta(hours=hours))
        factories.make_job(name="off", is_enabled=False, next_run_at=now)
        job = factories.make_job(name="on call")
        factories.make_run(job, available_at=now - timedelta(minutes=1))
        factories.make_run(job, available_at=now + timedelta(minutes=1))
    with look():
        summary = board.summarise(alice.actor.project_ids)
        late = board.count_late(alice.actor.project_ids)
        assert board.count_late(()) == 0
    assert [departure.name for departure in summary.departures] == ["in 1 h", "in 2 h", "in 3 h", "in 4 h", "in 7 h"]
    assert late == 1


def test_the_fleet_is_read_page_by_page(alice: Person, work: Callable, look: Callable) -> None:
    with work():
        made = [put(Phase.READY).number for _ in range(5)]
    with look():
        first = board.list_fleet(alice.actor, Filter(), cursor=None, limit=3)
        rest = board.list_fleet(alice.actor, Filter(), cursor=first[-1].number, limit=3)
    assert [card.number for card in first + rest] == made[::-1]


def test_equal_cards_look_the_same_and_a_new_run_makes_another_card(
    alice: Person, work: Callable, look: Callable
) -> None:
    with work():
        job = factories.make_job()
        job_id = job.id
        put(Phase.READY, job=job)
    with look():
        before = only_card(alice)
    with look():
        assert only_card(alice) == before
    with work():
        factories.make_finished_run(db.session.scalar(sa.select(Job).where(Job.id == job_id)), state=RunState.SUCCEEDED)
    with look():
        assert only_card(alice) != before
