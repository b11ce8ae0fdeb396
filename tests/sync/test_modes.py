import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.sync.conftest import Lab, plan_of
from webapp.engine.connectors.base import Target, Write
from webapp.engine.errors import EngineError
from webapp.engine.sync.plan import StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

Fill = Callable[..., None]
ORDERS = {"id": "BIGINT", "name": "VARCHAR", "at": "BIGINT"}


def test_a_full_refresh_replaces_the_table_and_its_receipt_agrees(lab: Lab, fill: Fill) -> None:
    fill("orders", ORDERS, [(n, f"n{n}", n) for n in range(5000)])
    first = lab.one(plan_of("orders", ORDERS))
    fill("orders", ORDERS, [(7, "seven", 7)])
    second = lab.one(plan_of("orders", ORDERS))
    assert (first.rows_source, first.rows_read, first.rows_written, first.rows_found) == (5000,) * 4
    assert (second.status, second.rows_total) == (StreamStatus.LANDED, 1)
    assert lab.rows("FROM orders") == [(7, "seven", 7)]
    assert not lab.hidden()


def test_an_empty_table_is_made_with_its_columns(lab: Lab, fill: Fill) -> None:
    fill("empty", ORDERS, [])
    receipt = lab.one(plan_of("empty", ORDERS))
    assert (receipt.status, receipt.rows_found) == (StreamStatus.LANDED, 0)
    assert [row[0] for row in lab.rows("DESCRIBE empty")] == list(ORDERS)


def test_an_append_takes_equal_and_late_values_once(lab: Lab, fill: Fill) -> None:
    plan = plan_of("log", ORDERS, Write.APPEND, "at")
    rows = [(1, "a", 10), (2, "b", 10), (2, "b", 10)]
    fill("log", ORDERS, rows)
    lab.one(plan)
    rows += [(2, "b", 10), (3, "c", 10), (4, "late", 9), (5, "new", 11)]
    fill("log", ORDERS, rows)
    receipt = lab.one(plan)
    assert receipt.rows_read == receipt.rows_written == receipt.rows_found == receipt.rows_source == 4
    assert sorted(lab.rows("FROM log")) == sorted(rows)
    assert (receipt.state_before or {})["value"] == 10
    assert (receipt.state_after or {})["value"] == 11


def test_an_upsert_takes_changes_at_an_equal_cursor_value(lab: Lab, fill: Fill) -> None:
    plan = plan_of("people", ORDERS, Write.UPSERT, "at", primary_key=("id",))
    fill("people", ORDERS, [(1, "a", 10), (2, "b", 10)])
    lab.one(plan)
    fill("people", ORDERS, [(1, "changed", 10), (2, "b", 10), (3, "late", 1)])
    receipt = lab.one(plan)
    assert receipt.rows_written == 2
    assert sorted(lab.rows("FROM people")) == [(1, "changed", 10), (2, "b", 10), (3, "late", 1)]


def test_nothing_new_writes_nothing(lab: Lab, fill: Fill) -> None:
    plan = plan_of("big", ORDERS, Write.APPEND, "at")
    fill("big", ORDERS, [(n, "x" * 50, n) for n in range(50_000)])
    lab.one(plan)
    before = lab.file.stat()
    receipt = lab.one(plan)
    after = lab.file.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert (receipt.status, receipt.rows_read, receipt.rows_total) == (StreamStatus.LANDED, 0, None)
    assert receipt.state_after == receipt.state_before


def test_many_rows_at_one_cursor_value_are_told_apart_up_to_a_limit(lab: Lab, fill: Fill) -> None:
    plan = plan_of("days", ORDERS, Write.APPEND, "at")
    rows = [(n, "x", 1) for n in range(20_000)]
    fill("days", ORDERS, rows)
    lab.one(plan)
    fill("days", ORDERS, [*rows, (-1, "x", 1)])
    assert lab.one(plan).rows_written == 1
    fill("crowd", ORDERS, [(n, "x", 1) for n in range(60_000)])
    refused = lab.one(plan_of("crowd", ORDERS, Write.APPEND, "at"))
    assert "share the last value" in (refused.error or {})["message"]
    upserted = plan_of("crowd", ORDERS, Write.UPSERT, "at", primary_key=("id",))
    assert lab.one(upserted).rows_found == lab.one(upserted).rows_found == 60_000


def test_rows_without_a_cursor_value_come_once(lab: Lab, fill: Fill) -> None:
    plan = plan_of("holes", ORDERS, Write.APPEND, "at")
    fill("holes", ORDERS, [(1, "a", None), (2, "b", None)])
    lab.one(plan)
    lab.one(plan)
    fill("holes", ORDERS, [(1, "a", None), (2, "b", None), (3, "c", 5)])
    lab.one(plan)
    lab.one(plan)
    assert sorted(row[0] for row in lab.rows("FROM holes")) == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DATE", [datetime.date(2024, 1, day) for day in range(1, 5)]),
        ("TIMESTAMP", [datetime.datetime(2024, 1, 1, 0, 0, 0, micro) for micro in (0, 5, 70, 900_000)]),
        ("TIMESTAMP WITH TIME ZONE", [datetime.datetime(2024, 1, d, tzinfo=datetime.UTC) for d in range(1, 5)]),
        ("DOUBLE", [0.5, 1.0, 1.5, 1e300]),
        ("VARCHAR", ["a", "b", "c", "d"]),
    ],
)
def test_cursors_of_many_types_go_on_where_they_ended(lab: Lab, fill: Fill, kind: str, values: list[Any]) -> None:
    columns = {"id": "BIGINT", "at": kind}
    plan = plan_of("t", columns, Write.APPEND, "at")
    fill("t", columns, list(enumerate(values[:2])))
    lab.one(plan)
    fill("t", columns, list(enumerate(values)))
    assert lab.one(plan).rows_written == 2
    assert lab.one(plan).rows_written == 0
    assert lab.rows("SELECT id FROM t ORDER BY id") == [(0,), (1,), (2,), (3,)]


def test_a_reset_reads_everything_again_into_a_new_table(lab: Lab, fill: Fill) -> None:
    fill("t", ORDERS, [(1, "a", 1), (2, "b", 2)])
    lab.one(plan_of("t", ORDERS, Write.APPEND, "at"))
    fill("t", ORDERS, [(2, "b", 2)])
    for facts in ({"epoch": 1}, {"epoch": 1, "refresh": True}):
        assert lab.one(plan_of("t", ORDERS, Write.APPEND, "at", **facts)).rows_written == 1
        assert lab.rows("FROM t") == [(2, "b", 2)]


def test_a_table_that_somebody_dropped_is_read_anew(lab: Lab, fill: Fill) -> None:
    import duckdb

    plan = plan_of("t", ORDERS, Write.APPEND, "at")
    fill("t", ORDERS, [(1, "a", 1)])
    lab.one(plan)
    with duckdb.connect(str(lab.file)) as connection:
        connection.execute("DROP TABLE t")
    lab.one(plan)
    assert lab.rows("FROM t") == [(1, "a", 1)]


def test_without_normalization_names_and_structs_stay_as_they_are(lab: Lab, fill: Fill) -> None:
    columns = {"The Id": "BIGINT", "home": "STRUCT(city VARCHAR, zip BIGINT)"}
    fill("t", columns, [(1, {"city": "Ulm", "zip": 5})])
    lab.one(plan_of("t", columns))
    assert lab.rows('SELECT "The Id", home FROM t') == [(1, {"city": "Ulm", "zip": 5})]
    assert [row[0] for row in lab.rows("DESCRIBE t")] == list(columns)


def test_names_are_changed_and_structs_opened(lab: Lab, fill: Fill) -> None:
    columns = {"The Id": "BIGINT", "home": "STRUCT(city VARCHAR, zip BIGINT)", "x": "BIGINT"}
    fill("t", columns, [(1, {"city": "Oslo", "zip": 5}, 2), (2, None, None)])
    plan = plan_of("t", columns, Write.UPSERT, primary_key=("The Id",), normalization=True, renames={"x": "Why"})
    lab.one(plan)
    assert [row[0] for row in lab.rows("DESCRIBE t")] == ["the_id", "home_city", "home_zip", "why"]
    assert sorted(lab.rows("FROM t")) == [(1, "Oslo", 5, 2), (2, None, None, None)]


def test_values_survive(lab: Lab, fill: Fill) -> None:
    columns = {
        "t": "VARCHAR", "d": "DECIMAL(38,10)", "f": "DOUBLE", "h": "HUGEINT", "u": "UUID", "j": "JSON", "b": "BLOB",
        "l": "VARCHAR[]", "x": "BOOLEAN", "ti": "TIME",
    }  # fmt: skip
    row = (
        'emoji 🚀 "quotes"\nnewline, tab\t', Decimal("-123456789012345678.0123456789"), float("inf"),
        Decimal(10**37), "6f1e4b5c-0d3a-4f5e-9a57-0d9d3f0a1b2c", '{"a": [1, null]}', b"\x00\xff", ["a", None, "ü"],
        False, datetime.time(23, 59, 59, 999999),
    )  # fmt: skip
    fill("t", columns, [row, (None,) * len(columns), ("", *row[1:2], float("-inf"), *row[3:])])
    assert lab.one(plan_of("t", columns)).status is StreamStatus.LANDED
    rows = lab.rows("SELECT * REPLACE (u::VARCHAR AS u, h::DECIMAL(38,0) AS h) FROM t ORDER BY t NULLS FIRST")
    assert rows[2] == row
    assert rows[0] == (None,) * len(columns)
    assert rows[1][2] == float("-inf")


def test_two_thousand_columns_go(lab: Lab, fill: Fill) -> None:
    columns = {f"c{n}": "BIGINT" for n in range(2000)}
    fill("wide", columns, [tuple(range(2000))] * 3)
    plan = plan_of("wide", columns, Write.APPEND, "c0")
    assert lab.one(plan).rows_written == 3
    assert lab.one(plan).rows_written == 0


def test_many_streams_share_the_connections(lab: Lab, fill: Fill) -> None:
    plans = []
    for number in range(12):
        fill(f"t{number}", ORDERS, [(n, "x", n) for n in range(3000)])
        plans.append(plan_of(f"t{number}", ORDERS, target=Target("deep", f"t{number}")))
    receipts = lab.sync(*plans, parallel=2)
    assert [receipt.rows_found for receipt in receipts] == [3000] * 12
    assert [receipt.stream for receipt in receipts] == [f"t{number}" for number in range(12)]
    assert lab.shelf.most_at_once <= 2
    assert lab.rows("SELECT count(*) FROM deep.t11") == [(3000,)]


def test_what_cannot_be_is_refused_clearly_and_the_others_go(lab: Lab, fill: Fill) -> None:
    for name in ("good", "keyless", "same", "text", "cut"):
        fill(name, ORDERS, [(1, "a", 1)])
    receipts = lab.sync(
        plan_of("keyless", ORDERS, Write.UPSERT),
        plan_of("same", ORDERS, target=Target("", "one")),
        plan_of("text", ORDERS, target=Target("", "ONE")),
        plan_of("cut", ORDERS, filter='name = "x'),
        plan_of("good", ORDERS),
    )
    messages = [(receipt.error or {}).get("message", "") for receipt in receipts]
    assert "has no key" in messages[0]
    assert "2 streams" in messages[1]
    assert "2 streams" in messages[2]
    assert "not closed" in messages[3]
    assert receipts[4].status is StreamStatus.LANDED
    assert all((receipt.error or {}).get("kind") == "configuration" for receipt in receipts[:4])


def test_a_side_that_cannot_be_opened_says_so(lab: Lab) -> None:
    for spec, word in (
        (SyncSpec("nothing", {}, "duckdb", {"path": "x"}, ()), "nothing"),
        (SyncSpec("memory", {}, "duckdb", {}, ()), "path"),
        (SyncSpec("memory", {}, "duckdb", {"path": "../x.duckdb"}, ()), "outside"),
        (SyncSpec("memory", {}, "duckdb", {"path": ":memory:"}, ()), "in memory"),
    ):
        with pytest.raises(EngineError, match=word):
            run_sync(spec, lab.context, lambda receipt: None)


def test_a_database_named_like_the_file_is_no_riddle(lab: Lab, fill: Fill) -> None:
    fill("orders", ORDERS, [(1, "one", 1), (2, "two", 2)])
    ways = {
        "kept": plan_of("orders", ORDERS, target=Target("lake", "kept")),
        "grown": plan_of("orders", ORDERS, Write.UPSERT, "at", primary_key=("id",), target=Target("lake", "grown")),
    }
    for _ in range(3):
        for plan in ways.values():
            receipt = lab.one(plan)
            assert receipt.status is StreamStatus.LANDED, receipt
    for table in ways:
        assert lab.rows(f'SELECT id FROM "lake"."lake"."{table}" ORDER BY id') == [(1,), (2,)]
