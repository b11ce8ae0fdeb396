"""Whatever is sent to contract 004, the answer is JSON, and never a fault of the server."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.lister.client import JOBS, STATUSES, Caller
from tests.api.test_any_input import ANY_JSON, ANY_TEXT, many

WELL_BEHAVED = frozenset({200, 201, 204, 301, 308, 400, 404, 405, 409, 415})
BODIES = st.one_of(
    ANY_JSON, st.fixed_dictionaries({}, optional={"name": ANY_JSON, "job": ANY_JSON, "status_type": ANY_JSON})
)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_any_body(operator: Caller, method: str) -> None:
    job = operator.make_job()
    status = job["statuses"][0]["id"]
    paths = [JOBS, STATUSES] if method == "POST" else [f"{JOBS}{job['id']}/", f"{STATUSES}{status}/"]

    @many
    @given(path=st.sampled_from(paths), body=BODIES)
    def check(path: str, body: Any) -> None:
        sent = json.dumps(body)
        answer = operator.ask(method, path, data=sent, content_type="application/json")
        assert answer.status_code in WELL_BEHAVED, (answer.status_code, sent)
        assert answer.get_json() is not None

    check()


@many
@given(raw=st.binary(max_size=200), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=B",
                                                          "application/x-www-form-urlencoded", "x", ""]))  # fmt: skip
def test_any_bytes(operator: Caller, raw: bytes, kind: str) -> None:
    answer = operator.ask("POST", STATUSES, data=raw, content_type=kind)
    assert answer.status_code in WELL_BEHAVED, (answer.status_code, raw)


@many
@given(text=ANY_TEXT, name=st.sampled_from(["page", "page_size", "job", "format", "x"]))
def test_any_address_and_query(operator: Caller, text: str, name: str) -> None:
    for path in (JOBS, STATUSES):
        assert operator.ask("GET", path, query_string={name: text}).status_code in WELL_BEHAVED
        assert operator.ask("GET", f"{path}{quote(text, safe='')}/").status_code in WELL_BEHAVED
