"""Webhooks: what causes a message, what is in it, how it is signed, retried, given up and sent again."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests import factories
from tests.support.databases import Databases
from tests.support.people import Cast, Person, make_cast
from tests.support.stacks import Stack
from tests.webhooks.receiver import Receiver
from webapp import db as database
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db
from webapp.jobs.models import Job
from webapp.runs import operations as runs
from webapp.runs.models import Run
from webapp.runs.operations import RunMoved
from webapp.runs.states import RunState
from webapp.webhooks import courier, notices
from webapp.webhooks.models import Delivery, Webhook
from webapp.webhooks.sending import Message, send, sign

Work = Callable[..., Any]
HOOKS = "/api/v1/webhooks"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def job(work: Work) -> Any:
    with work():
        return factories.make_job(name="Sales").id


def make(person: Person, url: str, *topics: str, **more: Any) -> dict[str, Any]:
    body = {"name": "hook", "url": url, "topics": list(topics or ["run.failed"]), **more}
    answer = person.app.test_client().post(HOOKS, json=body, headers=person.headers)
    assert answer.status_code == 201, answer.get_json()
    return dict(answer.get_json())


def fly(work: Work, job_id: Any, *states: RunState, **facts: Any) -> None:
    """A run of the job that goes through these states, each in a unit of work of its own."""
    with work():
        run_id = factories.make_run(db.session.query(Job).filter_by(id=job_id).one(), **facts).id
    for state in states:
        with work():
            run = db.session.query(Run).filter_by(id=run_id).one()
            was, run.state = run.state, state
            runs.announce([RunMoved(run, was, state)])


def told(look: Work) -> list[dict[str, Any]]:
    """The messages that wait or were sent, oldest first."""
    with look():
        return [json.loads(delivery.body) for delivery in db.session.query(Delivery).order_by(Delivery.number)]


def carry_once(app: Flask) -> int:
    """One round of the courier; returns how many messages it had in its hands."""
    with app.app_context():
        with database.unit_of_work():
            leased = courier.lease_due()
        outcomes = [send(one.message, allow_private=True) for one in leased]
        with database.unit_of_work():
            for one, outcome in zip(leased, outcomes, strict=True):
                courier.note_outcome(one, outcome)
        return len(leased)


def deliveries(person: Person, hook: dict[str, Any]) -> list[dict[str, Any]]:
    return list(person.app.test_client().get(f"{HOOKS}/{hook['id']}/deliveries", headers=person.headers).get_json())


class TestCauses:
    def test_a_failed_run_is_told_with_its_job_and_its_reason(self, alice: Person, job: Any, work: Work, look: Work):
        make(alice, "http://127.0.0.1:9", "run.failed")
        fly(work, job, RunState.RUNNING, RunState.FAILED, error_message="no such file", attempt=1)

        [message] = told(look)
        assert message["type"] == "run.failed"
        assert message["data"]["job"] == {"id": str(job), "name": "Sales"}
        assert message["data"]["run"]["error_message"] == "no such file"

    def test_only_what_was_chosen_is_told(self, alice: Person, job: Any, work: Work, look: Work):
        make(alice, "http://127.0.0.1:9", "run.started", "run.succeeded")
        fly(work, job, RunState.RUNNING, RunState.SUCCEEDED)
        fly(work, job, RunState.RUNNING, RunState.FAILED)
        fly(work, job, RunState.CANCELLED)

        assert [message["type"] for message in told(look)] == ["run.started", "run.succeeded", "run.started"]

    def test_failures_are_told_from_the_nth_one_after_the_other_on(
        self, alice: Person, job: Any, work: Work, look: Work
    ):
        make(alice, "http://127.0.0.1:9", "run.failed", after_failures=3)
        for state in (RunState.FAILED, RunState.SUCCEEDED, RunState.FAILED, RunState.FAILED):
            fly(work, job, RunState.RUNNING, state)
        assert told(look) == []
        fly(work, job, RunState.CANCELLED)  # which neither fails nor recovers
        fly(work, job, RunState.RUNNING, RunState.FAILED)
        assert len(told(look)) == 1

    def test_a_recovery_is_told_once_and_only_after_as_many_failures(
        self, alice: Person, job: Any, work: Work, look: Work
    ):
        make(alice, "http://127.0.0.1:9", "run.recovered", after_failures=2)
        outcomes = (
            RunState.FAILED,
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.FAILED,
            RunState.SUCCEEDED,
            RunState.SUCCEEDED,
        )
        for state in outcomes:
            fly(work, job, RunState.RUNNING, state)
        assert [message["type"] for message in told(look)] == ["run.recovered"]

    def test_a_webhook_of_one_job_hears_nothing_of_others(self, alice: Person, job: Any, work: Work, look: Work):
        make(alice, "http://127.0.0.1:9", "run.failed", job_id=str(job))
        with work():
            other = factories.make_job(name="Other").id
        fly(work, other, RunState.RUNNING, RunState.FAILED)
        fly(work, job, RunState.RUNNING, RunState.FAILED)
        assert [message["data"]["job"]["name"] for message in told(look)] == ["Sales"]

    def test_a_moved_rocket_is_told(self, alice: Person, look: Work):
        make(alice, "http://127.0.0.1:9", "rocket.moved")
        mission = {"source": "Earth", "destination": "Mars", "estimated_time": 60}
        alice.app.test_client().post("/api/v1/job", json=mission, headers=alice.headers)
        assert [message["data"]["rocket"]["state"] for message in told(look)] == ["Preparing"]

    def test_a_run_that_does_not_come_is_told_once(self, alice: Person, job: Any, work: Work, look: Work):
        make(alice, "http://127.0.0.1:9", "run.no_show", no_show_seconds=60)
        now = utcnow()
        with work():
            subject = db.session.query(Job).filter_by(id=job).one()
            factories.make_run(subject, scheduled_for=now - timedelta(seconds=90))
            factories.make_run(subject, scheduled_for=now - timedelta(seconds=10))
        for _ in range(2):
            with work():
                notices.note_no_shows()
        assert [message["type"] for message in told(look)] == ["run.no_show"]

    def test_what_is_rolled_back_is_never_told(self, alice: Person, job: Any, work: Work, look: Work):
        make(alice, "http://127.0.0.1:9", "run.failed")
        with pytest.raises(RuntimeError), work():
            run = factories.make_run(db.session.query(Job).filter_by(id=job).one(), state=RunState.FAILED)
            runs.announce([RunMoved(run, RunState.RUNNING, RunState.FAILED)])
            raise RuntimeError
        assert told(look) == []


class TestDelivery:
    def test_it_arrives_signed_as_the_specification_says(self, alice: Person, receiver: Receiver):
        hook = make(alice, receiver.url)
        answer = alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        assert answer.status_code == 202
        assert carry_once(alice.app) == 1

        [(headers, body)] = receiver.got
        key = base64.b64decode(hook["secret"].removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert headers["webhook-id"] == answer.get_json()["id"]
        assert json.loads(body)["type"] == "ping"
        [seen] = deliveries(alice, hook)
        assert (seen["state"], seen["status"], seen["answer"]) == ("delivered", 200, "heard")

    def test_the_signature_is_the_one_of_the_specifications_own_example(self):
        secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
        found = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_a_refused_message_is_tried_again_later_with_the_same_id(
        self, alice: Person, receiver: Receiver, work: Work
    ):
        receiver.statuses = [500, 503, 200]
        hook = make(alice, receiver.url)
        alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        pauses = []
        for _ in range(3):
            assert carry_once(alice.app) == 1
            assert carry_once(alice.app) == 0, "it waits"
            with work():
                delivery = db.session.query(Delivery).one()
                pauses.append((delivery.due_at - utcnow()).total_seconds())
                delivery.due_at = utcnow()

        assert pauses[0] == pytest.approx(5, abs=4)
        assert pauses[1] == pytest.approx(30, abs=4)
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        [seen] = deliveries(alice, hook)
        assert (seen["state"], seen["attempts"]) == ("delivered", 3)

    def test_after_a_day_of_failures_it_is_given_up_and_can_be_sent_again_by_hand(
        self, alice: Person, receiver: Receiver, work: Work
    ):
        receiver.statuses = [500]
        hook = make(alice, receiver.url)
        delivery_id = alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers).get_json()["id"]
        with work():
            db.session.query(Delivery).one().attempts = len(courier.PAUSES)
        carry_once(alice.app)
        assert deliveries(alice, hook)[0]["state"] == "given_up"

        receiver.statuses = [204]
        again = f"{HOOKS}/{hook['id']}/deliveries/{delivery_id}/again"
        assert alice.app.test_client().post(again, headers=alice.headers).status_code == 202
        carry_once(alice.app)
        assert deliveries(alice, hook)[0]["state"] == "delivered"

    def test_a_receiver_that_is_gone_is_left_in_peace(self, alice: Person, receiver: Receiver):
        receiver.statuses = [410]
        hook = make(alice, receiver.url)
        alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        carry_once(alice.app)
        shown = alice.app.test_client().get(f"{HOOKS}/{hook['id']}", headers=alice.headers).get_json()
        assert (shown["is_enabled"], "410" in shown["off_because"]) == (False, True)

    def test_redirects_are_not_followed(self, alice: Person, receiver: Receiver):
        receiver.statuses = [302]
        outcome = send(
            Message(receiver.url, "whsec_" + base64.b64encode(b"k" * 24).decode(), "m", b"{}"), allow_private=True
        )
        assert (outcome.status, outcome.is_good) == (302, False)

    def test_a_closed_port_is_told_and_tried_again(self, alice: Person):
        hook = make(alice, "http://127.0.0.1:9/")
        alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        carry_once(alice.app)
        [seen] = deliveries(alice, hook)
        assert (seen["state"], seen["status"]) == ("waiting", None)
        assert seen["error"] == "127.0.0.1 port 9 does not answer: Connection refused."

    def test_two_couriers_never_have_one_message_in_their_hands(self, alice: Person):
        hook = make(alice, "http://127.0.0.1:9/")
        alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        with alice.app.app_context():
            with database.unit_of_work():
                assert len(courier.lease_due()) == 1
            with database.unit_of_work():
                assert courier.lease_due() == []

    def test_what_a_late_courier_says_of_a_message_that_another_took_over_is_void(self, alice: Person, work: Work):
        hook = make(alice, "http://127.0.0.1:9/")
        alice.app.test_client().post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        with alice.app.app_context():
            with database.unit_of_work():
                [first] = courier.lease_due()
            with database.unit_of_work():
                db.session.query(Delivery).one().due_at = utcnow()
            with database.unit_of_work():
                courier.lease_due()
            with database.unit_of_work():
                courier.note_outcome(first, send(first.message, allow_private=True))
            assert db.session.query(Delivery).one().error is None


class TestRules:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"url": "ftp://example.org"}, "url"),
            ({"url": "http://169.254.169.254/"}, "url"),
            ({"url": "http://user:secret@example.org/"}, "url"),
            ({"url": "http://[::1"}, "url"),
            ({"topics": []}, "topics"),
            ({"topics": ["ping"]}, "topics"),
            ({"topics": ["run.exploded"]}, "topics"),
            ({"after_failures": 0}, "after_failures"),
            ({"no_show_seconds": 1}, "no_show_seconds"),
            ({"name": " "}, "name"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, alice: Person, change: dict[str, Any], field: str):
        body = {"name": "hook", "url": "http://127.0.0.1:9/", "topics": ["run.failed"], **change}
        answer = alice.app.test_client().post(HOOKS, json=body, headers=alice.headers)
        assert answer.status_code == 422
        assert field in json.dumps(answer.get_json()["detail"])

    def test_private_addresses_are_refused_where_they_are_not_allowed(
        self, settings: Settings, make_app: Callable[[Settings], Flask]
    ):
        people: Cast = make_cast(make_app(replace(settings, hohmann_allow_private_addresses=False)))
        body = {"name": "hook", "url": "http://127.0.0.1:9/", "topics": ["run.failed"]}
        answer = people.alice.app.test_client().post(HOOKS, json=body, headers=people.alice.headers)
        assert answer.status_code == 422
        assert "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in answer.get_json()["error"]

    def test_the_secret_is_shown_once_and_lies_encrypted(self, alice: Person, look: Work):
        hook = make(alice, "http://127.0.0.1:9/")
        listed = alice.app.test_client().get(HOOKS, headers=alice.headers)
        assert hook["secret"] not in listed.get_data(as_text=True)
        with look() as session:
            raw = session.connection().exec_driver_sql("SELECT secret FROM webhook").scalar_one()
        assert hook["secret"] not in raw

    def test_a_viewer_may_look_but_not_change(self, alice: Person, rita: Person):
        hook, client = make(alice, "http://127.0.0.1:9/"), rita.app.test_client()
        assert client.get(f"{HOOKS}/{hook['id']}", headers=rita.headers).status_code == 200
        for method, path in (
            ("post", HOOKS),
            ("patch", f"{HOOKS}/{hook['id']}"),
            ("delete", f"{HOOKS}/{hook['id']}"),
            ("post", f"{HOOKS}/{hook['id']}/test"),
        ):
            body = {"name": "x", "url": "http://127.0.0.1:9/", "topics": ["run.failed"]} if path == HOOKS else {}
            assert getattr(client, method)(path, json=body, headers=rita.headers).status_code == 403

    def test_a_stranger_to_the_project_finds_nothing(self, alice: Person, people: Cast):
        hook, client = make(alice, "http://127.0.0.1:9/"), alice.app.test_client()
        charlie = people.charlie
        assert client.get(f"{HOOKS}/{hook['id']}", headers=charlie.headers).status_code == 404
        assert client.get(HOOKS, headers=charlie.headers).get_json() == []

    def test_one_that_is_switched_off_is_told_nothing(self, alice: Person, job: Any, work: Work, look: Work):
        hook = make(alice, "http://127.0.0.1:9/")
        alice.app.test_client().patch(f"{HOOKS}/{hook['id']}", json={"is_enabled": False}, headers=alice.headers)
        fly(work, job, RunState.RUNNING, RunState.FAILED)
        assert told(look) == []

    def test_one_that_is_deleted_takes_its_messages_along(self, alice: Person, look: Work):
        hook = make(alice, "http://127.0.0.1:9/")
        client = alice.app.test_client()
        client.post(f"{HOOKS}/{hook['id']}/test", headers=alice.headers)
        assert client.delete(f"{HOOKS}/{hook['id']}", headers=alice.headers).status_code == 204
        with look() as session:
            assert session.query(Webhook).count() == session.query(Delivery).count() == 0


def test_a_real_stack_sends_what_a_failing_job_causes_and_its_courier_goes_afterwards(
    tmp_path: Path, databases: Databases, receiver: Receiver
):
    stack = Stack(tmp_path / "home", database_url=databases.separate()).start()
    try:
        token = stack.owner_token()
        body = {"name": "hook", "url": receiver.url, "topics": ["run.failed"]}
        assert stack.request("POST", HOOKS, body, token=token)[0] == 201
        time.sleep(notices.KNOWN_SECONDS + 0.5)  # the worker may have looked just before
        task = {
            "extractor_config": {"type": "csv", "path": "absent.csv"},
            "loader_config": {"type": "warehouse", "table_name": "t"},
        }
        job = {"job_name": "absent", "schedule": "@manual", "is_active": True, "max_attempts": 1, "tasks": [task]}
        job_id = stack.request("POST", "/api/v1/jobs", job, token=token)[1]["id"]
        stack.request("POST", f"/api/v1/jobs/{job_id}/run", token=token)
        stack.wait_for(lambda: receiver.got, seconds=40, what="the message to arrive")
    finally:
        stack.stop()
    assert json.loads(receiver.got[0][1])["data"]["run"]["state"] == "failed"
