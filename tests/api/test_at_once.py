"""Many machines at the same time, against the real stack with its two web processes."""

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.stacks import Stack

MISSION = {"source": "Earth", "destination": "Mars", "estimated_time": 3600}
PASSWORD = "a password that is long enough"
ENOUGH_TO_MEET_BOTH_PROCESSES = 24


def at_once(calls: list[Callable[[], tuple[int, Any, Any]]]) -> list[tuple[int, Any]]:
    """Status and body of all these calls, made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = [future.result() for future in [pool.submit(call) for call in calls]]
    return [(status, body) for status, body, _ in answers]


def make_person(stack: Stack) -> tuple[dict[str, str], str]:
    """A new operator: the account, and a token."""
    stack.owner_token()
    account = {"username": f"person-{uuid.uuid4().hex[:12]}", "password": PASSWORD}
    assert stack.request("POST", "/api/v1/register", account)[0] == 201
    return account, log_in(stack, account)


def log_in(stack: Stack, account: dict[str, str]) -> str:
    status, body, _ = stack.request("POST", "/api/v1/login", account)
    assert status == 200, body
    return str(body["access_token"])


def statuses(stack: Stack, token: str) -> set[int]:
    """What this token gets from all web processes."""
    calls = [lambda: stack.request("GET", "/api/v1/jobs", token=token)] * ENOUGH_TO_MEET_BOTH_PROCESSES
    return {status for status, _ in at_once(calls)}


# --- nothing is lost --------------------------------------------------------------------------------------------------


def test_changes_of_one_job_at_the_same_time_lose_nothing(stack: Stack):
    token = stack.owner_token()
    body = {"job_name": "contested", "schedule": "@manual", "is_active": True, "tasks": []}
    job_id = stack.request("POST", "/api/v1/jobs", body, token=token)[1]["job_id"]
    changes: list[dict[str, Any]] = [
        {"job_name": "contested and changed"},
        {"description": "all of it"},
        {"schedule": "0 9 * * *"},
        {"overlap": "skip"},
        {"missed": "all"},
        {"max_attempts": 7},
        {"concurrency_limit": 5},
        {"timeout_seconds": 77.0},
    ]
    answers = at_once([lambda c=c: stack.request("PATCH", f"/api/v1/jobs/{job_id}", c, token=token) for c in changes])
    assert [status for status, _ in answers] == [200] * len(changes)
    job = stack.request("GET", f"/api/v1/jobs/{job_id}", token=token)[1]
    for change in changes:
        assert job.items() >= change.items()


def test_reports_of_one_rocket_at_the_same_time_lose_nothing(stack: Stack):
    token = stack.owner_token()
    path = "/api/v1/job/" + stack.request("POST", "/api/v1/job", MISSION, token=token)[1]["id"]
    assert stack.request("PATCH", path, {"state": "RUD"}, token=token)[0] == 200  # off its flight plan
    reports: list[dict[str, Any]] = [{"location": "a field"}, {"estimated_time": 17}, {"status": "cancelled"}] * 3
    answers = at_once([lambda r=r: stack.request("PATCH", path, r, token=token) for r in reports])
    assert [status for status, _ in answers] == [200] * len(reports)
    rocket = stack.request("GET", path, token=token)[1]
    assert (rocket["location"], rocket["status"]) == ("a field", "cancelled")


def test_the_same_move_asked_for_many_times_at_once_happens_once(stack: Stack):
    token = stack.owner_token()
    path = "/api/v1/job/" + stack.request("POST", "/api/v1/job", MISSION, token=token)[1]["id"]
    for state in ("RUD", "Preparing", "Ready", "InFlight", "Landed_On_Mars"):
        answers = at_once([lambda s=state: stack.request("PATCH", path, {"state": s}, token=token)] * 6)
        assert [status for status, _ in answers] == [200] * 6, answers
    history = stack.request("GET", f"{path}/history", token=token)[1]
    counted = Counter(entry["state"] for entry in history if "set by" in entry["message"])
    assert counted == {"RUD": 1, "Preparing": 1, "Ready": 1, "InFlight": 1, "Landed_On_Mars": 1}


def test_rockets_built_at_once_are_all_there_once(stack: Stack):
    token = stack.owner_token()
    source = f"Pad {uuid.uuid4().hex}"
    calls = [lambda: stack.request("POST", "/api/v1/job", {**MISSION, "source": source}, token=token)] * 16
    ids = [body["id"] for status, body in at_once(calls) if status == 201]
    listed = stack.request("GET", f"/api/v1/job?source={source.replace(' ', '%20')}", token=token)[1]
    assert len(ids) == 16
    assert sorted(ids) == sorted(rocket["id"] for rocket in listed)


def test_one_name_registered_many_times_at_once_is_given_once(stack: Stack):
    stack.owner_token()
    account = {"username": f"wanted-{uuid.uuid4().hex[:12]}", "password": PASSWORD}
    answers = at_once([lambda: stack.request("POST", "/api/v1/register", account)] * 8)
    assert Counter(status for status, _ in answers) == {201: 1, 400: 7}


def test_of_many_first_visitors_exactly_one_becomes_the_owner(make_stack: Callable[..., Stack]):
    fresh = make_stack()
    accounts = [{"username": f"first-{at}", "password": PASSWORD} for at in range(6)]
    answers = at_once([lambda a=a: fresh.request("POST", "/api/v1/register", a) for a in accounts])
    assert [status for status, _ in answers] == [201] * 6
    assert Counter(body["role"] for _, body in answers) == {"admin": 1, "operator": 5}


def test_failed_log_ins_at_the_same_time_are_all_counted(make_stack: Callable[..., Stack]):
    fresh = make_stack()  # the count is kept for an address, which all tests share
    account, _ = make_person(fresh)
    wrong = {**account, "password": "not this one"}
    for _ in range(2):
        answers = at_once([lambda: fresh.request("POST", "/api/v1/login", wrong)] * 12)
        assert {status for status, _ in answers} <= {401, 429}
    assert fresh.request("POST", "/api/v1/login", account)[0] == 429


# --- what is revoked is revoked in every process ----------------------------------------------------------------------


def test_a_log_out_is_known_to_every_process_at_once(stack: Stack):
    account, token = make_person(stack)
    other = log_in(stack, account)
    assert statuses(stack, token) == statuses(stack, other) == {200}
    assert stack.request("POST", "/api/v1/logout", token=token)[0] == 204
    assert statuses(stack, token) == {401}
    assert statuses(stack, other) == {200}


def test_a_user_who_is_switched_off_is_out_of_every_process_at_once(stack: Stack):
    account, token = make_person(stack)
    me = stack.request("GET", "/api/v1/auth/me", token=token)[1]["id"]
    assert statuses(stack, token) == {200}
    owner = stack.owner_token()
    assert stack.request("PATCH", f"/api/v1/users/{me}", {"is_active": False}, token=owner)[0] == 200
    assert statuses(stack, token) == {401}
    assert stack.request("POST", "/api/v1/login", account)[0] == 403
    assert stack.request("PATCH", f"/api/v1/users/{me}", {"is_active": True}, token=owner)[0] == 200
    assert statuses(stack, token) == {401}
    assert statuses(stack, log_in(stack, account)) == {200}


def test_a_new_password_ends_the_old_tokens_in_every_process_at_once(stack: Stack):
    account, token = make_person(stack)
    other = log_in(stack, account)
    assert statuses(stack, token) == statuses(stack, other) == {200}
    change = {"old_password": PASSWORD, "new_password": PASSWORD + "!"}
    status, body, _ = stack.request("POST", "/api/v1/auth/password", change, token=token)
    assert status == 200, body
    assert statuses(stack, token) == statuses(stack, other) == {401}
    assert statuses(stack, body["token"]) == {200}


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_a_new_role_counts_in_every_process_at_once(stack: Stack, role: str):
    _, token = make_person(stack)
    me = stack.request("GET", "/api/v1/auth/me", token=token)[1]["id"]
    statuses(stack, token)
    assert stack.request("PATCH", f"/api/v1/users/{me}", {"role": role}, token=stack.owner_token())[0] == 200
    build = [lambda: stack.request("POST", "/api/v1/job", MISSION, token=token)] * ENOUGH_TO_MEET_BOTH_PROCESSES
    assert {status for status, _ in at_once(build)} == ({403} if role == "viewer" else {201})


def test_a_revoked_service_token_is_out_of_every_process_at_once(stack: Stack):
    owner = stack.owner_token()
    body = {"name": "machine", "role": "operator", "scopes": ["read"]}
    made = stack.request("POST", "/api/v1/service-tokens", body, token=owner)[1]
    assert statuses(stack, made["token"]) == {200}
    assert stack.request("DELETE", f"/api/v1/service-tokens/{made['id']}", token=owner)[0] == 200
    assert statuses(stack, made["token"]) == {401}


def test_one_machine_speaks_for_its_own_project_only_even_when_many_ask(stack: Stack):
    """What is cached for one token must never answer for another."""
    people = [make_person(stack) for _ in range(4)]
    who = [(account["username"], token) for account, token in people for _ in range(6)]
    calls = [lambda t=token: stack.request("GET", "/api/v1/auth/me", token=t) for _, token in who]
    names = [body["username"] for _, body in at_once(calls)]
    assert names == [name for name, _ in who]
