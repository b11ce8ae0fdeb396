"""What is wrong with a file is named by its place, all of it at once, and then nothing is imported."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.portability.mission import PASSWORD, build
from tests.support.people import Person
from webapp.connections.models import Connection
from webapp.db import db
from webapp.errors import Invalid, NotAllowed
from webapp.jobs.models import Job
from webapp.portability import operations as portability
from webapp.portability.left_out import NEEDED
from webapp.portability.yaml_text import LARGEST_FILE, read_yaml, write_yaml

TRICKY = [
    "1e5",
    "0123",
    "089",
    "1:30",
    "yes",
    "~",
    "=",
    "<<",
    "2020-01-01",
    "a\n",
    "\n a",
    " x\n\n",
    ".5",
    "? ",
    "\x85",
]
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(TRICKY)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=15)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_every_json_value_comes_back_from_yaml_as_it_went(value: object) -> None:
    text = write_yaml(value)
    assert read_yaml(text.encode()) == value
    assert write_yaml(read_yaml(text.encode())) == text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: &x [1]\nb: *x", "line 1: anchors and aliases are not read"),
        (b"a: !!python/object/apply:os.system [ls]", "line 1: the tag"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b"a: 1\na: 2", "line 2: the key 'a' is there twice"),
        (b"1.0e+999", "too large"),
        (b"99999999999999999999", "more than 64 bits"),
        (b"--- 1\n--- 2", "a second document"),
        (b'"\\ud800"', "no YAML"),
        (b" " * (LARGEST_FILE + 1), "at most 16 MiB"),
    ],
)
def test_yaml_that_is_more_than_values_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_yaml(data)


def refused(person: Person, text: str) -> list[str]:
    """What an import says to this file, one text for each place."""
    with pytest.raises(Invalid) as raised:
        portability.import_project(person.actor, text.encode())
    return [item["msg"] for item in raised.value.details.get("errors", [])] or [raised.value.message]


def test_settings_that_this_release_does_not_know_are_refused_by_name(bob: Person, work: Callable) -> None:
    with work():
        found = refused(bob, "hohmann_project: 1\njobs:\n- {name: a, colour: red}\n- {name: b, max_attempts: two}\n")
    assert found[0] == "jobs[0].colour: this release does not know this setting."
    assert found[1].startswith("jobs[1].max_attempts: ")


def test_every_wrong_place_is_named_at_once(bob: Person, look: Callable, work: Callable) -> None:
    text = """hohmann_project: 1
sources:
- {name: probes, type: postgres, config: {port: 5432}}
- {name: files, type: sqlite, config: {path: a.db}}
- {name: files, type: sqlite, config: {path: a.db}}
jobs:
- {name: a, schedule: "61 * * * *"}
- {name: b, kind: sync, source: probes, destination: nowhere}
- {name: c, kind: sync, source: files, destination: nowhere}
- {name: d, tasks: [{extractor: {type: csv}, loader: {type: warehouse, table_name: t}}]}
- {name: e, kind: external, source: files}
webhooks:
- {name: h, url: "ftp://192.0.2.1", topics: [run.failed]}
- {name: i, url: "https://192.0.2.1", topics: [run.failed], job: {name: nobody}}
"""
    with work() as session:
        found = refused(bob, text)
        session.rollback()
    places = {said.partition(": ")[0] for said in found}
    assert places >= {
        "sources[2].name", "sources[0].config.host", "jobs[0].schedule", "jobs[2].destination",
        "jobs[3].tasks[0].extractor.path", "jobs[4].source", "webhooks[0].url", "webhooks[1].job.name",
    }  # fmt: skip
    assert not [place for place in places if place.startswith("jobs[1]")]  # its source says it
    with look():
        assert db.session.query(Job).count() == db.session.query(Connection).count() == 0


def test_a_viewer_imports_nothing(rita: Person, work: Callable) -> None:
    with work(), pytest.raises(NotAllowed):
        portability.import_project(rita.actor, b"hohmann_project: 1\n")


def test_a_stored_secret_is_not_sent_to_another_host(alice: Person, work: Callable, look: Callable) -> None:
    with work() as session:
        build(alice.actor, session)
    with look():
        file = portability.export_project(alice.actor)
    with work():
        outcome = portability.import_project(alice.actor, file.replace(b"host: 127.0.0.1", b"host: 127.0.0.2"))
    assert [line.needs_secret for line in outcome.lacking] == [("sources[1].config.password",)]
    with look():
        config = db.session.query(Connection).filter_by(type="postgres").one().config
        assert (config["host"], config["password"]) == ("127.0.0.2", NEEDED)
    typed = file.replace(b"password:\n      secret: needed", f"password: {PASSWORD}".encode())
    with work():
        assert portability.import_project(alice.actor, typed).lacking == []
