"""The machines' websocket, as a client of contract 000 meets it."""

import json
import time
import urllib.error
import urllib.request
import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
import websocket

from tests.live.conftest import farewell, heard, is_silent
from webapp.accounts import operations as accounts
from webapp.accounts.models import User
from webapp.config import Role
from webapp.dates import utcnow
from webapp.guard import make_jwt
from webapp.rockets import operations as rockets

UNKNOWN = "no such token"
FIELDS = {"id", "state", "source", "destination", "location", "estimated_time", "status", "updated_at"}


def test_a_change_arrives_in_the_words_of_the_contract(site):
    ws = site.listen(site.people.bob)
    began = time.monotonic()
    rocket_id = site.build(site.people.bob, source="Ceres")
    update = heard(ws)
    assert time.monotonic() - began < 1.0
    assert update["type"] == "job_update"
    assert update["event_id"] == site.latest()
    assert set(update["job"]) == FIELDS
    assert update["job"]["id"] == str(rocket_id)
    assert (update["job"]["state"], update["job"]["status"]) == ("Preparing", "pending")
    assert update["job"]["source"] == "Ceres"


def test_a_deletion_arrives(site):
    rocket_id = site.build(site.people.bob)
    ws = site.listen(site.people.bob)
    with site.work():
        rockets.delete_rocket(site.people.bob.actor, rocket_id)
    assert heard(ws) == {"type": "job_deleted", "event_id": site.latest(), "job": {"id": str(rocket_id)}}


def test_text_comes_back(site):
    ws = site.listen(site.people.rita)
    for text in ("hello", "", "ünï \N{ROCKET}", '{"type": "ping"}', "x" * 60_000):
        ws.send(text)
        assert heard(ws) == {"type": "echo", "data": text}


def test_the_token_may_come_in_the_first_message(site):
    ws = site.connect("/api/v1/ws/jobs")
    ws.send(json.dumps({"type": "auth", "token": site.people.bob.jwt}))
    ws.send("said too early, answered in order")
    assert heard(ws)["type"] == "connected"
    assert heard(ws) == {"type": "echo", "data": "said too early, answered in order"}
    rocket_id = site.build(site.people.bob)
    assert heard(ws)["job"]["id"] == str(rocket_id)


@pytest.mark.parametrize(
    "message",
    ["hello", "{}", "[]", '{"type": "auth"}', '{"type": "auth", "token": ""}', '{"type": "auth", "token": 7}',
     '{"type": "auth", "token": "x", "since": -1}', '{"type": "auth", "token": "no.such.token"}'],
)  # fmt: skip
def test_a_first_message_without_a_good_token_closes_with_1008(site, message):
    ws = site.connect("/api/v1/ws/jobs")
    ws.send(message)
    assert farewell(ws) == 1008


@pytest.mark.parametrize("value", ["Bearer no.such.token", "Bearer ", "Basic YWxpY2U6c2VjcmV0", "Bearer hoh_unknown"])
def test_a_bad_token_in_the_header_is_refused_with_401(site, value):
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        site.connect("/api/v1/ws/jobs", header=[f"Authorization: {value}"])
    assert refusal.value.status_code == 401
    assert json.loads(refusal.value.resp_body)["code"] == "UNAUTHORIZED"


def test_a_cookie_is_no_token_here(site):
    ws = site.connect("/api/v1/ws/jobs", origin=site.origin, header=[f"Cookie: {site.cookie(site.people.alice)}"])
    site.build(site.people.alice)
    assert is_silent(ws)


def test_a_stranger_hears_nothing(site):
    ws = site.listen(site.people.charlie)
    narrowed = site.listen(site.people.charlie, f"?user_id={site.people.bob.id}")
    resumed = site.listen(site.people.charlie, "?since=0")
    site.build(site.people.bob)
    assert is_silent(ws) and is_silent(narrowed) and is_silent(resumed)


def test_a_viewer_hears_what_colleagues_do(site):
    ws = site.listen(site.people.rita)
    rocket_id = site.build(site.people.bob)
    assert heard(ws)["job"]["id"] == str(rocket_id)


def test_user_id_narrows_to_the_rockets_of_one_user(site):
    ws = site.listen(site.people.alice, f"?user_id={site.people.bob.id}")
    site.build(site.people.dave)
    rocket_id = site.build(site.people.bob)
    assert heard(ws)["job"]["id"] == str(rocket_id)


@pytest.mark.parametrize("query", ["user_id=bob", "user_id=", "user_id=7", "since=first", "since=-1", "since=1.5"])
def test_an_address_that_cannot_be_understood_closes_with_1008(site, query):
    ws = site.connect(f"/api/v1/ws/jobs?{query}", header=[f"Authorization: Bearer {site.people.bob.jwt}"])
    assert farewell(ws) == 1008


def test_a_foreign_origin_is_refused_even_with_a_good_token(site):
    for origin in ("http://evil.example", f"http://localhost:{site.port}", f"https://127.0.0.1:{site.port}", "null"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            site.connect("/api/v1/ws/jobs", origin=origin, header=[f"Authorization: Bearer {site.people.alice.jwt}"])
        assert refusal.value.status_code == 403
        assert json.loads(refusal.value.resp_body)["code"] == "FOREIGN_ORIGIN"


def test_our_own_origin_may_connect(site):
    ws = site.connect("/api/v1/ws/jobs", origin=site.origin, header=[f"Authorization: Bearer {site.people.alice.jwt}"])
    assert heard(ws)["type"] == "connected"


def test_a_plain_request_is_told_that_this_is_a_websocket(site):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(site.origin + "/api/v1/ws/jobs", timeout=5)
    with refusal.value as answer:
        assert answer.code == 400


def test_a_token_in_the_query_counts_only_when_the_setting_allows_it(site, make_site):
    ws = site.connect(f"/api/v1/ws/jobs?token={site.people.bob.jwt}")
    site.build(site.people.bob)
    assert is_silent(ws)
    lenient = make_site(ALLOW_WS_QUERY_TOKEN="1", ALLOWED_ORIGINS="https://partner.example")
    ws = lenient.connect(f"/api/v1/ws/jobs?token={lenient.people.bob.jwt}", origin="https://partner.example")
    assert heard(ws)["type"] == "connected"
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        lenient.connect("/api/v1/ws/jobs?token=no.such.token")
    assert refusal.value.status_code == 401


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_since_replays_what_was_missed_without_gap_or_double(site):
    start = site.latest()
    missed = [str(site.build(site.people.bob)) for _ in range(5)]
    ws = site.listen(site.people.bob, f"?since={start}")
    later = [str(site.build(site.people.bob)) for _ in range(3)]
    updates = [heard(ws) for _ in range(8)]
    assert [update["job"]["id"] for update in updates] == missed + later
    ids = [update["event_id"] for update in updates]
    assert ids == sorted(set(ids))


def test_since_in_the_first_message_replays_too(site):
    start = site.latest()
    rocket_id = site.build(site.people.bob)
    ws = site.connect("/api/v1/ws/jobs")
    ws.send(json.dumps({"type": "auth", "token": site.people.bob.jwt, "since": start}))
    assert heard(ws)["type"] == "connected"
    assert heard(ws)["job"]["id"] == str(rocket_id)


def test_since_the_newest_event_replays_nothing(site):
    ws = site.listen(site.people.bob, f"?since={site.latest()}")
    assert is_silent(ws)


def test_a_replay_longer_than_one_batch_is_complete(site):
    start = site.latest()
    with site.work():
        ids = [
            str(rockets.create_rocket(site.people.dave.actor, source="A", destination="B", estimated_time=9).id)
            for _ in range(2500)
        ]
    ws = site.listen(site.people.dave, f"?since={start}&user_id={site.people.dave.id}")
    last = str(site.build(site.people.dave))
    assert [heard(ws)["job"]["id"] for _ in range(2501)] == [*ids, last]


def test_replays_are_exact_while_events_keep_coming(site):
    start = site.latest()
    built, sockets = [], []
    for _ in range(30):
        built.append(str(site.build(site.people.dave)))
        sockets.append(site.listen(site.people.dave, f"?since={start}&user_id={site.people.dave.id}"))
    for ws in sockets:
        assert [heard(ws)["job"]["id"] for _ in built] == built
    assert all(is_silent(ws, 0.01) for ws in sockets)


def test_a_log_that_does_not_reach_back_says_so(site, make_site):
    ahead = site.latest() + 1000
    ws = site.listen(site.people.bob, f"?since={ahead}")
    gap = heard(ws)
    assert (gap["type"], gap["since"], gap["latest_event_id"]) == ("gap", ahead, ahead - 1000)
    rocket_id = site.build(site.people.bob)
    assert heard(ws)["job"]["id"] == str(rocket_id)
    pruned = make_site()
    pruned.build(pruned.people.bob)
    with pruned.work() as session:
        session.execute(sa.text("UPDATE event SET at = '2020-01-01 00:00:00'"))
    with pruned.work():
        from webapp import events

        assert events.prune(keep_days=7) > 0
    pruned.build(pruned.people.bob)
    ws = pruned.listen(pruned.people.bob, "?since=0")
    assert heard(ws)["type"] == "gap"


# --- the end of a right to listen -------------------------------------------------------------------------------------


def end_everything(site, person):
    with site.work() as session:
        accounts.end_sessions(session.scalar(sa.select(User).where(User.id == person.id)))


def test_a_password_change_or_deactivation_closes_the_sockets_at_once(site):
    guest = site.newcomer()
    other = site.listen(site.people.bob)
    sockets = [site.listen(guest) for _ in range(4)]  # some in each web process
    began = time.monotonic()
    end_everything(site, guest)
    assert [farewell(ws) for ws in sockets] == [1008] * 4
    assert time.monotonic() - began < 2.0
    assert is_silent(other)
    with pytest.raises(websocket.WebSocketBadStatusException):
        site.listen(guest)


def test_a_log_out_closes_the_sockets_of_that_token_only(site):
    guest = site.newcomer()
    with site.app.app_context():
        from flask_jwt_extended import decode_token

        claims = decode_token(guest.jwt)
    with site.work() as session:
        second = make_jwt(session.scalar(sa.select(User).where(User.id == guest.id)))
    first_socket, second_socket = site.listen(guest), site.listen(guest, token=second)
    with site.work():
        accounts.revoke_jwt(claims["jti"], user_id=guest.id, expires_at=utcnow() + timedelta(hours=1))
    assert farewell(first_socket) == 1008
    second_socket.send("still here")
    assert heard(second_socket) == {"type": "echo", "data": "still here"}


def test_another_role_closes_with_1012_and_the_client_may_come_again(site):
    guest = site.newcomer()
    ws = site.listen(guest)
    with site.work():
        accounts.update_user(site.people.alice.actor, guest.id, role=Role.VIEWER)
    assert farewell(ws) == 1012
    site.listen(guest)


def test_a_service_token_listens_until_it_is_revoked(site):
    with site.work():
        token, secret = accounts.create_service_token(
            site.people.alice.actor, name="board", role=Role.VIEWER, scopes=["read"]
        )
        token_id = token.id
    ws = site.listen(None, token=secret)
    rocket_id = site.build(site.people.bob)
    assert heard(ws)["job"]["id"] == str(rocket_id)
    with site.work():
        accounts.revoke_service_token(site.people.alice.actor, token_id)
    assert farewell(ws) == 1008


def test_a_socket_ends_with_its_token(site):
    with site.work():
        _, secret = accounts.create_service_token(
            site.people.alice.actor,
            name="soon over",
            role=Role.VIEWER,
            scopes=["read"],
            expires_at=utcnow() + timedelta(seconds=1.5),
        )
    ws = site.listen(None, token=secret)
    began = time.monotonic()
    assert farewell(ws) == 1008
    assert time.monotonic() - began < 3.0


def test_an_unknown_user_id_is_a_quiet_socket(site):
    ws = site.listen(site.people.alice, f"?user_id={uuid.uuid4()}")
    site.build(site.people.bob)
    assert is_silent(ws)
