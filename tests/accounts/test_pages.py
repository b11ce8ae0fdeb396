"""Registration, log-in, log-out and settings, as a browser uses them."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from tests import factories
from tests.support.people import Browser, Cast, Person
from webapp.accounts import operations as accounts
from webapp.config import Registration, Role, Settings

NEWCOMER = {"username": "zoe", "password": "a good password", "email": "zoe@example.org"}
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


def sign_in(browser: Browser, name: str = "alice", password: str = factories.PASSWORD, **more: str) -> int:
    return browser.post("/login", {"username": name, "password": password, **more}).status_code


# --- the owner --------------------------------------------------------------------------------------------------------


def test_before_there_is_an_owner_the_board_leads_to_the_owner_form(app: Flask) -> None:
    browser = Browser(app)
    first = browser.get("/")
    assert first.status_code == 200
    assert 'href="/register' in first.text
    assert browser.get("/settings").location == "/register"
    page = browser.get("/register")
    assert page.status_code == 200
    assert 'action="/register"' in page.text
    assert 'type="password"' in page.text


def test_the_first_one_who_registers_from_loopback_owns_the_instance(app: Flask, look: Callable) -> None:
    browser = Browser(app)
    answer = browser.post("/register", NEWCOMER)
    assert (answer.status_code, answer.location) == (303, "/")
    assert browser.get("/settings").status_code == 200
    with look():
        assert accounts.owner_exists()


def test_from_elsewhere_the_owner_needs_the_printed_link(app: Flask, work: Callable, look: Callable) -> None:
    browser = Browser(app)
    assert browser.get("/register", environ_base=ELSEWHERE).status_code == 403
    assert browser.post("/register", NEWCOMER, environ_base=ELSEWHERE).status_code == 403
    with work():
        token = accounts.make_owner_token()
    assert browser.get("/register?token=wrong", environ_base=ELSEWHERE).status_code == 403
    page = browser.get(f"/register?token={token}", environ_base=ELSEWHERE)
    assert page.status_code == 200
    assert f'value="{token}"' in page.text
    answer = browser.post("/register", NEWCOMER | {"token": token}, environ_base=ELSEWHERE)
    assert answer.status_code == 303
    with look():
        assert accounts.owner_exists()
        assert not accounts.owner_token_file().exists()


def test_a_name_of_another_site_that_points_here_is_not_loopback(app: Flask) -> None:
    answer = Browser(app).get("/register", base_url="http://evil.example:8000")
    assert answer.status_code == 403


# --- registration of others -------------------------------------------------------------------------------------------


def test_registration_is_open_on_loopback_and_gives_the_default_role(people: Cast, app: Flask, look: Callable) -> None:
    assert Browser(app).post("/register", NEWCOMER).status_code == 303
    with look():
        found = next(user for user in accounts.list_users(people.alice.actor) if user.username == "zoe")
        assert found.role is Role.OPERATOR
        assert not found.is_owner


@pytest.mark.parametrize("mode", [Registration.INVITE, Registration.CLOSED])
def test_registration_can_be_shut(settings: Settings, make_app: Callable, mode: Registration) -> None:
    app = make_app(replace(settings, registration=mode))
    Browser(app).post("/register", NEWCOMER)
    stranger = Browser(app)
    assert stranger.get("/register").status_code == 403
    assert stranger.post("/register", NEWCOMER | {"username": "yan", "email": ""}).status_code == 403


def test_an_invitation_lets_one_person_in_once(settings: Settings, make_app: Callable) -> None:
    app = make_app(replace(settings, registration=Registration.INVITE))
    owner = Browser(app)
    owner.post("/register", NEWCOMER)
    page = owner.post("/settings/invitations", {"role": "developer", "days": "3"})
    link = re.search(r"http://[^<]*/register\?token=([\w-]+)", page.text)
    assert link, page.text
    guest = {"username": "gus", "password": "a good password", "token": link[1]}
    assert Browser(app).post("/register", guest).status_code == 303
    assert Browser(app).post("/register", guest | {"username": "gil"}).status_code == 403


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("username", "", "This is needed"),
        ("username", "alice", "already registered"),
        ("email", "nonsense", "no email address"),
        ("email", "alice@example.org", "already registered"),
        ("password", "short", "8 to 1024"),
        ("username", "x" * 151, "150"),
        ("username", "a\x00b", "printable"),
    ],
)
def test_a_mistake_is_named_beside_its_field(app: Flask, people: Cast, field: str, value: str, says: str) -> None:
    page = Browser(app).post("/register", NEWCOMER | {field: value})
    assert page.status_code == 422
    assert re.search(rf'id="{field}-error"[^§]*?{says}', page.text), page.text
    assert NEWCOMER["password"] not in page.text


# --- log-in and log-out -----------------------------------------------------------------------------------------------


def test_log_in_goes_on_to_where_one_wanted_to_go(app: Flask, people: Cast) -> None:
    browser = Browser(app)
    assert browser.get("/settings/users").location == "/login?next=/settings/users"
    answer = browser.post("/login", {"username": "alice", "password": factories.PASSWORD, "next": "/settings/users"})
    assert (answer.status_code, answer.location) == (303, "/settings/users")


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/\t/x"]
)
def test_log_in_never_leads_elsewhere(app: Flask, people: Cast, target: str) -> None:
    answer = Browser(app).post("/login", {"username": "alice", "password": factories.PASSWORD, "next": target})
    assert (answer.status_code, answer.location) == (303, "/")


def test_wrong_password_and_unknown_user_look_the_same(app: Flask, people: Cast) -> None:
    wrong = Browser(app).post("/login", {"username": "alice", "password": "wrong password"})
    unknown = Browser(app).post("/login", {"username": "nobody", "password": "wrong password"})
    assert wrong.status_code == unknown.status_code == 422
    assert "Incorrect username or password" in wrong.text
    assert "Incorrect username or password" in unknown.text


def test_a_switched_off_account_does_not_come_in(app: Flask, people: Cast, work: Callable) -> None:
    with work():
        accounts.update_user(people.alice.actor, people.bob.id, is_active=False)
    page = Browser(app).post("/login", {"username": "bob", "password": factories.PASSWORD})
    assert page.status_code == 422
    assert "deactivated" in page.text


def test_too_many_failures_have_to_wait_but_successes_do_not_count(app: Flask, people: Cast) -> None:
    for _ in range(12):
        assert sign_in(Browser(app)) == 303
    tries = [sign_in(Browser(app), password="wrong password") for _ in range(12)]
    assert tries[:10] == [422] * 10
    assert tries[10:] == [429] * 2
    assert sign_in(Browser(app)) == 429


def test_log_in_without_a_form_token_is_refused(app: Flask, people: Cast) -> None:
    answer = app.test_client().post("/login", data={"username": "alice", "password": factories.PASSWORD})
    assert answer.status_code == 403


def test_what_was_planted_in_the_session_before_the_log_in_is_gone_afterwards(app: Flask, people: Cast) -> None:
    browser = Browser(app)
    with browser.client.session_transaction() as session:
        session["planted"] = "by somebody"
    sign_in(browser)
    with browser.client.session_transaction() as session:
        assert "planted" not in session


def test_logging_out_ends_the_session_and_every_copy_of_its_cookie(bob: Person) -> None:
    browser, other = bob.browser(), bob.browser()
    copy = Browser(bob.app, bob.cookie)
    assert browser.post("/logout").location == "/login"
    assert browser.get("/settings").status_code == 303
    assert copy.get("/settings").status_code == 303
    assert other.get("/settings").status_code == 303, "it is the same session: people.py gives a person one"


def test_logging_out_leaves_other_sessions_alone(app: Flask, people: Cast) -> None:
    here, there = Browser(app), Browser(app)
    sign_in(here)
    sign_in(there)
    here.post("/logout")
    assert here.get("/settings").status_code == 303
    assert there.get("/settings").status_code == 200


def test_logging_out_needs_the_form(bob: Person) -> None:
    assert bob.browser().client.post("/logout").status_code == 403
    assert bob.browser().client.get("/logout").status_code == 405


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_new_password_ends_all_other_sessions_and_tokens(app: Flask, people: Cast) -> None:
    here, there = Browser(app), Browser(app)
    sign_in(here, "bob")
    sign_in(there, "bob")
    form = {"old_password": factories.PASSWORD, "new_password": "another password"}
    assert here.post("/settings/password", form).status_code == 303
    assert here.get("/settings").status_code == 200
    assert there.get("/settings").status_code == 303
    assert app.test_client().get("/api/v1/auth/me", headers=people.bob.headers).status_code == 401
    assert sign_in(Browser(app), "bob", "another password") == 303


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"old_password": "wrong password", "new_password": "another password"}, "old_password"),
        ({"old_password": factories.PASSWORD, "new_password": "short"}, "new_password"),
    ],
)
def test_a_wrong_new_password_says_what_is_wrong(bob: Person, form: dict[str, str], field: str) -> None:
    page = bob.browser().post("/settings/password", form)
    assert page.status_code == 422
    assert f'id="{field}-error"' in page.text


def test_a_profile_can_be_changed_but_not_to_somebody_elses_email(bob: Person) -> None:
    browser = bob.browser()
    assert browser.post("/settings/profile", {"full_name": "Bob B.", "email": "b@example.org"}).status_code == 303
    assert "Bob B." in browser.get("/settings").text
    refused = browser.post("/settings/profile", {"full_name": "Bob", "email": "alice@example.org"})
    assert refused.status_code == 422
    assert "already registered" in refused.text


def test_admins_change_roles_and_switch_accounts_off(alice: Person, bob: Person) -> None:
    admin, user = alice.browser(), bob.browser()
    assert admin.post(f"/settings/users/{bob.id}", {"role": "viewer"}).status_code == 303
    assert user.get("/settings").status_code == 200
    assert admin.post(f"/settings/users/{bob.id}", {"is_active": "0"}).status_code == 303
    assert user.get("/settings").status_code == 303
    page = admin.get("/settings/users")
    assert page.status_code == 200
    assert "bob@example.org" in page.text


def test_the_owner_cannot_be_switched_off(alice: Person) -> None:
    assert alice.browser().post(f"/settings/users/{alice.id}", {"is_active": "0"}).status_code == 409


def test_a_machines_token_is_shown_once_and_dies_when_revoked(app: Flask, alice: Person) -> None:
    admin = alice.browser()
    page = admin.post("/settings/tokens", {"name": "airflow", "role": "operator", "scopes": ["read", "jobs:run"]})
    assert page.status_code == 200
    secret = re.search(r"hoh_[\w-]{30,}", page.text)
    assert secret, page.text
    machine = {"Authorization": f"Bearer {secret[0]}"}
    assert app.test_client().get("/api/v1/jobs", headers=machine).status_code == 200
    listed = admin.get("/settings/tokens").text
    assert secret[0] not in listed
    address = re.search(r"/settings/tokens/[\w-]+/revoke", listed)
    assert address
    assert admin.post(address[0]).status_code == 303
    assert app.test_client().get("/api/v1/jobs", headers=machine).status_code == 401


@pytest.mark.parametrize("form", [{"name": ""}, {"scopes": []}, {"role": "king"}, {"expires_on": "tomorrow"}])
def test_a_token_with_a_mistake_is_not_made(alice: Person, form: dict[str, object]) -> None:
    admin = alice.browser()
    page = admin.post("/settings/tokens", {"name": "x", "role": "viewer", "scopes": ["read"]} | form)
    assert page.status_code == 422
    assert "hoh_" not in page.text
    assert "No machine has a token" in page.text


ADMIN_PAGES = ["/settings/users", "/settings/tokens"]
ADMIN_VERBS = ["/settings/invitations", "/settings/tokens", f"/settings/users/{factories.unknown_id()}",
               f"/settings/tokens/{factories.unknown_id()}/revoke"]  # fmt: skip


def test_only_admins_see_people_and_machines(people: Cast, app: Flask) -> None:
    for person in (people.bob, people.dave, people.rita, people.charlie):
        for path in ADMIN_PAGES:
            assert person.browser().get(path).status_code == 403, (person.username, path)
        for path in ADMIN_VERBS:
            assert person.browser().post(path).status_code == 403, (person.username, path)
    for path in [*ADMIN_PAGES, "/settings"]:
        assert Browser(app).get(path).status_code == 303


def test_an_unknown_user_or_token_is_not_found(alice: Person) -> None:
    for path in ADMIN_VERBS[2:]:
        assert alice.browser().post(path, {"role": "viewer"}).status_code == 404
