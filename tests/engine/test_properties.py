"""Whatever the values, a table arrives equal; whatever the loads, the table equals a simple model of it."""

import csv
import datetime
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.engine.api_server import Asked, Reply, api_server
from tests.engine.conftest import World
from webapp.engine import json_values
from webapp.engine.json_pages import NotFast, read_fast
from webapp.engine.tasks import run_task

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12).map(
    lambda text: text.replace("\\N", "N")
) | st.sampled_from(['"', '""', "a,b", "line\nbreak", "🚀", "ünï", "'", "null", "007", "1e5", " x ", "#", ";|\t"])
ROW = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64),
        "t": st.none() | texts,
        "b": st.none() | st.booleans(),
        "at": st.none() | st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)),
    }
)
TYPES = {"i": "BIGINT", "f": "DOUBLE", "t": "VARCHAR", "b": "BOOLEAN", "at": "TIMESTAMP"}
Row = dict[str, Any]


@contextmanager
def a_world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        yield World(Path(folder))


def stored(world: World) -> list[tuple[Any, ...]]:
    return sorted(world.query("SELECT * FROM orders"))


def wanted(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [(n, *(row[name] for name in TYPES)) for n, row in enumerate(rows)]


@QUICK
@given(rows=st.lists(ROW, max_size=20))
def test_a_random_table_arrives_equal_by_csv(rows: list[Row]) -> None:
    with a_world() as world:
        with (world.data / "a.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["n", *TYPES])
            for row in wanted(rows):
                writer.writerow(["\\N" if value is None else repr(value) if isinstance(value, float) else value
                                 for value in row])  # fmt: skip
        receipt = world.load("a.csv", columns={"n": "BIGINT", **TYPES}, null_values=["\\N"])
        assert stored(world) == wanted(rows)
        assert receipt.doubt is None


@QUICK
@given(rows=st.lists(ROW, max_size=20), cut=st.integers(0, 20))
def test_a_random_table_arrives_equal_by_parquet(rows: list[Row], cut: int) -> None:
    schema = pa.schema([("n", pa.int64()), ("i", pa.int64()), ("f", pa.float64()), ("t", pa.string()),
                        ("b", pa.bool_()), ("at", pa.timestamp("us"))])  # fmt: skip
    numbered = [{"n": n, **row} for n, row in enumerate(rows)]
    with a_world() as world:
        (world.data / "in.pq").mkdir()
        for name, part in (("a", numbered[:cut]), ("b", numbered[cut:])):
            pq.write_table(pa.Table.from_pylist(part, schema), world.data / "in.pq" / f"{name}.parquet")
        receipt = world.load("in.pq")
        assert stored(world) == wanted(rows)
        assert receipt.doubt is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts
    | st.datetimes().map(lambda at: at.isoformat()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
RECORDS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON_VALUES, max_size=3), max_size=5)


@QUICK
@given(pages=st.lists(RECORDS, min_size=1, max_size=4))
def test_random_pages_of_json_arrive_without_loss(pages: list[list[Row]]) -> None:
    def answer(asked: Asked) -> Reply:
        page = int(asked.params.get("cursor", "0"))
        return Reply({"items": pages[page], "next_cursor": str(page + 1) if page + 1 < len(pages) else None})

    rows = [row for page in pages for row in page]
    if not any(rows):
        return
    with a_world() as world, api_server(answer) as server:
        receipt = run_task(
            {"type": "api", "url": server.url, "records": "items", "pagination": {"type": "cursor"}},
            {"type": "duckdb", "db_path": "out.duckdb", "table_name": "orders"},
            world.context(allow_private_addresses=True),
        )
        assert (receipt.rows_read, receipt.rows_found, receipt.doubt) == (len(rows), len(rows), None)
        names = [name for name, _ in receipt.schema]
        for given_row, row in zip(rows, world.query("FROM orders"), strict=True):
            for name, value in zip(names, row, strict=True):
                assert same(given_row.get(name), value), (name, given_row.get(name), value, receipt.schema)


def same(given_value: Any, value: Any) -> bool:
    """Whether a stored value says what the JSON value said: equal, or as text, or an instant of the same time."""
    match given_value, value:
        case None, _:
            return value is None or (isinstance(value, dict) and all(item is None for item in value.values()))
        case dict(), dict():
            return all(same(given_value.get(key), item) for key, item in value.items()) and set(given_value) <= set(
                value
            )
        case list(), list():
            return len(given_value) == len(value) and all(map(same, given_value, value))
        case str(), datetime.datetime():
            return datetime.datetime.fromisoformat(given_value.replace("Z", "")) == value
        case str(), str():
            return given_value == value
        case _, str():
            return bool(json.loads(value) == given_value)
    return (type(given_value) is type(value) and given_value == value) or float(given_value) == value == given_value


@QUICK
@given(rows=st.lists(st.dictionaries(st.sampled_from("ab"), JSON_VALUES, min_size=1), min_size=1, max_size=4))
def test_the_fast_reader_and_the_slow_one_agree(rows: list[Row]) -> None:
    body = json.dumps(rows).encode()
    try:
        fast = read_fast(body, None).records
    except NotFast:
        return
    types: dict[str, pa.DataType] = {}
    json_values.widened(types, rows)
    slow = json_values.to_table(rows, types)
    for name in fast.column_names:
        for left, right in zip(fast[name].to_pylist(), slow[name].to_pylist(), strict=True):
            assert left == right or same(left, right) or same(right, left)


class Loads(RuleBasedStateMachine):
    """Any order of replace, append and upsert leaves what a list of rows and a dict by key would hold."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.rows: list[tuple[int, int | None]] | None = None

    rows = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 99)), max_size=5)

    def load(self, rows: list[tuple[int, int | None]], mode: str) -> None:
        self.world.write_csv("a.csv", [["k", "v"], *rows])
        key = ["k"] if mode == "upsert" else []
        receipt = self.world.load("a.csv", mode=mode, key=key, columns={"k": "BIGINT", "v": "BIGINT"})
        assert (receipt.rows_read, receipt.rows_written, receipt.rows_found) == (len(rows),) * 3
        assert receipt.doubt is None

    @rule(rows=rows)
    def replace(self, rows: list[tuple[int, int | None]]) -> None:
        self.load(rows, "replace")
        self.rows = rows

    @rule(rows=rows)
    def append(self, rows: list[tuple[int, int | None]]) -> None:
        self.load(rows, "append")
        self.rows = (self.rows or []) + rows

    @rule(rows=rows)
    def upsert(self, rows: list[tuple[int, int | None]]) -> None:
        unique = list(dict(rows).items())
        self.load(unique, "upsert")
        keys = {key for key, _ in unique}
        self.rows = [row for row in self.rows or [] if row[0] not in keys] + unique

    @precondition(lambda self: self.rows is not None)
    @rule()
    def look(self) -> None:
        found = self.world.query("FROM orders")
        assert sorted(found, key=repr) == sorted(self.rows or [], key=repr)

    def teardown(self) -> None:
        self.folder.cleanup()


TestLoads = Loads.TestCase
TestLoads.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
