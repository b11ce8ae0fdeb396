"""Contract 000 at its doors: shapes, codes, filters, and who is let in."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.errors import assert_refused
from tests.factories import make_job, make_project, make_rocket
from tests.support.people import Cast, Person
from webapp.dates import utcnow
from webapp.db import db
from webapp.rockets.states import Phase, RocketState
from webapp.runs.states import RunState

MISSION = {"source": "Earth", "destination": "Mars", "estimated_time": 3600}
FIELDS = {
    "id", "state", "source", "destination", "location", "estimated_time", "status", "airflow_dag_run_id", "user_id",
    "job_id", "created_at", "updated_at",
}  # fmt: skip
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def build(client: FlaskClient, person: Person, **mission: Any) -> Any:
    return client.post("/api/v1/job", json={**MISSION, **mission}, headers=person.headers)


def patch(client: FlaskClient, person: Person, rocket_id: str, **report: Any) -> Any:
    return client.patch(f"/api/v1/job/{rocket_id}", json=report, headers=person.headers)


def listed(client: FlaskClient, person: Person, query: str = "") -> list[Any]:
    answer = client.get(f"/api/v1/job{query}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.get_json()
    return found


# --- the words of the contract ----------------------------------------------------------------------------------------


def test_a_new_rocket_is_201_and_speaks_the_contracts_words(client: FlaskClient, bob: Person):
    answer = build(client, bob)
    assert answer.status_code == 201
    rocket = answer.get_json()
    assert set(rocket) == FIELDS
    assert rocket["state"] == "Preparing"
    assert rocket["status"] == "pending"
    assert (rocket["source"], rocket["destination"], rocket["location"]) == ("Earth", "Mars", "Earth")
    assert rocket["estimated_time"] == 3600
    assert rocket["user_id"] == str(bob.id)
    assert RFC_3339.fullmatch(rocket["created_at"])
    assert RFC_3339.fullmatch(rocket["updated_at"])
    assert str(uuid.UUID(rocket["id"])) == rocket["id"]


def test_one_rocket_and_its_line_in_the_list_are_the_same(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    build(client, bob)
    with work():
        make_rocket(job_id=make_job().id, created_at=utcnow().replace(microsecond=0), airflow_dag_run_id="flight")
    for line in listed(client, bob):
        assert client.get(f"/api/v1/job/{line['id']}", headers=bob.headers).get_json() == line


def test_the_list_is_newest_first_and_a_bare_array(client: FlaskClient, bob: Person):
    names = [build(client, bob, source=name).get_json()["source"] for name in ("one", "two", "three")]
    assert [rocket["source"] for rocket in listed(client, bob)] == names[::-1]


def test_a_deleted_rocket_is_204_and_then_404(client: FlaskClient, bob: Person):
    rocket_id = build(client, bob).get_json()["id"]
    answer = client.delete(f"/api/v1/job/{rocket_id}", headers=bob.headers)
    assert (answer.status_code, answer.data) == (204, b"")
    assert_refused(client.get(f"/api/v1/job/{rocket_id}", headers=bob.headers), 404)
    assert_refused(client.delete(f"/api/v1/job/{rocket_id}", headers=bob.headers), 404)
    assert listed(client, bob) == []


@pytest.mark.parametrize("rocket_id", ["00000000-0000-4000-8000-000000000000", "nothing", "1", "%00"])
@pytest.mark.parametrize(
    ("method", "tail"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/trigger"), ("GET", "/history")]
)
def test_an_unknown_rocket_is_404_in_the_contracts_words(
    client: FlaskClient, bob: Person, method: str, tail: str, rocket_id: str
):
    answer = client.open(f"/api/v1/job/{rocket_id}{tail}", method=method, json={}, headers=bob.headers)
    assert assert_refused(answer, 404)["detail"] == "Job not found"


def test_trigger_names_a_new_flight_each_time(client: FlaskClient, bob: Person):
    rocket_id = build(client, bob).get_json()["id"]
    flights = [client.post(f"/api/v1/job/{rocket_id}/trigger", headers=bob.headers).get_json() for _ in range(2)]
    assert all(set(flight) == {"dag_run_id", "message"} for flight in flights)
    assert flights[0]["message"] == "DAG triggered successfully"
    assert flights[0]["dag_run_id"] != flights[1]["dag_run_id"]
    shown = client.get(f"/api/v1/job/{rocket_id}", headers=bob.headers).get_json()
    assert shown["airflow_dag_run_id"] == flights[1]["dag_run_id"]


def test_a_rocket_in_the_air_is_not_triggered(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    later = utcnow() + timedelta(hours=1)
    with work():
        rocket_id = make_rocket(phase=Phase.OUTBOUND, state=RocketState.IN_FLIGHT, next_step_at=later).id
    assert_refused(client.post(f"/api/v1/job/{rocket_id}/trigger", headers=bob.headers), 409, code="IN_FLIGHT")


def test_the_history_is_an_array_oldest_first_and_says_who_did_it(client: FlaskClient, bob: Person):
    rocket_id = build(client, bob).get_json()["id"]
    for state in ("Ready", "InFlight", "Landed_On_Mars"):
        assert patch(client, bob, rocket_id, state=state).status_code == 200
    history = client.get(f"/api/v1/job/{rocket_id}/history", headers=bob.headers).get_json()
    assert [entry["state"] for entry in history] == ["Preparing", "Ready", "InFlight", "Landed_On_Mars"]
    assert all(set(entry) == {"id", "job_id", "timestamp", "state", "message"} for entry in history)
    assert all(RFC_3339.fullmatch(entry["timestamp"]) for entry in history)
    assert "bob" in history[-1]["message"]
    assert history[0]["job_id"] == rocket_id


def test_only_a_state_makes_history(client: FlaskClient, bob: Person):
    rocket_id = build(client, bob).get_json()["id"]
    before = client.get(f"/api/v1/job/{rocket_id}/history", headers=bob.headers).get_json()
    patch(client, bob, rocket_id, location="Moon", estimated_time=5)
    assert client.get(f"/api/v1/job/{rocket_id}/history", headers=bob.headers).get_json() == before


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"location": "Low orbit"}, {"location": "Low orbit"}),
        ({"estimated_time": 7}, {"estimated_time": 7}),
        ({"estimated_time": 7.0}, {"estimated_time": 7}),
        ({"status": "running"}, {"status": "running"}),
        ({"status": "pending"}, {"status": "pending"}),
        ({"state": "Ready"}, {"state": "Ready"}),
        ({"state": "RUD", "status": "failed", "location": "a field"}, {"state": "RUD", "location": "a field"}),
        ({"state": "Preparing"}, {"state": "Preparing"}),
        ({"state": None, "location": None}, {"state": "Preparing", "location": "Earth"}),
        ({}, {"state": "Preparing"}),
    ],
)
def test_patch_takes_any_subset(client: FlaskClient, bob: Person, report: Any, expected: Any):
    rocket_id = build(client, bob).get_json()["id"]
    answer = patch(client, bob, rocket_id, **report)
    assert answer.status_code == 200, answer.text
    assert set(answer.get_json()) == FIELDS
    assert answer.get_json().items() >= expected.items()
    again = client.get(f"/api/v1/job/{rocket_id}", headers=bob.headers).get_json()
    assert again.items() >= expected.items()


def test_a_forbidden_move_is_409_and_names_the_allowed_ones(client: FlaskClient, bob: Person):
    rocket_id = build(client, bob).get_json()["id"]
    body = assert_refused(patch(client, bob, rocket_id, state="Landed_On_Mars"), 409, code="FORBIDDEN_MOVE")
    assert body["details"] == {"from": "Preparing", "to": "Landed_On_Mars", "allowed": ["Ready", "RUD"]}
    assert client.get(f"/api/v1/job/{rocket_id}", headers=bob.headers).get_json()["state"] == "Preparing"


# --- filters and pages ------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(people: Cast, work: Callable[..., Any]) -> None:
    """Five rockets, one of each state; the even ones are Bob's, the odd ones Dave's."""
    phases = [Phase.PREPARING, Phase.READY, Phase.OUTBOUND, Phase.LANDED, Phase.DESTROYED]
    with work():
        for at, (phase, state, status) in enumerate(zip(phases, RocketState, RunState, strict=True)):
            owner = (people.bob, people.dave)[at % 2]
            make_rocket(
                phase=phase, state=state, status=status, user_id=owner.id, source=f"Pad {at}", destination="100 %_Mars"
            )


@pytest.mark.parametrize("state", list(RocketState))
def test_filter_by_state(client: FlaskClient, bob: Person, fleet: None, state: RocketState):
    assert [rocket["state"] for rocket in listed(client, bob, f"?state={state}")] == [state.value]


@pytest.mark.parametrize("status", ["pending", "running", "succeeded", "failed", "cancelled"])
def test_filter_by_status(client: FlaskClient, bob: Person, fleet: None, status: str):
    assert [rocket["status"] for rocket in listed(client, bob, f"?status={status}")] == [status]


def test_filter_by_who_made_it(client: FlaskClient, people: Cast, fleet: None):
    assert len(listed(client, people.bob, f"?user_id={people.bob.id}")) == 3
    assert len(listed(client, people.bob, f"?user_id={people.dave.id}")) == 2
    assert listed(client, people.bob, f"?user_id={uuid.uuid4()}") == []
    assert len(listed(client, people.bob, "?owner=BOB")) == 3
    assert listed(client, people.bob, f"?user_id={people.bob.id}&state=Ready") == []


def test_filter_by_route_takes_percent_signs_literally(client: FlaskClient, bob: Person, fleet: None):
    assert [rocket["source"] for rocket in listed(client, bob, "?source=pad%203")] == ["Pad 3"]
    assert len(listed(client, bob, "?destination=%25_m")) == 5
    assert listed(client, bob, "?destination=%25%25") == []
    assert listed(client, bob, "?source=_") == []
    assert listed(client, bob, "?source=!") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=Flying", "state"),
        ("state=", "state"),
        ("status=queued", "status"),
        ("status=Running", "status"),
        ("user_id=bob", "user_id"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("cursor=-1", "cursor"),
        ("cursor=99999999999999999999", "cursor"),
        ("source=%00", "source"),
    ],
)
def test_an_unknown_filter_value_is_422(client: FlaskClient, bob: Person, query: str, field: str):
    body = assert_refused(client.get(f"/api/v1/job?{query}", headers=bob.headers), 422, naming=field)
    assert body["detail"][0]["loc"][0] == "query"


def test_pages_follow_each_other_without_gap_or_double(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    with work():
        for at in range(7):
            make_rocket(source=f"Pad {at}")
    seen: list[str] = []
    path = "/api/v1/job?limit=3"
    while path:
        answer = client.get(path, headers=bob.headers)
        seen += [rocket["source"] for rocket in answer.get_json()]
        link = answer.headers.get("Link", "")
        path = link.partition("<")[2].partition(">")[0].removeprefix("http://localhost")
        assert (answer.headers.get("X-Next-Cursor") is not None) == bool(link)
        with work():
            make_rocket(source="arrived while reading")
    assert seen == [f"Pad {at}" for at in reversed(range(7))]


def test_the_estimated_time_counts_down_in_lists_and_alone(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    with work():
        begun = utcnow() - timedelta(seconds=100)
        rocket = make_rocket(
            phase=Phase.OUTBOUND, state=RocketState.IN_FLIGHT, estimated_time=600, counting_since=begun
        )
        rocket_id = rocket.id
    assert 490 <= listed(client, bob)[0]["estimated_time"] <= 500
    assert 490 <= client.get(f"/api/v1/job/{rocket_id}", headers=bob.headers).get_json()["estimated_time"] <= 500


def test_a_connection_that_was_lost_in_the_pool_does_not_show(client: FlaskClient, bob: Person, app: Flask):
    build(client, bob)
    assert len(listed(client, bob)) == 1
    with app.app_context():
        lost = []
        for _ in range(3):
            connection = db.engine.raw_connection()
            lost.append((connection, connection.driver_connection))
        for connection, driver in lost:
            connection.close()  # goes back to the pool ...
            driver.close()  # ... where the server ends it
    assert len(listed(client, bob)) == 1
    assert len(listed(client, bob)) == 1


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *[({name: value}, name) for name in ("source", "destination") for value in (None, 5, True, [], {}, "", "  ")],
        *[({"source": text}, "source") for text in ("x" * 256, "Ea\u0000rth", "line\nbreak")],
        *[
            ({"estimated_time": value}, "estimated_time")
            for value in (None, "60", "soon", True, -1, 1.5, [], 10**12, 10**30)
        ],
    ],
)
def test_a_wrong_field_of_a_new_rocket_is_422(client: FlaskClient, bob: Person, change: Any, field: str):
    body = assert_refused(build(client, bob, **change), 422, naming=field)
    assert body["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize("field", list(MISSION))
def test_a_missing_field_of_a_new_rocket_is_422(client: FlaskClient, bob: Person, field: str):
    body = {name: value for name, value in MISSION.items() if name != field}
    assert_refused(client.post("/api/v1/job", json=body, headers=bob.headers), 422, naming=field)


def test_every_wrong_field_is_named_at_once(client: FlaskClient, bob: Person):
    body = assert_refused(client.post("/api/v1/job", json={"source": 1}, headers=bob.headers), 422)
    assert [item["loc"] for item in body["detail"]] == [
        ["body", "source"],
        ["body", "destination"],
        ["body", "estimated_time"],
    ]


def test_unknown_fields_are_ignored_in_a_new_rocket_and_named_in_a_report(client: FlaskClient, bob: Person):
    made = build(client, bob, colour="red", state="Landed_On_Mars")
    assert (made.status_code, made.get_json()["state"]) == (201, "Preparing")
    assert_refused(patch(client, bob, made.get_json()["id"], colour="red"), 422, naming="colour")


@pytest.mark.parametrize(
    ("report", "field"),
    [
        ({"state": "Flying"}, "state"),
        ({"state": 1}, "state"),
        ({"status": "queued"}, "status"),
        ({"status": []}, "status"),
        ({"location": ""}, "location"),
        ({"location": "x" * 256}, "location"),
        ({"estimated_time": "soon"}, "estimated_time"),
        ({"estimated_time": False}, "estimated_time"),
    ],
)
def test_a_wrong_report_is_422_and_changes_nothing(client: FlaskClient, bob: Person, report: Any, field: str):
    before = build(client, bob).get_json()
    assert_refused(patch(client, bob, before["id"], **{"location": "elsewhere", **report}), 422, naming=field)
    assert client.get(f"/api/v1/job/{before['id']}", headers=bob.headers).get_json() == before


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/job"), ("PATCH", "/api/v1/job/{id}")])
def test_broken_bodies(client: FlaskClient, bob: Person, method: str, path: str):
    where = path.format(id=build(client, bob).get_json()["id"])

    def send(data: bytes, kind: str) -> Any:
        return client.open(where, method=method, data=data, content_type=kind, headers=bob.headers)

    assert_refused(send(b'{"source": ', "application/json"), 400)
    assert_refused(send(b'{"source": NaN}', "application/json"), 400)
    assert_refused(send(b'"\xff"', "application/json"), 400)
    assert_refused(send(b"[" * 5000, "application/json"), 400)
    assert_refused(send(b"source=Earth", "application/x-www-form-urlencoded"), 415)
    assert_refused(send(b"{}", "text/plain"), 415)
    assert_refused(send(b"[]", "application/json"), 422)
    assert_refused(send(b'{"source": "' + b"x" * 9_000_000 + b'"}', "application/json"), 413)


def test_a_wrong_verb_is_405_and_an_unknown_address_404_both_in_json(client: FlaskClient, bob: Person):
    html = {**bob.headers, "Accept": "text/html"}
    refused = client.put("/api/v1/job", headers=html)
    assert_refused(refused, 405)
    assert {"GET", "POST"} <= set(refused.headers["Allow"].split(", "))
    assert_refused(client.get("/api/v1/nowhere", headers=html), 404)


# --- who is let in ----------------------------------------------------------------------------------------------------

DOORS = [
    ("POST", "/api/v1/job"),
    ("GET", "/api/v1/job"),
    ("GET", "/api/v1/job/{id}"),
    ("PATCH", "/api/v1/job/{id}"),
    ("DELETE", "/api/v1/job/{id}"),
    ("POST", "/api/v1/job/{id}/trigger"),
    ("GET", "/api/v1/job/{id}/history"),
]


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_nobody_comes_in_without_a_token(client: FlaskClient, method: str, path: str):
    answer = client.open(path.format(id=uuid.uuid4()), method=method, json=MISSION)
    assert_refused(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), [door for door in DOORS if "{id}" in door[1]])
def test_a_stranger_learns_nothing_of_a_rocket(client: FlaskClient, people: Cast, method: str, path: str):
    rocket_id = build(client, people.bob).get_json()["id"]
    answer = client.open(path.format(id=rocket_id), method=method, json={}, headers=people.charlie.headers)
    assert_refused(answer, 404)
    assert client.get(f"/api/v1/job/{rocket_id}", headers=people.bob.headers).status_code == 200


def test_a_stranger_sees_an_empty_fleet_and_builds_nothing(client: FlaskClient, people: Cast):
    build(client, people.bob)
    assert listed(client, people.charlie) == []
    assert_refused(build(client, people.charlie), 403)


@pytest.mark.parametrize(("method", "path"), DOORS)
def test_a_viewer_looks_and_touches_nothing(client: FlaskClient, people: Cast, method: str, path: str):
    rocket_id = build(client, people.bob).get_json()["id"]
    body = MISSION if path == "/api/v1/job" else {"location": "elsewhere"}
    answer = client.open(path.format(id=rocket_id), method=method, json=body, headers=people.rita.headers)
    if method == "GET":
        assert answer.status_code == 200
    else:
        assert_refused(answer, 403)
    assert [rocket["location"] for rocket in listed(client, people.bob)] == ["Earth"]


@pytest.mark.parametrize("name", ["alice", "bob", "dave"])
def test_operators_developers_and_admins_may_do_all_of_it(client: FlaskClient, people: Cast, name: str):
    person = getattr(people, name)
    rocket_id = build(client, person).get_json()["id"]
    assert patch(client, person, rocket_id, state="Ready").status_code == 200
    assert client.post(f"/api/v1/job/{rocket_id}/trigger", headers=person.headers).status_code == 200
    assert client.delete(f"/api/v1/job/{rocket_id}", headers=person.headers).status_code == 204


def test_rockets_of_another_project_do_not_show(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    with work():
        hidden = make_rocket(project_id=make_project().id).id
    assert listed(client, bob) == []
    assert_refused(client.get(f"/api/v1/job/{hidden}", headers=bob.headers), 404)


def scoped(client: FlaskClient, alice: Person, *scopes: str, role: str = "operator") -> dict[str, str]:
    body = {"name": "machine", "role": role, "scopes": scopes}
    made = client.post("/api/v1/service-tokens", json=body, headers=alice.headers).get_json()
    return {"Authorization": f"Bearer {made['token']}"}


def test_a_service_token_does_what_its_scopes_say_and_no_more(client: FlaskClient, people: Cast):
    rocket_id = build(client, people.bob).get_json()["id"]
    path = f"/api/v1/job/{rocket_id}"
    reader = scoped(client, people.alice, "read", role="admin")
    assert client.get(path, headers=reader).status_code == 200
    body = assert_refused(client.patch(path, json={"state": "Ready"}, headers=reader), 403)
    assert body["details"]["needed_scope"] == "rockets:write"
    assert_refused(client.post(f"{path}/trigger", headers=reader), 403)
    flier = scoped(client, people.alice, "rockets:write")
    assert client.patch(path, json={"state": "Ready"}, headers=flier).status_code == 200
    assert_refused(client.post(f"{path}/trigger", headers=flier), 403)
    starter = scoped(client, people.alice, "jobs:run")
    assert client.post(f"{path}/trigger", headers=starter).status_code == 200
    assert_refused(client.delete(path, headers=starter), 403)
    weak = scoped(client, people.alice, "read", "rockets:write", role="viewer")
    assert_refused(client.patch(path, json={"state": "RUD"}, headers=weak), 403)


# --- rockets that carry a job -----------------------------------------------------------------------------------------


def test_a_carrier_is_flown_by_its_job_and_goes_with_it(client: FlaskClient, bob: Person, work: Callable[..., Any]):
    with work():
        job = make_job()
        job_id = str(job.id)
        rocket_id = str(make_rocket(job_id=job.id).id)
    assert_refused(patch(client, bob, rocket_id, state="Ready"), 409)
    assert_refused(client.delete(f"/api/v1/job/{rocket_id}", headers=bob.headers), 409)
    flight = client.post(f"/api/v1/job/{rocket_id}/trigger", headers=bob.headers).get_json()["dag_run_id"]
    runs = client.get(f"/api/v1/jobs/{job_id}/runs", headers=bob.headers).get_json()
    assert [run["run_id"] for run in runs] == [flight]
