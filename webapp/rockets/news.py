"""What open pages are told of the fleet: HTML that is made once for all who look, so it holds no form token.

Its buttons belong to the form `verbs`, which each page that shows them has for itself.
"""

import uuid
from collections.abc import Iterable, Sequence
from functools import lru_cache

from flask import render_template
from markupsafe import Markup

from webapp.events import Event
from webapp.rockets import board
from webapp.rockets.board import Card
from webapp.rockets.operations import rocket_of_job
from webapp.runs.feed import REFRESH

RENDERED_CARDS = 2048
HISTORY_SHOWN = 40
CARDS_AT_ONCE = 60


@lru_cache(maxsize=RENDERED_CARDS)
def card_html(card: Card) -> Markup:
    """The card on the board. It follows from the card's facts alone, so what was rendered once is kept."""
    return Markup(render_template("rockets/_card.html", card=card, is_news=False))  # noqa: S704 - escaped by Jinja


def topics_of_board(event: Event) -> Iterable[str]:
    """Every event of the fleet concerns the board."""
    return ("board",)


def topics_of_filtered_board(event: Event) -> Iterable[str]:
    """Boards that show a part of the fleet are told only that something moved."""
    return ("board_part",)


def topics_of_rocket(event: Event) -> Iterable[str]:
    """The page of this rocket."""
    return (f"rocket:{event.subject_id}",)


def of_one_project(event: Event) -> uuid.UUID | None:
    """Events of one project are shown together: counts and cards are then read once for all of them."""
    return event.project_id


def render_board(events: Sequence[Event]) -> str:
    """The cards that moved, the counts, and which cards have gone."""
    gone = {event.subject_id for event in events if event.kind == "rocket.deleted" and event.subject_id}
    moved = {rocket_id for event in events if (rocket_id := _rocket_of(event))} - gone
    if len(moved) > CARDS_AT_ONCE:
        return REFRESH  # most of them are beyond the columns' ends: each page reads what it shows
    project_ids = {event.project_id for event in events if event.project_id}
    return render_template(
        "rockets/_news.html",
        cards=board.cards_of(moved),
        gone=sorted(gone),
        summary=board.summarise(project_ids),
    )


def _rocket_of(event: Event) -> uuid.UUID | None:
    if event.kind.startswith("rocket."):
        return event.subject_id
    rocket = rocket_of_job(event.subject_id) if event.subject_id else None
    return rocket.id if rocket else None


def render_refresh(events: Sequence[Event]) -> str:
    """Tells the page to fetch itself again: what it shows depends on its own address."""
    return REFRESH


def render_rocket(events: Sequence[Event]) -> str:
    """Where the rocket is now, and its newest history."""
    rocket_id = events[-1].subject_id
    found = board.cards_of([rocket_id]) if rocket_id else []
    if not found:
        return REFRESH  # it has gone: the page's own address says so
    return render_template("rockets/_live.html", **facts_of(found[0]))


def facts_of(card: Card) -> dict[str, object]:
    """What the live part of a rocket's page shows."""
    entries = board.newest_history(card.id, limit=HISTORY_SHOWN)
    why = board.why_it_waits(card) or (entries[0].message if entries else "")
    return {"card": card, "history": entries, "why": why}
