"""Replace, append and upsert: what each does to the table, and what it never does to the old rows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import World
from webapp.engine.errors import EngineError, Origin

MakeParquet = Callable[[str, str], Path]


def test_append_adds_rows(world: World) -> None:
    world.write("a.csv", "id,name\n1,a\n")
    assert world.load("a.csv", mode="append").rows_found == 1
    receipt = world.load("a.csv", mode="append")
    assert (receipt.rows_written, receipt.rows_found, receipt.doubt) == (1, 1, None)
    assert world.query("FROM orders") == [(1, "a"), (1, "a")]


def test_upsert_replaces_rows_of_the_same_key_and_adds_the_others(world: World) -> None:
    world.write("a.csv", "id,day,name\n1,2026-01-01,a\n1,2026-01-02,b\n2,2026-01-01,c\n")
    world.load("a.csv", mode="upsert", key=["id", "DAY"])
    world.write("a.csv", "id,day,name\n1,2026-01-02,B\n3,2026-01-01,d\n")
    receipt = world.load("a.csv", mode="upsert", key=["id", "DAY"])
    assert world.query("SELECT id, name FROM orders ORDER BY id, day") == [(1, "a"), (1, "B"), (2, "c"), (3, "d")]
    assert (receipt.rows_read, receipt.rows_written, receipt.rows_found, receipt.doubt) == (2, 2, 2, None)


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        ("id,name\n1,a\n,b\n", ["id"], "no value"),
        ("id,name\n1,a\n1,b\n", ["id"], "id = 1 stands in 2 rows"),
        ("id,name\n1,a\n", ["number"], "has no column number"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_upsert_without_a_sound_key_changes_nothing(
    world: World, content: str, key: list[str], words: str, first: bool
) -> None:
    if not first:
        world.write("old.csv", "id,name\n1,old\n")
        world.load("old.csv")
    world.write("a.csv", content)
    with pytest.raises(EngineError, match=words) as caught:
        world.load("a.csv", mode="upsert", key=key)
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)
    if not first:
        assert world.query("FROM orders") == [(1, "old")]


def test_new_columns_are_added_and_missing_ones_left_empty(world: World) -> None:
    world.write("a.csv", "id,name\n1,a\n")
    world.load("a.csv")
    world.write("a.csv", "color,id\nred,2\n")
    receipt = world.load("a.csv", mode="append")
    assert world.query("FROM orders ORDER BY id") == [(1, "a", None), (2, None, "red")]
    assert receipt.schema_changes == ["column color added as VARCHAR"]


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize(
    ("old", "new", "wide"),
    [
        ("1::INTEGER", "5000000000::BIGINT", "BIGINT"),
        ("5000000000::BIGINT", "1::SMALLINT", "BIGINT"),
        ("1::INTEGER", "2.5::DOUBLE", "DOUBLE"),
        ("1::UINTEGER", "-1::INTEGER", "BIGINT"),
        ("1.25::DECIMAL(4,2)", "123.125::DECIMAL(6,3)", "DECIMAL(6,3)"),
        ("1::SMALLINT", "1.5::DECIMAL(3,1)", "DECIMAL(6,1)"),
        ("DATE '2026-01-01'", "TIMESTAMP '2026-01-01 10:00:00'", "TIMESTAMP"),
        ("1.5::FLOAT", "2.25::DOUBLE", "DOUBLE"),
        ("'text'", "7::INTEGER", "VARCHAR"),
        ("{'a': 1}", "{'a': 2.5::DOUBLE, 'b': 'x'}", "STRUCT(a DOUBLE, b VARCHAR)"),
        ("[1::INTEGER]", "[5000000000]", "BIGINT[]"),
    ],
)
def test_types_widen_so_that_old_and_new_values_fit(
    world: World, make_parquet: MakeParquet, mode: str, old: str, new: str, wide: str
) -> None:
    make_parquet("old.parquet", f"SELECT 1 AS id, {old} AS v")
    make_parquet("new.parquet", f"SELECT 2 AS id, {new} AS v")
    world.load("old.parquet")
    before = world.query("SELECT v FROM orders")[0][0]
    receipt = world.load("new.parquet", mode=mode, key=["id"] if mode == "upsert" else [])
    assert dict(receipt.schema)["v"] == wide
    after = world.query("SELECT v FROM orders ORDER BY id")
    assert len(after) == 2
    if not isinstance(before, dict) and "DATE" not in old:
        assert after[0][0] == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1::INTEGER", "'text'"),
        ("TIMESTAMP '2026-01-01 10:00:00'", "5::INTEGER"),
        ("true", "5::INTEGER"),
        ("[1]", "5::INTEGER"),
        ("{'a': 1}", "5::INTEGER"),
        ("9007199254740993::BIGINT", "0.5::DOUBLE"),
    ],
)
def test_a_type_that_cannot_widen_stops_the_load_and_keeps_the_table(
    world: World, make_parquet: MakeParquet, old: str, new: str
) -> None:
    make_parquet("old.parquet", f"SELECT 1 AS id, {old} AS v")
    make_parquet("new.parquet", f"SELECT 2 AS id, {new} AS v")
    world.load("old.parquet")
    before = world.query("FROM orders")
    with pytest.raises(EngineError, match="column v of orders") as caught:
        world.load("new.parquet", mode="append")
    assert (caught.value.origin, caught.value.permanent) == (Origin.DESTINATION, True)
    assert world.query("FROM orders") == before


def test_a_csv_column_without_values_fits_any_column(world: World) -> None:
    world.write("a.csv", "id,price\n1,2.5\n")
    world.load("a.csv")
    world.write("a.csv", "id,price\n2,\n")
    receipt = world.load("a.csv", mode="append")
    assert (receipt.rows_found, receipt.schema_changes) == (1, [])


def test_text_in_a_csv_for_a_column_of_numbers_is_named_by_line(world: World) -> None:
    world.write("a.csv", "id,price\n1,2.5\n")
    world.load("a.csv")
    world.write("a.csv", "id,price\n2,3\n3,dear\n")
    with pytest.raises(EngineError) as caught:
        world.load("a.csv", mode="append")
    assert (caught.value.facts["line"], caught.value.facts["value"]) == (3, "dear")


def test_a_rule_of_the_table_that_refuses_a_row_refuses_the_load(world: World) -> None:
    world.write("a.csv", "id\n1\n2\n")
    world.load("a.csv")
    import duckdb

    with duckdb.connect(str(world.data / "out.duckdb")) as connection:
        connection.execute("CREATE UNIQUE INDEX one ON orders (id)")
    with pytest.raises(EngineError) as caught:
        world.load("a.csv", mode="append")
    assert (caught.value.origin, caught.value.permanent) == (Origin.DESTINATION, True)
    assert world.query("SELECT count(*) FROM orders") == [(2,)]


def test_a_view_is_not_replaced(world: World) -> None:
    import duckdb

    with duckdb.connect(str(world.data / "out.duckdb")) as connection:
        connection.execute("CREATE VIEW orders AS SELECT 1 AS id")
    world.write("a.csv", "id\n1\n")
    with pytest.raises(EngineError, match="view"):
        world.load("a.csv")


def test_schemas_and_names_with_quotes_are_names_only(world: World) -> None:
    world.write("a.csv", 'id,"a""b; DROP TABLE x"\n1,2\n')
    world.load("a.csv", table='raw.o"r; DROP SCHEMA main')
    assert world.query('SELECT * FROM raw."o""r; DROP SCHEMA main"') == [(1, 2)]


def test_loading_into_memory_counts_and_leaves_nothing(world: World) -> None:
    world.write("a.csv", "id\n1\n")
    assert world.load("a.csv", db=":memory:").rows_found == 1
    assert sorted(path.name for path in world.data.iterdir()) == ["a.csv"]


def test_the_temporary_folder_is_left_clean(world: World) -> None:
    world.write("a[1].csv", "name\nMüller\n".encode("latin-1"))
    world.load("a[1].csv", encoding="latin-1")
    assert list(world.temp.iterdir()) == []
