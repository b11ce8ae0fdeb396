"""Every answer is what Django REST framework 3.16 answers for the contract's models: it was asked the same."""

import json
import re
from typing import Any

import pytest

from tests.api.lister.client import JOBS, STATUSES, Caller

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=B"
PART = '--B\r\nContent-Disposition: form-data; name="name"{}\r\n\r\nmulti\r\n--B--\r\n'
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

REQUIRED, NULL, BLANK = "This field is required.", "This field may not be null.", "This field may not be blank."
LONG, NO_TEXT = "Ensure this field has no more than 255 characters.", "Not a valid string."
NO_NUL = "Null characters are not allowed."
BROKEN = "JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
NO_OBJECT = "Invalid data. Expected a dictionary, but got {}."


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("", {"name": [REQUIRED]}),
        ("{}", {"name": [REQUIRED]}),
        ('{"name": null}', {"name": [NULL]}),
        ('{"name": ""}', {"name": [BLANK]}),
        ('{"name": "   "}', {"name": [BLANK]}),
        (json.dumps({"name": "x" * 256}), {"name": [LONG]}),
        ('{"name": ["a"]}', {"name": [NO_TEXT]}),
        ('{"name": true}', {"name": [NO_TEXT]}),
        ('{"name": {}}', {"name": [NO_TEXT]}),
        ('{"name": "a\\u0000b"}', {"name": [NO_NUL]}),
        ('{"name": "\\ud800"}', {"name": ["Surrogate characters are not allowed: U+D800."]}),
        (json.dumps({"name": "\x00" + "x" * 300}), {"name": [LONG, NO_NUL]}),
        ("[]", {"non_field_errors": [NO_OBJECT.format("list")]}),
        ('"x"', {"non_field_errors": [NO_OBJECT.format("str")]}),
        ("true", {"non_field_errors": [NO_OBJECT.format("bool")]}),
        ("null", {"non_field_errors": ["No data provided"]}),
        ("{bad", {"detail": BROKEN}),
        ('{"name": NaN}', {"detail": "JSON parse error - Out of range float values are not JSON compliant: 'NaN'"}),
        ('{"name": "x"} more', {"detail": "JSON parse error - Extra data: line 1 column 15 (char 14)"}),
        (
            b"\xff",
            {"detail": "JSON parse error - 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"},
        ),
        ("[" * 100_000, {"detail": "JSON parse error - nested too deeply"}),
    ],
)
def test_a_name_that_cannot_be_used(operator: Caller, sent: str | bytes, said: Any) -> None:
    answer = operator.ask("POST", JOBS, data=sent, content_type="application/json")
    assert (answer.status_code, answer.get_json()) == (400, said)


@pytest.mark.parametrize(("sent", "kept"), [(5, "5"), (1.5, "1.5"), ("  cut  ", "cut"), (0, "0"), ("é🚀", "é🚀")])
def test_a_name_is_made_a_text(operator: Caller, sent: Any, kept: str) -> None:
    assert operator.post(JOBS, {"name": sent, "id": 99, "created_at": "2020-01-01"})["name"] == kept


@pytest.mark.parametrize(
    ("sent", "kind", "status", "name"),
    [
        ("name=form+job", FORM, 201, "form job"),
        ("name=a&name=b", FORM, 201, "b"),
        ("name=", FORM, 400, [BLANK]),
        ("", FORM, 400, [REQUIRED]),
        ("name=%00", FORM, 400, [NO_NUL]),
        (PART.format(""), MULTIPART, 201, "multi"),
        (PART.format('; filename="a.txt"'), MULTIPART, 400, [NO_TEXT]),
        ('{"name": "t"}', "application/json; charset=utf-8", 201, "t"),
        ('{"name": "t"}', "application/JSON", 201, "t"),
        ("", "text/plain", 400, [REQUIRED]),
    ],
)
def test_json_forms_and_multipart_are_read(operator: Caller, sent: str, kind: str, status: int, name: Any) -> None:
    answer = operator.ask("POST", JOBS, data=sent, content_type=kind)
    assert (answer.status_code, answer.get_json()["name"]) == (status, name)


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", "application/xml", "application/x+json"])
def test_other_media_types_are_refused(operator: Caller, kind: str) -> None:
    answer = operator.ask("POST", JOBS, data='{"name": "t"}', content_type=kind)
    said = {"detail": f'Unsupported media type "{kind}" in request.'}
    assert (answer.status_code, answer.get_json()) == (415, said)


def test_multipart_without_a_boundary_is_refused(operator: Caller) -> None:
    answer = operator.ask("POST", JOBS, data=PART.format(""), content_type="multipart/form-data")
    said = {"detail": "Multipart form parse error - Invalid boundary in multipart: None"}
    assert (answer.status_code, answer.get_json()) == (400, said)


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        *(("application/json", 200), ("*/*", 200), ("application/*", 200), ("application/json;q=0.5", 200)),
        *(("application/xml, application/json", 200), ("text/html", 200)),
        *(("image/png", 406), ("text/plain", 406), ("application/xml", 406), ("", 406), ("garbage", 406)),
    ],
)
def test_the_answer_is_json_or_406(operator: Caller, accept: str, status: int) -> None:
    answer = operator.ask("GET", JOBS, headers={"Accept": accept})
    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    if status == 406:
        assert answer.get_json() == {"detail": "Could not satisfy the request Accept header."}
    assert operator.get(f"{JOBS}?format=json")["count"] == 0
    assert operator.get(f"{JOBS}?format=xml", 404) == {"detail": "Not found."}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, {"job": [REQUIRED]}),
        ({"job": None}, {"job": [NULL]}),
        ({"job": ""}, {"job": [NULL]}),
        ({"job": 999}, {"job": ['Invalid pk "999" - object does not exist.']}),
        ({"job": -1}, {"job": ['Invalid pk "-1" - object does not exist.']}),
        ({"job": 10**30}, {"job": [f'Invalid pk "{10**30}" - object does not exist.']}),
        ({"job": "abc"}, {"job": ["Incorrect type. Expected pk value, received str."]}),
        ({"job": "1.0"}, {"job": ["Incorrect type. Expected pk value, received str."]}),
        ({"job": True}, {"job": ["Incorrect type. Expected pk value, received bool."]}),
        ({"job": []}, {"job": ["Incorrect type. Expected pk value, received list."]}),
        ({"job": {}}, {"job": ["Incorrect type. Expected pk value, received dict."]}),
        ({"job": 1, "status_type": "NOPE"}, {"status_type": ['"NOPE" is not a valid choice.']}),
        ({"job": 1, "status_type": "running"}, {"status_type": ['"running" is not a valid choice.']}),
        ({"job": 1, "status_type": None}, {"status_type": [NULL]}),
        ({"job": 1, "status_type": ""}, {"status_type": ['"" is not a valid choice.']}),
        ({"job": 1, "status_type": ["RUNNING"]}, {"status_type": ["\"['RUNNING']\" is not a valid choice."]}),
        ({"status_type": "X"}, {"job": [REQUIRED], "status_type": ['"X" is not a valid choice.']}),
        (
            {"job": 999, "status_type": "X"},
            {
                "job": ['Invalid pk "999" - object does not exist.'],
                "status_type": ['"X" is not a valid choice.'],
            },
        ),
        ([1], {"non_field_errors": [NO_OBJECT.format("list")]}),
    ],
)
def test_a_status_that_cannot_be_used(operator: Caller, sent: Any, said: Any) -> None:
    operator.make_job()
    assert operator.post(STATUSES, sent, 400) == said


@pytest.mark.parametrize("way", ["{}", '"{}"', '" {} "', "{}.0"])
def test_a_job_is_named_by_a_number_or_a_text_that_is_one(operator: Caller, way: str) -> None:
    job = operator.make_job()
    sent = f'{{"job": {way.format(job["id"])}}}'
    answer = operator.ask("POST", STATUSES, data=sent, content_type="application/json")
    assert answer.status_code == 201
    assert (answer.get_json()["job"], answer.get_json()["status_type"]) == (job["id"], "PENDING")


def test_a_field_that_nobody_filled_in_is_as_good_as_absent_in_a_form(operator: Caller) -> None:
    job = operator.make_job()
    answer = operator.ask("POST", STATUSES, data=f"job={job['id']}&status_type=", content_type=FORM)
    assert (answer.status_code, answer.get_json()["status_type"]) == (201, "PENDING")
    answer = operator.ask("POST", STATUSES, data="job=", content_type=FORM)
    assert (answer.status_code, answer.get_json()) == (400, {"job": [NULL]})


def test_a_job_is_shown_with_times_of_six_digits(operator: Caller) -> None:
    job = operator.make_job()
    assert list(job) == ["id", "name", "created_at", "updated_at", "current_status", "statuses"]
    assert INSTANT.fullmatch(job["created_at"])
    assert INSTANT.fullmatch(job["updated_at"])
    assert operator.get(f"{JOBS}{job['id']}/") == job
    status = operator.get(f"{STATUSES}{job['statuses'][0]['id']}/")
    assert list(status) == ["id", "job", "status_type", "timestamp"]
    assert INSTANT.fullmatch(status["timestamp"])


@pytest.mark.parametrize("path", [JOBS, STATUSES])
def test_what_is_not_there(operator: Caller, path: str) -> None:
    what = "Job" if path == JOBS else "JobStatus"
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        for absent in ("999", "-1", str(10**40)):
            answer = operator.ask(method, f"{path}{absent}/", {} if method != "GET" else None)
            said = {"detail": f"No {what} matches the given query."}
            assert (answer.status_code, answer.get_json()) == (404, said)
        for strange in ("abc", "1.5", "0x1", "1e3"):
            answer = operator.ask(method, f"{path}{strange}/", {} if method != "GET" else None)
            assert (answer.status_code, answer.get_json()) == (404, {"detail": "Not found."})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", JOBS, "GET, POST, HEAD, OPTIONS"),
        ("DELETE", STATUSES, "GET, POST, HEAD, OPTIONS"),
        ("POST", f"{JOBS}1/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        ("POST", "/api/", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(operator: Caller, method: str, path: str, allowed: str) -> None:
    answer = operator.ask(method, path, {})
    assert (answer.status_code, answer.get_json()) == (405, {"detail": f'Method "{method}" not allowed.'})
    assert answer.headers["Allow"] == allowed
    if path != f"{JOBS}1/":
        assert operator.ask("GET", path).headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/api", "/api/jobs", "/api/jobs/1", "/api/jobstatuses", "/api/jobstatuses/1"])
def test_a_missing_slash_is_added(operator: Caller, path: str) -> None:
    answer = operator.ask("GET", f"{path}?page=2")
    assert (answer.status_code, answer.headers["Location"]) == (301, f"{path}/?page=2")
    assert answer.data == b""
    kept = operator.ask("PATCH" if path.endswith("1") else "OPTIONS", path)
    assert kept.status_code == (308 if path.endswith("1") else 301), "the body goes along"


def test_the_root_names_the_lists(operator: Caller) -> None:
    said = {"jobs": "http://localhost/api/jobs/", "jobstatuses": "http://localhost/api/jobstatuses/"}
    assert operator.get("/api/") == said


def test_options_describe_the_fields(operator: Caller, viewer: Caller) -> None:
    job = operator.make_job()
    told = {path: operator.ask("OPTIONS", path).get_json() for path in ("/api/", JOBS, STATUSES)}
    assert {one["name"] for one in told.values()} == {"Api Root", "Job List", "Job Status List"}
    for one in told.values():
        assert one["parses"] == ["application/json", FORM, "multipart/form-data"]
        assert one["renders"] == ["application/json"]
    name = {"type": "string", "required": True, "read_only": False, "label": "Name", "max_length": 255}
    assert told[JOBS]["actions"]["POST"]["name"] == name
    choices = told[STATUSES]["actions"]["POST"]["status_type"]["choices"]
    assert [one["value"] for one in choices] == ["PENDING", "RUNNING", "COMPLETED", "FAILED"]
    assert choices[0]["display_name"] == "Pending"
    item = operator.ask("OPTIONS", f"{JOBS}{job['id']}/").get_json()
    assert (item["name"], set(item["actions"])) == ("Job Instance", {"PUT"})
    status = f"{STATUSES}{job['statuses'][0]['id']}/"
    assert set(operator.ask("OPTIONS", status).get_json()["actions"]) == {"PUT"}
    for path in (JOBS, f"{JOBS}{job['id']}/", STATUSES, status):
        assert "actions" not in viewer.ask("OPTIONS", path).get_json(), "who may not write is shown no fields"
        assert "actions" not in operator.client.options(path).get_json()
    assert "actions" not in operator.ask("OPTIONS", f"{JOBS}999/").get_json()


def test_the_front_end_asks_whether_its_server_is_up(operator: Caller) -> None:
    answer = operator.client.get("/health/")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "healthy"})
