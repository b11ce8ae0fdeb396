"""Lists in the form of a connection, such as the streams of an HTTP API: fields for each, without JavaScript too."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.connections.test_pages import errors_of, make_source, stored
from tests.support.people import Person
from webapp.connections.spec_form import Kind, draw_fields, read_fields
from webapp.engine.connectors.rest.spec import RestSourceSpec

NEW = "/connections/sources/new?type=rest"
STREAMS = "config.streams"
ORDERS = {
    f"{STREAMS}.0.name": "orders",
    f"{STREAMS}.0.path": "/v1/orders",
    f"{STREAMS}.0.params": "status: open\nstatus: paid\nlimit: 10",
    f"{STREAMS}.0.records": "data.items",
    f"{STREAMS}.0.primary_key": "id\nline",
    f"{STREAMS}.0.cursor_field": "updated_at",
    f"{STREAMS}.0.incremental_param": "since",
    f"{STREAMS}.0.pagination.type": "page",
    f"{STREAMS}.0.pagination.page.parameter": "p",
}
FORM = {
    "name": "Shop",
    "config.base_url": "https://api.example.org",
    **ORDERS,
    f"{STREAMS}.1.name": "people",
    f"{STREAMS}.1.pagination.type": "",
}
#: What this form says.
SAID = [
    {
        "name": "orders",
        "path": "/v1/orders",
        "params": {"status": ["open", "paid"], "limit": "10"},
        "records": "data.items",
        "primary_key": ["id", "line"],
        "cursor_field": "updated_at",
        "incremental_param": "since",
        "pagination": {"type": "page", "parameter": "p"},
    },
    {"name": "people"},
]


def numbers_of(page: str) -> list[str]:
    """The numbers of the streams that the form shows."""
    return re.findall(rf'name="{STREAMS}\.(\d+)\.name"', page)


def shown_value(page: str, name: str) -> str:
    """What stands in a field."""
    found = re.search(rf'name="{re.escape(name)}"[^>]* value="([^"]*)"', page)
    assert found, name
    return found[1]


def drawn(config: dict[str, Any]) -> dict[str, str]:
    """What a browser would send back of the form that shows this configuration."""
    sent: dict[str, str] = {}

    def fill(fields: Any) -> None:
        for one in fields:
            if one.kind in (Kind.GROUP, Kind.LIST, Kind.VARIANTS):
                sent.update({f"{one.name}.type": one.value} if one.kind is Kind.VARIANTS else {})
                fill(one.fields)
            else:
                sent[one.name] = str(one.value)

    fill(draw_fields(RestSourceSpec.model_json_schema(), config, {}))
    return sent


def test_the_form_of_an_api_begins_with_the_fields_of_one_stream(bob: Person) -> None:
    page = bob.browser().get(NEW).text
    assert numbers_of(page) == ["0"]
    for field in ("path", "params", "records", "primary_key", "cursor_field", "incremental_param", "pagination.type"):
        assert f'name="{STREAMS}.0.{field}"' in page


def test_streams_are_saved_as_they_were_filled_in(bob: Person, look: Callable) -> None:
    make_source(bob, FORM, "rest")
    config = stored(look)["config"]
    assert isinstance(config, dict)
    assert config["streams"] == SAID


@pytest.mark.parametrize(("given", "written"), [(True, "true"), ("x: y", "x: y"), (5, "5"), (["a", "b"], ["a", "b"])])
def test_what_is_stored_comes_back_through_the_form(given: Any, written: Any) -> None:
    config = {"base_url": "https://api.example.org", "streams": [{"name": "orders", "params": {"a": given}}, SAID[1]]}
    read, errors = read_fields(RestSourceSpec.model_json_schema(), drawn(config))
    assert errors == {}
    assert read["streams"] == [{"name": "orders", "params": {"a": written}}, {"name": "people"}]


def test_a_list_grows_and_shrinks_and_nothing_typed_is_lost(bob: Person) -> None:
    browser = bob.browser()
    longer = browser.post(NEW, {**FORM, "do": f"add {STREAMS}"})
    assert longer.status_code == 200
    assert numbers_of(longer.text) == ["0", "1", "2"]
    assert shown_value(longer.text, "name") == "Shop"
    assert shown_value(longer.text, f"{STREAMS}.0.path") == "/v1/orders"
    shorter = browser.post(NEW, {**FORM, "do": f"remove {STREAMS}.0"})
    assert numbers_of(shorter.text) == ["0"]
    assert shown_value(shorter.text, f"{STREAMS}.0.name") == "people"


def test_a_mistake_stands_beside_the_field_of_its_stream(bob: Person) -> None:
    wrong = {
        **FORM,
        f"{STREAMS}.1.name": "",
        f"{STREAMS}.0.path": "https://elsewhere.example",
        f"{STREAMS}.0.pagination.page.start": "-1",
    }
    answer = bob.browser().post(NEW, wrong)
    assert answer.status_code == 422
    assert set(errors_of(answer.text)) == {
        f"{STREAMS}.1.name", f"{STREAMS}.0.path", f"{STREAMS}.0.pagination.page.start"}  # fmt: skip


def test_a_mistake_of_a_stream_as_a_whole_stands_at_the_stream(bob: Person) -> None:
    answer = bob.browser().post(NEW, {**FORM, f"{STREAMS}.0.cursor_field": ""})
    assert "cursor_field" in errors_of(answer.text)[f"{STREAMS}.0"]


def test_a_source_without_streams_is_told_so_at_the_list(bob: Person) -> None:
    answer = bob.browser().post(NEW, {"name": "Shop", "config.base_url": "https://api.example.org"})
    assert answer.status_code == 422
    assert STREAMS in errors_of(answer.text)


def test_what_cannot_be_read_is_shown_again_as_it_was_typed(bob: Person) -> None:
    answer = bob.browser().post(NEW, {**FORM, f"{STREAMS}.0.params": "no colon here"})
    assert answer.status_code == 422
    assert ">no colon here</textarea>" in answer.text
    assert "a colon" in errors_of(answer.text)[f"{STREAMS}.0.params"]


def test_a_list_that_may_be_empty_begins_empty(bob: Person) -> None:
    page = bob.browser().get("/connections/sources/new?type=files").text
    assert f'value="add {STREAMS}"' in page
    assert numbers_of(page) == []
