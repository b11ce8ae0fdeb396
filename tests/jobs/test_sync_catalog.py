"""The catalog document of contract 002: what it makes of a discovered stream, and what a run makes of it."""

import json

import pytest

from tests.jobs.syncs import choice, document, stream
from webapp.engine.connectors.base import Column, Mode, Stream, Target, Write
from webapp.engine.sync.plan import GUESSED
from webapp.errors import Invalid
from webapp.jobs.sync.catalog import Standing, check_ends_add_up, document_of, plan_streams, read_catalog

USERS = Stream(
    "public",
    "users",
    (Column("id", "BIGINT", False, "int8"), Column("tags", "VARCHAR[]"), Column("paid", "DECIMAL(10,2)")),
    primary_key=("id",),
    cursor_fields=("id",),
    modes=(Mode.FULL_REFRESH, Mode.INCREMENTAL),
    rows=12,
)


def plans(value, **standing):
    return plan_streams(read_catalog(value), Standing(**standing))


def test_a_discovered_stream_is_written_in_the_words_of_the_contract():
    written = document_of([USERS], prefix="My Job")

    [described] = written["streams"]
    inner = described["stream"]
    assert inner["type_schema"]["properties"]["id"]["type"] == ["integer"]
    assert inner["type_schema"]["properties"]["tags"]["type"] == ["array", "null"]
    assert (inner["destination_database"], inner["destination_table"]) == ("my_job:public", "users")
    assert inner["supported_sync_modes"] == ["full_refresh", "incremental"]
    assert [item["stream_name"] for item in written["selected_streams"]["public"]] == ["users"]


def test_what_discovery_writes_is_a_plan_with_the_same_columns():
    [plan] = plans(json.dumps(document_of([USERS], prefix="job")))

    assert [(column.name, column.type, column.nullable) for column in plan.columns] == [
        ("id", "BIGINT", False),
        ("tags", "VARCHAR[]", True),
        ("paid", "DECIMAL(10,2)", True),
    ]
    assert plan.target == Target("job_public", "users")
    assert (plan.mode, plan.write) == (Mode.FULL_REFRESH, Write.REPLACE)


def test_a_later_discovery_keeps_what_was_chosen():
    chosen = document_of([USERS], prefix="job")
    chosen["streams"][0]["stream"] |= {"sync_mode": "incremental", "cursor_field": "id", "destination_table": "people"}
    chosen["selected_streams"] = {}
    other = Stream("public", "orders", (Column("id", "BIGINT"),))

    again = document_of([USERS, other], prefix="job", chosen=json.dumps(chosen))

    inner = again["streams"][0]["stream"]
    assert (inner["sync_mode"], inner["cursor_field"], inner["destination_table"]) == ("incremental", "id", "people")
    assert again["selected_streams"] == {}


@pytest.mark.parametrize(
    ("facts", "chosen", "write"),
    [
        ({"sync_mode": "full_refresh"}, {}, Write.REPLACE),
        ({"sync_mode": "incremental", "cursor_field": "seen"}, {}, Write.UPSERT),
        ({"sync_mode": "incremental", "cursor_field": "seen"}, {"append_mode": True}, Write.APPEND),
        ({"sync_mode": "incremental", "cursor_field": "seen", "source_defined_primary_key": []}, {}, Write.APPEND),
    ],
)
def test_the_mode_and_the_key_decide_how_rows_are_kept(facts, chosen, write):
    [plan] = plans(document(stream(**facts), main=[choice(**chosen)]))

    assert plan.write is write


def test_disabled_streams_are_left_out_and_chosen_columns_keep_key_and_cursor():
    given = document(
        stream(sync_mode="incremental", cursor_field="seen"),
        stream("notes"),
        main=[choice(columns=["name"]), choice("notes", disabled=True)],
    )

    [plan] = plans(given)

    assert [column.name for column in plan.columns] == ["id", "name", "seen"]


def test_columns_are_renamed_and_unknown_types_come_from_their_words():
    properties = {"a": {"type": ["null", "integer_small"], "destination_column_name": "b"}, "c": {"type": "string"}}
    [plan] = plans(document(stream(type_schema={"properties": properties}, source_defined_primary_key=[])))

    assert plan.renames == {"a": "b"}
    assert plan.columns == (Column("a", "INTEGER", True, GUESSED), Column("c", "VARCHAR", False, GUESSED))


def test_what_was_discovered_says_more_than_the_document():
    place = ("main", "probes")
    known = Stream(*place, (Column("id", "INTEGER", False, "int"), Column("name", "UUID"), Column("new", "DATE")))

    [plan] = plans(document(), discovered={place: known}, epochs={place: 3})

    assert [(column.name, column.type) for column in plan.columns] == [
        ("id", "INTEGER"),
        ("name", "UUID"),
        ("seen", "BIGINT"),
    ]
    assert plan.epoch == 3


@pytest.mark.parametrize("nothing", ["[]", "", [], None, {}, {"streams": [], "selected_streams": {}}])
def test_an_empty_document_selects_nothing(nothing):
    assert plans(nothing) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "no JSON"),
        ("3", "object"),
        ({"streams": {}}, "streams: must be a list"),
        ({"streams": [3]}, "streams.0"),
        ({"streams": [{"stream": {"name": ""}}]}, "name"),
        ({"streams": [], "selected_streams": []}, "selected_streams"),
        ({"streams": [], "selected_streams": {"main": [{}]}}, "stream_name"),
        (document(stream(sync_mode="strict_cdc")), "main.probes: sync_mode: strict_cdc .* not offered"),
        (document(stream(sync_mode="sideways")), "main.probes: sync_mode"),
        (document(stream(sync_mode="incremental")), "main.probes: cursor_field"),
        (document(stream(sync_mode="incremental", cursor_field="nope")), "main.probes: cursor_field.*'nope'"),
        (document(stream(), main=[choice(), choice()]), "main.probes: stream_name: is selected twice"),
        (document(stream(), stream("b", destination_table="probes")), "main.b: destination_table"),
        (document(stream(), main=[choice(columns=["nope"])]), "main.probes: columns"),
        (document(stream(), main=[choice(filter="nope = 1")]), "main.probes: filter: .*'nope'"),
        (document(stream(), main=[choice(partition_regex="{")]), "main.probes: partition_regex"),
        (document(stream(), main=[choice(normalization="perhaps")]), "normalization"),
    ],
)
def test_a_wrong_document_names_the_stream_and_the_field(given, said):
    with pytest.raises(Invalid, match=said) as caught:
        plans(given)

    assert caught.value.field == "streams_config"


def test_sums_and_counting_become_part_of_the_plan_with_the_columns_that_they_need():
    [plan] = plans(document(main=[choice(columns=["name"], sums=["seen"], count="always")]))

    assert (plan.sums, plan.count) == (("seen",), "always")
    assert {column.name for column in plan.columns} == {"name", "seen"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sums": ["name"]}, "sums: name is VARCHAR"),
        ({"sums": ["none"]}, "sums: there is no column 'none'"),
        ({"count": "sometimes"}, "count"),
    ],
)
def test_a_sum_that_cannot_be_is_refused_by_name(more, said):
    with pytest.raises(Invalid, match=said) as found:
        plans(document(main=[choice(**more)]))
    assert "probes" in found.value.message


def test_a_connector_that_adds_nothing_up_is_named():
    catalog = read_catalog(document(main=[choice(sums=["seen"])]))
    check_ends_add_up(catalog, "sqlite", "duckdb")
    with pytest.raises(Invalid, match="cannot add columns up"):
        check_ends_add_up(catalog, "mongodb", "duckdb")
