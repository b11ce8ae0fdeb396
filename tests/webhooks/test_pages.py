"""The pages of webhooks: made by a form, tried, switched, deleted; what was sent stands there; jobs say who is told."""

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import factories
from tests.support.people import Browser, Person
from tests.webhooks.receiver import Receiver
from tests.webhooks.test_webhooks import carry_once
from webapp.db import db
from webapp.webhooks.models import Delivery, Webhook

Work = Callable[..., Any]
HOOKS = "/settings/webhooks"
FILLED = {
    "name": "on-call",
    "url": "http://127.0.0.1:9/hook",
    "topics": ["run.failed", "run.recovered"],
    "after_failures": "2",
    "no_show_seconds": "300",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def job(work: Work) -> Any:
    with work():
        return factories.make_job(name="Sales").id


def text_of(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def make(browser: Browser, *, job_id: Any = None, **more: Any) -> str:
    """The address of a new webhook, made by the form."""
    answer = browser.post(f"{HOOKS}/new" + (f"?job={job_id}" if job_id else ""), {**FILLED, **more})
    assert answer.status_code == 201, text_of(answer.text)
    found = re.search(rf"{HOOKS}/[0-9a-f-]{{36}}", answer.text)
    assert found
    return found.group()


def test_it_is_made_by_a_form_that_shows_its_secret_this_once(bob: Person, look: Work):
    browser = bob.browser()
    answer = browser.post(f"{HOOKS}/new", FILLED)
    [secret] = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", answer.text)
    with look():
        hook = db.session.query(Webhook).one()
        assert (hook.name, hook.after_failures, hook.secret) == ("on-call", 2, secret)
        assert hook.topics == FILLED["topics"]
        page = browser.get(f"{HOOKS}/{hook.id}").text
    assert secret not in page
    assert "from 2 in a row on" in page
    assert "on-call" in browser.get(HOOKS).text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": " "}, "printable characters"),
        ({"name": "a\x00b"}, "printable characters"),
        ({"name": "x" * 256}, "255"),
        ({"url": ""}, "url: is needed"),
        ({"url": "ftp://example.org"}, "must be an http or https address"),
        ({"url": "http://example.org/\x00"}, "printable characters"),
        ({"url": "http://example.org/" + "x" * 2000}, "2000"),
        ({"topics": []}, "topics: is needed"),
        ({"topics": ["ping"]}, "'ping' is not a valid choice"),
        ({"after_failures": "0"}, "from 1 to 100"),
        ({"after_failures": "many"}, "Not a valid integer"),
        ({"after_failures": ""}, "From 1 to 100"),
        ({"no_show_seconds": "9" * 30}, "from 10 to 604800"),
    ],
)
def test_what_cannot_be_used_is_said_beside_its_field(bob: Person, look: Work, change: dict[str, Any], said: str):
    answer = bob.browser().post(f"{HOOKS}/new", {**FILLED, **change})
    assert answer.status_code == 422
    assert said in text_of(answer.text)
    assert f'id="{next(iter(change))}-error"' in answer.text
    with look():
        assert db.session.query(Webhook).count() == 0


def test_the_form_changes_it_and_keeps_what_was_typed_wrongly(bob: Person):
    browser = bob.browser()
    address = make(browser)
    assert 'value="http://127.0.0.1:9/hook"' in browser.get(f"{address}/edit").text
    wrong = browser.post(f"{address}/edit", {**FILLED, "url": "nowhere"})
    assert wrong.status_code == 422
    assert 'value="nowhere"' in wrong.text
    assert browser.post(f"{address}/edit", {**FILLED, "name": "night watch"}).location == address
    assert "night watch" in browser.get(address).text


def test_a_test_is_sent_and_the_page_says_how_it_went_without_a_reload(bob: Person, receiver: Receiver):
    browser = bob.browser()
    address = make(browser, url=receiver.url)
    assert 'hx-trigger="every 10s"' in browser.get(address).text
    assert browser.post(f"{address}/test").location == address
    page = browser.get(address).text
    assert 'hx-trigger="every 2s"' in page, "it looks often while something is about to be sent"
    assert "waiting" in page
    assert "Send again" not in page, "it is about to be sent anyway"
    assert carry_once(bob.app) == 1
    part = browser.get(f"{address}/deliveries", htmx=True).text
    assert "<html" not in part
    assert "answered 200" in part
    assert "heard" in part, "the answer stands there"
    assert receiver.got[0][0]["webhook-id"] in part
    assert "delivered" in text_of(browser.get(HOOKS).text)


def test_a_message_is_sent_again_by_its_button(bob: Person, receiver: Receiver, look: Work):
    receiver.statuses = [500, 200]
    browser = bob.browser()
    address = make(browser, url=receiver.url)
    browser.post(f"{address}/test")
    with look():
        again = f"{address}/deliveries/{db.session.query(Delivery).one().id}/again"
    assert browser.post(again).location == address
    assert "about to be sent" in browser.get(address).text
    carry_once(bob.app)
    page = browser.get(address).text
    assert "retrying" in page
    assert "the receiver answered 500" in page
    assert browser.post(again).location == address
    carry_once(bob.app)
    assert "answered 200" in browser.get(address).text
    assert len(receiver.got) == 2


def test_a_receiver_that_is_gone_switches_it_off_and_a_button_on_again(bob: Person, receiver: Receiver):
    receiver.statuses = [410]
    browser = bob.browser()
    address = make(browser, url=receiver.url)
    browser.post(f"{address}/test")
    carry_once(bob.app)
    for page in (browser.get(address).text, browser.get(HOOKS).text):
        assert "The receiver answered 410 Gone." in page
    browser.post(f"{address}/switch", {"is_enabled": "1"})
    assert "410 Gone" not in browser.get(HOOKS).text
    browser.post(f"{address}/switch", {"is_enabled": "0"})
    assert "Switch on" in browser.get(address).text


def test_it_is_deleted_after_a_question(bob: Person, look: Work):
    browser = bob.browser()
    address = make(browser)
    assert "Keep it" in browser.get(f"{address}/delete").text
    assert browser.post(f"{address}/delete").location == HOOKS
    assert "The webhook on-call is deleted." in browser.get(HOOKS).text
    assert browser.get(address).status_code == 404
    with look():
        assert db.session.query(Webhook).count() == 0


def test_a_job_says_who_is_told_of_it(bob: Person, job: Any, work: Work):
    with work():
        other = factories.make_job(name="Stock").id
    browser = bob.browser()
    make(browser, job_id=job, name="of sales")
    make(browser, job_id=other, name="of stock")
    make(browser, name="of everything")

    assert f'hx-get="/jobs/{job}/webhooks"' in browser.get(f"/jobs/{job}").text
    for path in (f"/jobs/{job}/webhooks", f"{HOOKS}?job={job}"):
        page = browser.get(path).text
        assert "of sales" in page
        assert "of everything" in page
        assert "of stock" not in page
        assert f"{HOOKS}/new?job={job}" in page
    assert "Stock" in browser.get(HOOKS).text


def test_the_form_for_one_job_makes_one_for_it_alone(bob: Person, job: Any, look: Work):
    browser = bob.browser()
    assert "Sales" in browser.get(f"{HOOKS}/new?job={job}").text
    address = make(browser, job_id=job)
    assert "Told of Sales alone." in text_of(browser.get(address).text)
    with look():
        assert db.session.query(Webhook).one().job_id == job


def test_a_viewer_looks_but_has_no_buttons_and_changes_nothing(bob: Person, rita: Person, job: Any, look: Work):
    address = make(bob.browser(), job_id=job)
    browser = rita.browser()
    for path in (HOOKS, address, f"/jobs/{job}/webhooks"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "on-call" in page.text
        assert not re.search(r"New webhook|Send a test|Switch o|/edit|/delete", page.text)
    for path in ("test", "switch", "delete", "edit"):
        assert browser.post(f"{address}/{path}", FILLED).status_code == 403
    assert browser.post(f"{HOOKS}/new", FILLED).status_code == 403
    with look():
        assert db.session.query(Webhook).one().is_enabled


def test_a_stranger_to_the_project_finds_nothing(bob: Person, charlie: Person, job: Any):
    address = make(bob.browser(), job_id=job)
    browser = charlie.browser()
    assert "on-call" not in browser.get(HOOKS).text
    for path in (address, f"{address}/edit", f"{address}/deliveries", f"/jobs/{job}/webhooks", f"{HOOKS}?job={job}"):
        assert browser.get(path).status_code == 404


@pytest.mark.parametrize(
    ("who", "tabs"), [("alice", ["People", "Machines", "Webhooks", "Project"]), ("bob", ["Webhooks", "Project"])]
)
def test_the_settings_of_whoever_may_change_them_lead_there(people: Any, who: str, tabs: list[str]):
    page = getattr(people, who).browser().get("/settings").text
    shown = re.findall(r'<a href="/settings[^"]*"[^>]*>([^<]+)</a>', page[page.index('aria-label="Settings"') :])
    assert shown == ["Your account", *tabs]
