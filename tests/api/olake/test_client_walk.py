"""OLake's own web client, walked through a real server: the calls that it makes, in its order, with what it reads."""

import http.cookiejar
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.olake.client import LIKE_THE_CLIENT
from tests.browser.missions import SlowSource, slow_source, unique
from tests.jobs.syncs import VERSION, add_rows, choice, make_source, stream
from tests.support.stacks import Stack

PROJECT = "/api/v1/project/123"


class WebClient:
    """A browser window with the client in it: what says who it is, is its cookie."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """One call: the status, and the envelope, which every answer has."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**LIKE_THE_CLIENT, **({"Content-Type": "application/json"} if data is not None else {})}
        request = urllib.request.Request(self.stack.url + path, data=data, method=method, headers=headers)
        try:
            with self.opener.open(request, timeout=60) as answer:
                status, found = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                status, found = error.code, json.load(error)
        assert found["success"] is (status == 200)
        assert isinstance(found["message"], str)
        return status, found

    def data(self, method: str, path: str, body: Any = None) -> Any:
        """What a successful call of the project answers."""
        status, found = self.ask(method, f"{PROJECT}/{path}", body)
        assert status == 200, found
        return found["data"]

    def refused(self, status: int, method: str, path: str, body: Any = None) -> str:
        """The message of a call that is refused with this status."""
        answered, found = self.ask(method, path, body)
        assert answered == status, found
        return str(found["message"])

    def finished(self, job: int, count: int) -> list[dict[str, Any]]:
        """The job's tasks, once there are so many and the newest has ended."""

        def look() -> list[dict[str, Any]] | None:
            tasks: list[dict[str, Any]] = self.data("GET", f"jobs/{job}/tasks")
            over = len(tasks) == count and tasks[0]["status"].lower() in ("completed", "failed", "cancelled")
            return tasks if over else None

        found: list[dict[str, Any]] = self.stack.wait_for(look, seconds=60, what=f"task {count} of job {job}")
        return found


@pytest.fixture
def web(stack: Stack) -> WebClient:
    """Somebody who has signed up and logged in."""
    stack.owner_token()  # the first who registers owns the instance: that is somebody else
    client = WebClient(stack)
    account = {"username": f"walker-{secrets.token_hex(4)}", "password": secrets.token_urlsafe(12)}
    account["email"] = f"{account['username']}@example.org"
    status, made = client.ask("POST", "/signup", account)
    assert (status, made["data"]) == (200, {"email": account["email"], "username": account["username"]})
    status, _ = client.ask("POST", "/login", {"username": account["username"], "password": account["password"]})
    assert status == 200
    assert "olake-session" in {cookie.name for cookie in client.cookies}
    return client


@pytest.fixture
def slow() -> Iterator[SlowSource]:
    """A source that keeps its readers waiting."""
    with slow_source() as source:
        yield source


def end(name: str, type_: str, **config: Any) -> dict[str, Any]:
    """A source or a destination as the client sends it: its configuration is a string."""
    return {"name": name, "type": type_, "version": VERSION, "config": json.dumps(config)}


def job_of(name: str, source: dict[str, Any], destination: dict[str, Any], streams: Any) -> dict[str, Any]:
    """A job as the client sends it."""
    config = json.dumps({key: streams[key] for key in ("selected_streams", "streams")})
    return {"name": name, "source": source, "destination": destination, "frequency": "", "streams_config": config}


def test_who_is_signed_in_is_known_by_the_cookie_and_nothing_is_reported(web: WebClient) -> None:
    for path in ("/auth", "/auth/check"):
        status, found = web.ask("GET", path)
        assert status == 200
        assert found["data"]["username"].startswith("walker-")
    assert web.ask("GET", "/telemetry-id")[1]["data"] == {"user_id": ""}
    assert web.data("GET", "sources/versions/?type=sqlite") == {"version": [VERSION]}


@pytest.mark.parametrize(("role", "type_"), [("sources", "postgres"), ("sources", "mysql"), ("destinations", "s3")])
def test_specs_come_by_get_with_a_body_and_by_post(web: WebClient, role: str, type_: str) -> None:
    asked = {"type": type_, "version": VERSION, "source_type": "postgres", "source_version": ""}
    got, posted = (web.data(method, f"{role}/spec", asked) for method in ("GET", "POST"))
    assert got == posted
    assert (got["type"], got["version"]) == (type_, VERSION)
    assert got["spec"]["jsonschema"]["properties"]
    assert isinstance(json.loads(got["spec"]["uischema"]), dict)
    assert web.data("POST", f"{role}/spec", {**asked, "version": "v0.2.3"})["version"] == VERSION


def test_a_job_is_made_synced_twice_looked_at_changed_and_deleted(web: WebClient) -> None:
    name = unique("walk").replace(" ", "_")
    make_source(web.stack.home / "data" / f"{name}.db", rows=4)
    source, destination = end(name, "sqlite", path=f"{name}.db"), end(name, "duckdb", path=f"{name}.duckdb")
    _test_both_ends(web, source, destination)
    streams = _discovered(web, name, source)

    assert web.data("POST", "jobs/check-unique", {"job_name": name}) == {"unique": True}
    sent = job_of(name, source, destination, streams)
    web.data("POST", "jobs", sent)
    assert web.data("POST", "jobs/check-unique", {"job_name": name}) == {"unique": False}
    job = next(one for one in web.data("GET", "jobs") if one["name"] == name)
    assert (job["activate"], job["streams_config"]) == (True, sent["streams_config"])
    assert not {"last_run_time", "last_run_state"} & job.keys()
    _used(web, job)

    tasks = _synced_twice(web, job["id"], name)
    _logged(web, job["id"], tasks[0])
    listed = next(one for one in web.data("GET", "jobs") if one["id"] == job["id"])
    assert listed["last_run_state"].lower() == "completed"
    assert listed["last_run_time"]

    _changed(web, job, sent)
    _put_away(web, job)


def _test_both_ends(web: WebClient, source: dict[str, Any], destination: dict[str, Any]) -> None:
    tried = {key: source[key] for key in ("type", "version", "config")}
    works = web.data("POST", "sources/test", tried)
    assert (works["connection_result"]["status"], works["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert {"level", "message"} == works["logs"][0].keys()
    fails = web.data("POST", "sources/test", {**tried, "config": json.dumps({"path": "nothing-here.db"})})
    assert fails["connection_result"]["status"] != "SUCCEEDED"
    assert fails["message"] == fails["connection_result"]["message"] != ""
    other = {"source_type": "sqlite", "source_version": VERSION, "type": "duckdb", "version": VERSION}
    works = web.data("POST", "destinations/test", {**other, "config": destination["config"]})
    assert works["connection_result"]["status"] == "SUCCEEDED"


def _discovered(web: WebClient, name: str, source: dict[str, Any]) -> Any:
    asked = {**source, "job_name": name, "job_id": -1}
    posted = web.data("POST", "sources/streams", asked)
    got = web.data("GET", "source/streams", asked)
    assert json.loads(got["streams_config"]) == posted == {key: got[key] for key in posted}
    probes = next(one["stream"] for one in posted["streams"] if one["stream"]["name"] == "probes")
    assert probes["source_defined_primary_key"] == ["id"]
    assert probes["type_schema"]["properties"]["name"]["destination_column_name"] == "name"
    assert probes["destination_database"].endswith(":main")
    return posted


def _used(web: WebClient, job: dict[str, Any]) -> None:
    """Both ends say which job uses them, without a last run; each is a way to find the job."""
    for role, key in (("source", "source_id"), ("destination", "dest_id")):
        listed = next(one for one in web.data("GET", f"{role}s") if one["name"] == job[role]["name"])
        [use] = listed["jobs"]
        assert (use["id"], use["name"], use["activate"]) == (job["id"], job["name"], True)
        assert not {"last_run_time", "last_run_state"} & use.keys()
        number = listed["id"]
        for path in (f"jobs?{key}={number}", f"jobs/{key}=%22{number}%22", f"jobs/{key}={number}"):
            assert [one["id"] for one in web.data("GET", path)] == [job["id"]]


def _synced_twice(web: WebClient, job: int, file: str) -> list[dict[str, Any]]:
    web.data("POST", f"jobs/{job}/sync")
    [first] = web.finished(job, 1)
    assert first["status"].lower() == "completed"
    assert isinstance(first["start_time"], str)
    assert first["runtime"].endswith("s")
    add_rows(web.stack.home / "data" / f"{file}.db", 5, 9)
    web.data("POST", f"jobs/{job}/sync")
    tasks = web.finished(job, 2)
    assert [task["status"].lower() for task in tasks] == ["completed", "completed"]
    assert tasks[1]["file_path"] == first["file_path"] != tasks[0]["file_path"]
    return tasks


def _logged(web: WebClient, job: int, task: dict[str, Any]) -> None:
    lines = web.data("POST", f"jobs/{job}/tasks/1/logs", {"file_path": task["file_path"]})
    assert any("9 rows landed" in line["message"] for line in lines)
    assert all({"level", "time", "message"} == line.keys() for line in lines)
    assert {line["level"] for line in lines} <= {"debug", "info", "warn", "warning", "error", "fatal"}
    assert web.data("GET", f"jobs/{job}/task/{task['id']}/logs") == {"task_logs": lines}


def _changed(web: WebClient, job: dict[str, Any], sent: dict[str, Any]) -> None:
    for wanted in (False, True):
        assert web.data("POST", f"jobs/{job['id']}/activate", {"activate": wanted}) == {"activate": wanted}
    streams = json.loads(sent["streams_config"])
    streams["selected_streams"] = {"main": streams["selected_streams"]["main"][:1]}
    changed = {**sent, "frequency": "0 1 * * 0", "streams_config": json.dumps(streams), "activate": True}
    found = web.data("PUT", f"jobs/{job['id']}", changed)
    assert {key: found[key] for key in ("frequency", "streams_config", "activate")} == {
        key: changed[key] for key in ("frequency", "streams_config", "activate")
    }


def _put_away(web: WebClient, job: dict[str, Any]) -> None:
    assert web.data("DELETE", f"sources/{job['source']['id']}") == {"name": job["source"]["name"]}
    left = next(one for one in web.data("GET", "jobs") if one["id"] == job["id"])
    assert (left["activate"], left["source"]["name"]) == (False, job["source"]["name"])
    assert web.data("DELETE", f"jobs/{job['id']}") == {"name": job["name"]}
    web.refused(404, "DELETE", f"{PROJECT}/jobs/{job['id']}")
    assert web.data("DELETE", f"destinations/{job['destination']['id']}") == {"name": job["destination"]["name"]}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_sync_under_way_is_cancelled(web: WebClient, slow: SlowSource, method: str) -> None:
    name = unique("slow").replace(" ", "_")
    described = [{"name": "probes", "path": "/probes"}]
    source = end(name, "rest", base_url=slow.url, streams=described, pagination={"type": "page"})
    column = {"type": ["integer", "null"], "destination_column_name": "id", "data_type": "BIGINT"}
    probes = stream("probes", namespace="", type_schema={"properties": {"id": column}})
    streams = {"streams": [probes], "selected_streams": {"": [choice("probes")]}}
    web.data("POST", "jobs", job_of(name, source, end(name, "duckdb", path=f"{name}.duckdb"), streams))
    job = next(one for one in web.data("GET", "jobs") if one["name"] == name)["id"]
    web.refused(409, method, f"{PROJECT}/jobs/{job}/cancel")
    web.data("POST", f"jobs/{job}/sync")
    _until(web.stack, lambda: web.data("GET", f"jobs/{job}/tasks")[0]["status"].lower() == "running")
    assert web.data(method, f"jobs/{job}/cancel")["message"]
    assert web.finished(job, 1)[0]["status"].lower() == "cancelled"
    web.data("DELETE", f"jobs/{job}")


def _until(stack: Stack, is_so: Callable[[], bool]) -> None:
    stack.wait_for(is_so, seconds=60, what="the sync to be under way")


def test_a_wrong_password_is_no_401_and_a_taken_name_a_conflict(stack: Stack) -> None:
    client, owner = WebClient(stack), stack.owner
    client.refused(400, "POST", "/login", {"username": owner["username"], "password": "wrong"})
    client.refused(409, "POST", "/signup", {**owner, "email": "other@example.org"})


def test_without_the_cookie_every_call_is_401(stack: Stack) -> None:
    stranger = WebClient(stack)
    stranger.refused(401, "GET", "/auth")
    for method, path in (("GET", "sources"), ("GET", "jobs"), ("POST", "jobs/check-unique"), ("GET", "jobs/1/tasks")):
        body = {"job_name": "x"} if method == "POST" else None
        stranger.refused(401, method, f"{PROJECT}/{path}", body)
