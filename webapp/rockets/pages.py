"""The HTML door of the fleet: the board, the list, a rocket's page, and the sample mission."""

import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from flask import Blueprint, Flask, flash, g, redirect, render_template, request
from flask.typing import ResponseReturnValue

from webapp import events, guard
from webapp.accounts import operations as accounts
from webapp.accounts.access import Actor
from webapp.accounts.pages import local_path
from webapp.errors import NotSignedIn
from webapp.jobs import sample
from webapp.live import renderers_of
from webapp.rockets import board, news, operations
from webapp.rockets.board import Card, Column, Filter
from webapp.rockets.forms import FlightForm
from webapp.rockets.models import Rocket
from webapp.rockets.operations import RocketPatch
from webapp.rockets.states import RocketState
from webapp.runs import operations as runs
from webapp.runs.states import RunState

PAGE = 100
VIEWS = ("cards", "compact", "wall")
EMPTY_COLUMNS = {
    RocketState.PREPARING: "Nothing is being prepared",
    RocketState.READY: "Nothing waits for its launch",
    RocketState.IN_FLIGHT: "Nothing is in the air",
    RocketState.LANDED_ON_MARS: "Nothing has landed yet",
    RocketState.RUD: "Nothing is lost",
}
door = Blueprint("rockets", __name__)


def wire(app: Flask) -> None:
    """Attach the pages, and tell open ones what moves."""
    app.register_blueprint(door)
    app.jinja_env.globals["card_html"] = news.card_html
    renderers = renderers_of(app)
    for kind in ("rocket.", "run.skipped"):
        renderers.register(kind, news.topics_of_board, news.render_board, group_by=news.of_one_project)
        renderers.register(kind, news.topics_of_filtered_board, news.render_refresh, group_by=news.of_one_project)
    renderers.register("rocket.", news.topics_of_rocket, news.render_rocket)


# --- the board --------------------------------------------------------------------------------------------------------


@door.get("/")
def show_board() -> ResponseReturnValue:
    """The board; before there is an owner, the way to become it."""
    if g.actor is None:
        if accounts.owner_exists():
            raise NotSignedIn("Sign in first.")
        return render_template("rockets/welcome.html")
    actor = guard.actor()
    latest = events.latest_id()  # before anything is read, so that nothing is missed in between
    wanted, view = wanted_from(request.args), request.args.get("view", "cards")
    columns = board.look_at_board(actor, wanted)
    return render_template(
        "rockets/board.html",
        latest=latest,
        wanted=wanted,
        view=view if view in VIEWS else "cards",
        views={name: address_with(view=None if name == "cards" else name) for name in VIEWS},
        columns=columns,
        summary=board.summarise(actor.project_ids, {column.state: column.total for column in columns}),
        owners=board.owners(actor),
        most=board.CARDS_A_COLUMN,
        empty_words=EMPTY_COLUMNS,
        topic="board" if not wanted and len(actor.project_ids) == 1 else "board_part",
        **crew_of(actor),
        sample=sample_card(actor, columns),
        here=request.full_path.rstrip("?"),
    )


def wanted_from(args: Mapping[str, str]) -> Filter:
    """The filter that an address asks for; what it does not understand is left out."""
    state = args.get("state", "")
    owner, source, destination, text = (
        args.get(name, "").replace("\0", "")[:255] for name in ("owner", "source", "destination", "q")
    )
    found = RocketState(state) if state in set(RocketState) else None
    return Filter(state=found, owner=owner, source=source, destination=destination, text=text)


def address_with(**changes: str | None) -> str:
    """This page's address with some of its query changed; None takes a part away."""
    query = {name: value for name, value in {**request.args, **changes}.items() if value}
    return request.path + ("?" + urlencode(query) if query else "")


def sample_card(actor: Actor, columns: Sequence[Column]) -> Card | None:
    """The sample mission's rocket, None when it was removed."""
    shown = next((card for column in columns for card in column.cards if card.is_sample), None)
    job = None if shown else sample.find_sample(actor)
    rocket = operations.rocket_of_job(job.id) if job else None
    return board.cards_of([rocket.id])[0] if rocket else shown


@door.get("/board/crew")
def show_crew() -> ResponseReturnValue:
    """Whether anybody is there to fly the rockets: a fragment that the board asks for every few seconds."""
    return render_template("rockets/_crew.html", **crew_of(guard.actor()))


def crew_of(actor: Actor) -> dict[str, object]:
    """What no event tells of: workers that fell silent, and runs that are late."""
    return {"queue": runs.look_at_queue(), "late": board.count_late(actor.project_ids)}


@door.post("/sample/remove")
def remove_sample() -> ResponseReturnValue:
    """Take the sample mission away: its job, its file and its table."""
    sample.remove_sample(guard.actor())
    flash("The sample mission is gone: its job, its file and its table.", "success")
    return redirect("/", 303)


# --- the fleet as a list ----------------------------------------------------------------------------------------------


@door.get("/rockets")
def list_rockets() -> ResponseReturnValue:
    """All rockets, newest first, a page at a time."""
    actor, wanted = guard.actor(), wanted_from(request.args)
    latest = events.latest_id()
    cursor = request.args.get("cursor", "")
    number = int(cursor) if cursor.isdecimal() and len(cursor) < 18 else None
    found = board.list_fleet(actor, wanted, cursor=number, limit=PAGE + 1)
    older = address_with(cursor=str(found[PAGE - 1].number)) if len(found) > PAGE else None
    return render_template(
        "rockets/list.html",
        latest=latest,
        wanted=wanted,
        cards=found[:PAGE],
        owners=board.owners(actor),
        older=older,
        newest=address_with(cursor=None) if number else None,
    )


@door.route("/rockets/new", methods=["GET", "POST"])
def new_rocket() -> ResponseReturnValue:
    """A plain flight: a rocket without a payload, which launches at once."""
    form = FlightForm()
    if form.validate_on_submit():
        rocket = operations.create_rocket(
            guard.actor(),
            source=form.source.data,
            destination=form.destination.data,
            estimated_time=form.seconds.data,
        )
        return redirect(f"/rockets/{rocket.id}", 303)
    return render_template("rockets/new.html", form=form), 422 if form.errors else 200


# --- one rocket -------------------------------------------------------------------------------------------------------


@door.get("/rockets/<uuid:rocket_id>")
def show_rocket(rocket_id: uuid.UUID) -> ResponseReturnValue:
    """One rocket: where it is, why, and how it came there."""
    latest = events.latest_id()
    rocket = find(rocket_id)
    card = board.cards_of([rocket.id])[0]
    return render_template("rockets/show.html", latest=latest, rocket=rocket, **news.facts_of(card))


def find(rocket_id: uuid.UUID) -> Rocket:
    """The rocket, for somebody who may see it. Raises NotFound."""
    return operations.get_rocket(guard.actor(), rocket_id)


@door.post("/rockets/<uuid:rocket_id>/trigger")
def trigger_rocket(rocket_id: uuid.UUID) -> ResponseReturnValue:
    """Let it fly; a rocket with a job starts a run."""
    operations.trigger_rocket(guard.actor(), rocket_id)
    return done(rocket_id)


@door.post("/rockets/<uuid:rocket_id>/abort")
def abort_rocket(rocket_id: uuid.UUID) -> ResponseReturnValue:
    """Stop the flight; a rocket with a job stops its runs."""
    operations.patch_rocket(guard.actor(), rocket_id, RocketPatch(status=RunState.CANCELLED))
    return done(rocket_id)


@door.post("/rockets/<uuid:rocket_id>/rebuild")
def rebuild_rocket(rocket_id: uuid.UUID) -> ResponseReturnValue:
    """Put a lost rocket back together, without launching it."""
    operations.patch_rocket(guard.actor(), rocket_id, RocketPatch(state=RocketState.PREPARING))
    return done(rocket_id)


def done(rocket_id: uuid.UUID) -> ResponseReturnValue:
    """The answer to a verb: the live feed shows htmx what came of it; a plain form goes back to its page."""
    if request.headers.get("HX-Request"):
        return "", 204
    return redirect(local_path(request.form.get("back") or f"/rockets/{rocket_id}"), 303)


@door.route("/rockets/<uuid:rocket_id>/delete", methods=["GET", "POST"])
def delete_rocket(rocket_id: uuid.UUID) -> ResponseReturnValue:
    """Ask, then take the rocket out of the fleet."""
    rocket = find(rocket_id)
    if request.method == "GET":
        return render_template("rockets/delete.html", rocket=rocket)
    operations.delete_rocket(guard.actor(), rocket_id)
    flash(f"The rocket {rocket.source} → {rocket.destination} has left the fleet.", "success")
    return redirect("/", 303)
