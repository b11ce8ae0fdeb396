"""The pages' websocket: fragments for those who follow a topic and may see it."""

import re
import time
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
import websocket

from tests.live.conftest import farewell, is_silent
from tests.live.test_machine import end_everything
from webapp.accounts import operations as accounts
from webapp.dates import utcnow
from webapp.live.browser import parse_topics


def colour(html: str) -> str:
    return re.search(r">(.*)</p>", html)[1]


@pytest.fixture
def project_id(site):
    return site.people.alice.actor.default_project_id


def test_a_change_reaches_the_pages_that_follow_it(site, project_id):
    subject = uuid.uuid4()
    board = site.follow(site.people.alice, "board")
    own_page = site.follow(site.people.rita, f"light:{subject}")
    other_page = site.follow(site.people.rita, f"light:{uuid.uuid4()}")
    began = time.monotonic()
    site.light("green", project_id=project_id, subject_id=subject)
    html = board.recv()
    assert time.monotonic() - began < 0.25
    assert html == f'<p id="light" data-event="{site.latest()}">green</p>'
    assert own_page.recv() == html
    assert is_silent(other_page)


def test_a_stranger_follows_in_silence(site, project_id):
    subject = uuid.uuid4()
    ws = site.follow(site.people.charlie, f"board,light:{subject}")
    site.light("green", project_id=project_id, subject_id=subject)
    assert is_silent(ws)


def test_what_changes_often_is_rendered_with_its_newest_state(site, project_id):
    subject = uuid.uuid4()
    ws = site.follow(site.people.bob, f"light:{subject}")
    began = time.monotonic()
    for number in range(60):
        site.light(f"shade {number}", project_id=project_id, subject_id=subject)
    took = time.monotonic() - began
    seen = [colour(ws.recv())]
    while seen[-1] != "shade 59":
        seen.append(colour(ws.recv()))
    assert len(seen) <= took / 0.1 + 3
    assert is_silent(ws)


def test_a_fragment_that_cannot_be_drawn_harms_no_other(site, project_id):
    subject = uuid.uuid4()
    ws = site.follow(site.people.bob, f"light:{subject}")
    site.light("broken", project_id=project_id, subject_id=subject)
    site.light("green", project_id=project_id)
    assert is_silent(ws)
    site.light("mended", project_id=project_id, subject_id=subject)
    assert colour(ws.recv()) == "mended"


def test_since_brings_what_changed_while_the_page_was_made(site, project_id):
    subject = uuid.uuid4()
    start = site.latest()
    site.light("red", project_id=project_id, subject_id=subject)
    site.light("amber", project_id=project_id, subject_id=subject)
    ws = site.follow(site.people.bob, f"light:{subject}", f"&since={start}")
    assert colour(ws.recv()) == "amber"
    site.light("green", project_id=project_id, subject_id=subject)
    assert colour(ws.recv()) == "green"
    stranger = site.follow(site.people.charlie, f"light:{subject}", f"&since={start}")
    assert is_silent(stranger)


def test_a_page_that_missed_too_much_is_told_to_load_again(site):
    ws = site.follow(site.people.bob, "board", f"&since={site.latest() + 5}")
    assert farewell(ws) == 1012


def test_without_a_session_the_page_is_told_by_1008(site):
    assert farewell(site.connect("/live?topics=board", origin=site.origin)) == 1008
    name = site.app.config["SESSION_COOKIE_NAME"]
    forged = site.connect("/live?topics=board", origin=site.origin, header=[f"Cookie: {name}=forged"])
    assert farewell(forged) == 1008
    token = site.connect(
        "/live?topics=board", origin=site.origin, header=[f"Authorization: Bearer {site.people.bob.jwt}"]
    )
    assert farewell(token) == 1008


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null"])
def test_a_cookie_from_a_foreign_page_is_refused(site, origin):
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        site.connect("/live?topics=board", origin=origin, header=[f"Cookie: {site.cookie(site.people.alice)}"])
    assert refusal.value.status_code == 403


@pytest.mark.parametrize("topics", ["Board", "run:../x", "a b", ",".join(["board"] * 101)])
def test_topics_that_are_none_close_with_1008(site, topics):
    path = f"/live?topics={topics.replace(' ', '%20')}"
    ws = site.connect(path, origin=site.origin, header=[f"Cookie: {site.cookie(site.people.alice)}"])
    assert farewell(ws) == 1008


def test_topics_are_separated_by_commas():
    assert parse_topics("board,run:7c9e,,job:5") == ["board", "run:7c9e", "job:5"]
    assert parse_topics("") == []


def test_the_end_of_all_sessions_closes_pages_too(site):
    guest = site.newcomer()
    ws = site.follow(guest, "board")
    end_everything(site, guest)
    assert farewell(ws) == 1008
    with pytest.raises(websocket.WebSocketBadStatusException), site.app.app_context():
        site.listen(guest)


def test_a_log_out_closes_the_pages_of_that_browser_only(site):
    guest = site.newcomer()
    ws = site.follow(guest, "board")
    with site.work():
        session_id = guest.cookie.split(":")[-1]
        accounts.revoke_jwt(session_id, user_id=guest.id, expires_at=utcnow() + timedelta(days=1))
    assert farewell(ws) == 1008
    elsewhere = replace(guest, cookie=guest.cookie + "x")
    assert is_silent(site.follow(elsewhere, "board"))


def test_what_a_page_says_is_not_heard(site, project_id):
    ws = site.follow(site.people.bob, "board")
    ws.send("hello")
    assert is_silent(ws)
    site.light("green", project_id=project_id)
    assert colour(ws.recv()) == "green"


def test_a_deactivated_user_follows_nothing(site):
    guest = site.newcomer()
    cookie = site.cookie(guest)
    with site.work():
        accounts.update_user(site.people.alice.actor, guest.id, is_active=False)
    ws = site.connect("/live?topics=board", origin=site.origin, header=[f"Cookie: {cookie}"])
    assert farewell(ws) == 1008
