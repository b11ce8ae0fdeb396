"""No door is left open: each is in the policy table, and each does what the table says to whoever comes."""

import re
import uuid
from collections.abc import Iterator

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.support.people import Cast
from webapp.policy import POLICY, SAME_ORIGIN, Access

SOME_ID = str(uuid.UUID(int=7))


def doors(app: Flask, *accesses: Access) -> Iterator[tuple[Rule, str, str]]:
    """Every rule with these rights, an address that it matches, and each of its verbs."""
    for rule in app.url_map.iter_rules():
        if POLICY[rule.endpoint] in accesses and not rule.websocket:
            one_of = re.sub(r"<any\((\w+)[^>]*>", r"\1", rule.rule)
            address = re.sub(r"<[^>]*>", SOME_ID, one_of)
            for verb in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, address, verb


def ask(client: FlaskClient, verb: str, address: str, headers: dict[str, str] | None = None) -> TestResponse:
    """Ask as a machine under /api, as a browser elsewhere: by that, machines are led from root addresses to JSON."""
    accept = "application/json" if address.startswith("/api") else "text/html"
    body = {} if verb == "GET" else {"json": {}} if address.startswith("/api") else {"data": {"x": "1"}}
    return client.open(address, method=verb, headers={"Accept": accept, **(headers or {})}, **body)


def test_each_door_is_in_the_table_and_each_line_of_the_table_is_a_door(app: Flask) -> None:
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(POLICY)


def test_websockets_are_in_the_table_too(app: Flask) -> None:
    sockets = {rule.rule: rule.endpoint for rule in app.url_map.iter_rules() if rule.websocket}
    assert {"/live", "/api/v1/ws/jobs"} <= set(sockets)
    assert set(sockets.values()) <= set(POLICY)


def test_a_door_that_is_not_in_the_table_lets_nobody_in(app: Flask, people: Cast) -> None:
    app.add_url_rule("/api/v1/forgotten", "forgotten", lambda: "secrets")
    assert app.test_client().get("/api/v1/forgotten", headers=people.alice.headers).status_code == 401


def test_a_stranger_is_refused_at_every_door_that_is_not_public(app: Flask, people: Cast) -> None:
    open_doors = []
    for rule, address, verb in doors(app, Access.SIGNED_IN, Access.ADMIN):
        answer = ask(app.test_client(), verb, address)
        to_login = answer.status_code == 303 and answer.location.startswith("/login")
        if answer.status_code != 401 and not to_login:
            open_doors.append(f"{verb} {rule.rule}: {answer.status_code}")
    assert open_doors == []


def test_a_token_that_is_no_good_is_refused_at_every_json_door(app: Flask) -> None:
    for token in ("nonsense", "a.b.c", "hoh_nonsense", ""):
        for rule, address, verb in doors(app, Access.SIGNED_IN, Access.ADMIN):
            if rule.rule.startswith("/api"):
                headers = {"Authorization": f"Bearer {token}"}
                answer = app.test_client().open(address, method=verb, headers=headers)
                assert answer.status_code == 401, (verb, rule.rule, token)


def test_only_admins_pass_the_doors_for_admins(app: Flask, people: Cast) -> None:
    for rule, address, verb in doors(app, Access.ADMIN):
        for person in (people.bob, people.dave, people.rita, people.charlie):
            answer = ask(app.test_client(), verb, address, person.headers)
            assert answer.status_code == 403, (verb, rule.rule, person.username)


def test_charlie_sees_nothing_of_anybodys_project(app: Flask, people: Cast) -> None:
    for rule, address, verb in doors(app, Access.SIGNED_IN):
        if rule.rule.startswith("/api") and rule.arguments and verb == "GET":
            answer = app.test_client().get(address, headers=people.charlie.headers)
            assert answer.status_code == 404, (verb, rule.rule, answer.status_code)


def test_a_viewer_changes_nothing(app: Flask, people: Cast) -> None:
    """Rita's role is enforced below the doors: whatever she sends, nothing is created, changed or deleted."""
    own = {"users_api.logout", "users_api.auth_signout", "users_api.auth_logout", "users_api.auth_password"}
    for rule, address, verb in doors(app, Access.SIGNED_IN):
        if rule.rule.startswith("/api") and verb != "GET" and rule.endpoint not in own:
            answer = app.test_client().open(address, method=verb, headers=people.rita.headers, json={})
            is_question = rule.endpoint == "etl_api.preview_schedule"
            assert answer.status_code in {400, 403, 404, 422} or is_question, (verb, rule.rule, answer.status_code)


def test_nothing_changes_by_get(app: Flask) -> None:
    """A verb in an address is a change; by GET it may only show the question that its POST answers."""
    verbs = re.compile(r"/(delete|cancel|run|retry|trigger|revoke|logout|signout|pause|resume|launch|abort)$")
    methods: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        methods.setdefault(rule.rule, set()).update(rule.methods or ())
    found = [
        path
        for path, verbs_of in methods.items()
        if verbs.search(path) and verbs_of & {"GET"} and "POST" not in verbs_of
    ]
    assert found == []


def test_a_browsers_cookie_needs_a_form_token_for_every_unsafe_verb(app: Flask, people: Cast) -> None:
    for rule, address, verb in doors(app, Access.SIGNED_IN, Access.ADMIN):
        if verb != "GET" and rule.endpoint.partition(".")[0] not in SAME_ORIGIN:
            answer = ask(people.alice.browser().client, verb, address)
            assert answer.status_code == 403, (verb, rule.rule, answer.status_code)
            assert "form" in answer.text.lower(), (verb, rule.rule)


def test_where_a_cookie_needs_no_form_token_other_origins_are_refused(app: Flask, people: Cast) -> None:
    for rule, address, verb in doors(app, Access.SIGNED_IN):
        if verb != "GET" and rule.endpoint.partition(".")[0] in SAME_ORIGIN:
            for foreign in (
                {"Origin": "https://elsewhere.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "same-site"},
            ):
                answer = ask(people.alice.browser().client, verb, address, foreign)
                assert answer.status_code == 403, (verb, rule.rule, answer.status_code)
                assert "origin" in answer.text.lower(), (verb, rule.rule)
