"""What happens at the edge of every call: other origins, limits, repeats, ETags, compression."""

import gzip
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import Person, make_cast
from webapp.config import ConfigError, Settings
from webapp.edge.rate_limits import Counters, Limit, parse_limit

ROCKET = {"source": "Earth", "destination": "Mars", "estimated_time": 60}
FRONT_END = "http://front.example:3000"
MakeApp = Callable[[Settings], Flask]


def build(person: Person, key: str | None, **changes: Any) -> TestResponse:
    """Create a rocket as this person, with this Idempotency-Key."""
    headers = {**person.headers, **({"Idempotency-Key": key} if key is not None else {})}
    return person.app.test_client().post("/api/v1/job", json={**ROCKET, **changes}, headers=headers)


def fleet(person: Person) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.app.test_client().get("/api/v1/job", headers=person.headers).get_json()
    return found


class TestOtherOrigins:
    @pytest.fixture
    def open_app(self, settings: Settings, make_app: MakeApp) -> Flask:
        return make_app(replace(settings, cors_origins=(FRONT_END,)))

    @pytest.mark.parametrize("path", ["/api/v1/job", "/jobs", "/api/v1/project/olake/jobs", "/login", "/api/new"])
    def test_a_preflight_from_a_named_origin_is_told_what_it_may_send(self, open_app: Flask, path: str):
        answer = preflight(open_app.test_client(), path)

        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == FRONT_END
        assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
        assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
        assert "Access-Control-Allow-Credentials" not in answer.headers

    @pytest.mark.parametrize("origin", ["http://evil.example", f"{FRONT_END}.evil.example", "null", f"{FRONT_END}0"])
    def test_an_origin_that_is_not_named_is_told_nothing(self, open_app: Flask, origin: str):
        assert "Access-Control-Allow-Origin" not in preflight(open_app.test_client(), "/api/v1/job", origin).headers

    def test_a_refusal_can_be_read_by_the_page_too(self, open_app: Flask):
        answer = open_app.test_client().get("/api/v1/job", headers={"Origin": FRONT_END})

        assert answer.status_code == 401
        assert answer.headers["Access-Control-Allow-Origin"] == FRONT_END
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]

    def test_pages_are_not_shared_with_other_origins(self, open_app: Flask):
        answer = open_app.test_client().get("/login", headers={"Origin": FRONT_END, "Accept": "text/html"})
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_nobody_is_let_in_without_the_setting(self, client: FlaskClient):
        assert "Access-Control-Allow-Origin" not in preflight(client, "/api/v1/job").headers

    def test_a_named_origin_may_use_a_cookie_only_when_credentials_are_allowed(
        self, settings: Settings, make_app: MakeApp, open_app: Flask
    ):
        app = make_app(replace(settings, cors_origins=(FRONT_END,), cors_credentials=True))
        alice = make_cast(app).alice
        check = {"json": {"job_name": "new"}, "headers": {"Origin": FRONT_END, "Sec-Fetch-Site": "cross-site"}}

        allowed = alice.browser().client.post("/api/v1/project/olake/jobs/check-unique", **check)
        alice_elsewhere = replace(alice, app=open_app)
        refused = alice_elsewhere.browser().client.post("/api/v1/project/olake/jobs/check-unique", **check)

        assert (allowed.status_code, refused.status_code) == (200, 403)
        assert allowed.headers["Access-Control-Allow-Credentials"] == "true"

    def test_any_origin_with_credentials_is_refused_at_the_start(self, settings: Settings, make_app: MakeApp):
        with pytest.raises(ConfigError, match="CORS_ORIGINS"):
            make_app(replace(settings, cors_origins=("*",), cors_credentials=True))


def preflight(client: FlaskClient, path: str, origin: str = FRONT_END) -> TestResponse:
    """What a browser asks before it lets a page send something."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return client.options(path, headers={"Origin": origin, **asked})


class TestLimits:
    @pytest.fixture
    def limited(self, settings: Settings, make_app: MakeApp) -> Flask:
        return make_app(replace(settings, rate_limit="5/hour", rate_limit_strangers="3/hour"))

    def test_a_visitor_is_told_how_it_stands_and_refused_above_the_limit(self, limited: Flask):
        alice = make_cast(limited).alice
        answers = [limited.test_client().get("/api/v1/job", headers=alice.headers) for _ in range(6)]

        assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[-1].get_json()["code"] == "TOO_MANY_REQUESTS"
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 3600

    def test_each_visitor_has_a_count_of_its_own(self, limited: Flask):
        people = make_cast(limited)
        for _ in range(5):
            limited.test_client().get("/api/v1/job", headers=people.alice.headers)

        assert limited.test_client().get("/api/v1/job", headers=people.bob.headers).status_code == 200

    def test_guessing_tokens_counts_for_the_address(self, limited: Flask):
        statuses = [
            limited.test_client().get("/api/v1/job", headers={"Authorization": f"Bearer guess-{n}"}).status_code
            for n in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]

    def test_health_is_never_refused(self, limited: Flask):
        assert {limited.test_client().get("/health").status_code for _ in range(8)} == {200}

    def test_processes_of_one_machine_count_together(self, settings: Settings):
        first, second = Counters(settings.run_folder), Counters(settings.run_folder)
        used = [counters.count("user x", Limit(9, 60), now=1000.0).used for counters in (first, second, first)]
        assert used == [1, 2, 3]

    def test_a_new_window_begins_at_zero(self, settings: Settings):
        counters, limit = Counters(settings.run_folder), Limit(9, 60)
        counters.count("user x", limit, now=1000.0)
        assert counters.count("user x", limit, now=1019.0).resets_in == 1
        assert counters.count("user x", limit, now=1020.0).used == 1

    def test_threads_lose_no_call(self, settings: Settings):
        counters, limit = Counters(settings.run_folder), Limit(10_000, 60)

        def call() -> None:
            for _ in range(500):
                counters.count("user x", limit, now=1000.0)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counters.count("user x", limit, now=1000.0).used == 2001

    def test_more_visitors_than_places_are_still_counted(self, settings: Settings):
        counters, limit = Counters(settings.run_folder), Limit(10, 60)
        for number in range(20_000):
            counters.count(f"address {number}", limit, now=1000.0)
        assert [counters.count("user x", limit, now=1060.0).used for _ in range(3)] == [1, 2, 3]

    @pytest.mark.parametrize("text", ["often", "0/minute", "5/fortnight", "-1/minute", "1.5/minute"])
    def test_a_limit_that_cannot_be_read_stops_the_start(self, text: str):
        with pytest.raises(ConfigError, match=r"RATE_LIMIT: .*600/minute"):
            parse_limit(text, name="RATE_LIMIT")

    @pytest.mark.parametrize("text", ["", "0"])
    def test_a_limit_can_be_switched_off(self, text: str):
        assert parse_limit(text, name="RATE_LIMIT") is None


class TestRepeats:
    def test_a_call_repeated_with_its_key_does_its_work_once(self, alice: Person):
        first, again = build(alice, "launch-1"), build(alice, "launch-1")

        assert (first.status_code, again.status_code) == (201, 201)
        assert first.get_json() == again.get_json()
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert len(fleet(alice)) == 1

    def test_calls_without_a_key_or_with_another_do_their_own_work(self, alice: Person):
        for key in (None, None, "a", "b"):
            assert build(alice, key).status_code == 201
        assert len(fleet(alice)) == 4

    def test_a_key_belongs_to_who_sent_it(self, alice: Person, bob: Person):
        assert build(alice, "same").get_json()["id"] != build(bob, "same").get_json()["id"]

    def test_a_key_that_was_used_for_another_call_is_refused(self, alice: Person):
        build(alice, "launch-1")
        answer = build(alice, "launch-1", destination="Venus")

        assert answer.status_code == 422
        assert answer.get_json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
        assert len(fleet(alice)) == 1

    def test_a_refused_call_can_be_repeated_with_its_key(self, alice: Person):
        assert build(alice, "launch-1", estimated_time="soon").status_code == 422
        assert build(alice, "launch-1").status_code == 201

    @pytest.mark.parametrize("key", ["", "x" * 256])
    def test_a_key_that_cannot_be_kept_is_refused_by_name(self, alice: Person, key: str):
        assert build(alice, key).status_code == 422

    def test_an_answer_with_a_secret_is_not_written_down(self, alice: Person):
        client, headers = alice.app.test_client(), {**alice.headers, "Idempotency-Key": "token"}
        body = {"name": "robot", "role": "viewer", "scopes": ["read"]}
        first = client.post("/api/v1/service-tokens", json=body, headers=headers)

        assert first.status_code == 201
        assert "Idempotent-Replayed" not in client.post("/api/v1/service-tokens", json=body, headers=headers).headers

    def test_the_same_call_many_times_at_once_does_its_work_once(self, alice: Person):
        answers: list[TestResponse] = []
        threads = [threading.Thread(target=lambda: answers.append(build(alice, "all at once"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.get_json()["id"] for answer in answers}) == 1
        assert len(fleet(alice)) == 1


class TestPolling:
    def test_a_list_that_did_not_change_is_not_sent_again(self, alice: Person):
        build(alice, None)
        client = alice.app.test_client()
        first = client.get("/api/v1/job", headers=alice.headers)
        second = client.get("/api/v1/job", headers={**alice.headers, "If-None-Match": first.headers["ETag"]})

        assert (second.status_code, second.data) == (304, b"")
        assert second.headers["ETag"] == first.headers["ETag"]

    def test_a_list_that_changed_is_sent(self, alice: Person):
        client = alice.app.test_client()
        before = client.get("/api/v1/job", headers=alice.headers).headers["ETag"]
        build(alice, None)
        after = client.get("/api/v1/job", headers={**alice.headers, "If-None-Match": before})

        assert after.status_code == 200
        assert len(after.get_json()) == 1

    def test_accounts_and_refusals_may_not_be_kept_by_anybody(self, alice: Person, client: FlaskClient):
        mine = client.get("/api/v1/auth/me", headers=alice.headers)
        assert mine.headers["Cache-Control"] == "no-store"
        assert "ETag" not in mine.headers
        assert client.get("/api/v1/job").headers["Cache-Control"] == "no-store"


class TestCompression:
    def test_a_long_answer_is_compressed_for_who_accepts_it_and_says_the_same(self, alice: Person):
        for _ in range(8):
            build(alice, None)
        client = alice.app.test_client()
        plain = client.get("/api/v1/job", headers=alice.headers)
        small = client.get("/api/v1/job", headers={**alice.headers, "Accept-Encoding": "gzip"})

        assert "Content-Encoding" not in plain.headers
        assert small.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in small.headers["Vary"]
        assert len(small.data) < len(plain.data) / 2
        assert orjson.loads(gzip.decompress(small.data)) == plain.get_json()

    def test_polling_works_with_the_etag_of_a_compressed_answer(self, alice: Person):
        for _ in range(8):
            build(alice, None)
        client, headers = alice.app.test_client(), {**alice.headers, "Accept-Encoding": "gzip"}
        tag = client.get("/api/v1/job", headers=headers).headers["ETag"]

        assert client.get("/api/v1/job", headers={**headers, "If-None-Match": tag}).status_code == 304

    def test_a_short_answer_is_left_as_it_is(self, alice: Person):
        answer = alice.app.test_client().get("/api/v1/job", headers={**alice.headers, "Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers

    def test_it_can_be_left_to_a_proxy(self, settings: Settings, make_app: MakeApp):
        app = make_app(replace(settings, compress_min_bytes=0))
        answer = app.test_client().get("/login", headers={"Accept": "text/html", "Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers
