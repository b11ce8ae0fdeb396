import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.engine.connectors.base import Condition, Filter, Partition
from webapp.engine.sync.filters import parse_filter
from webapp.engine.sync.partitions import parse_partitions

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), NAMES, st.just("")
)


def spelled(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(value)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    value = draw(VALUES)
    op = draw(st.sampled_from(["=", "!="] if value is None else ["=", "!=", "<", "<=", ">", ">="]))
    return Condition(draw(NAMES), op, value)


@given(st.lists(conditions(), min_size=1, max_size=5), st.sampled_from(["and", "or"]), st.sampled_from(["", " ", "\n"]))
def test_what_is_written_is_understood(parts: list[Condition], word: str, space: str) -> None:
    text = f" {word.upper()} ".join(
        f"{spelled(part.column)}{space}{part.op}{space}{spelled(part.value)}" for part in parts
    )
    found = parse_filter(text)
    assert found == Filter(tuple(parts), word if len(parts) > 1 else "and")


def test_the_contracts_example_is_understood() -> None:
    found = parse_filter('col >= 5 and name = "x"')
    assert found == Filter((Condition("col", ">=", 5), Condition("name", "=", "x")))
    assert parse_filter("  ") is None
    assert parse_filter("day > 2024-01-01") == Filter((Condition("day", ">", "2024-01-01"),))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a >", "character 4"), ('a = "x', "character 5"), ("a = 5 b = 6", "character 7"), ("= 5", "character 1"),
        ("a ! 5", "character 3"), ("a > null", "character 3"), ("a = 5 and", "character 10"), ('"" = 5', "character 1"),
        ("a = 1 and b = 2 or c = 3", "both"), ("a = 1e999", "too large"), ("a = 5; DROP TABLE x", "character 8"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        parse_filter(text)


def test_partitions_are_understood() -> None:
    assert parse_partitions("") == ()
    assert parse_partitions("/{at, year}/{region, identity}/{id, bucket[16]}/{plain}") == (
        Partition("at", "year"), Partition("region"), Partition("id", "bucket", 16), Partition("plain")
    )  # fmt: skip
    assert parse_partitions('/{at,"",YYYY}/{at,"",MM}') == (Partition("at", "year"), Partition("at", "month"))


@pytest.mark.parametrize("text", ["at", "/{at, century}", "/{at, bucket}", "/{}", "/{at, year[4]}", "/{a}/{a}", "/{a"])
def test_partitions_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"partition|transform|width"):
        parse_partitions(text)
