"""Parquet files arrive whole, and are refused when they are not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import World
from webapp.engine.errors import EngineError, Origin

MakeParquet = Callable[[str, str], Path]


def test_a_parquet_file_keeps_its_types(world: World, make_parquet: MakeParquet) -> None:
    make_parquet("a.parquet", "SELECT 1::SMALLINT AS a, [1.5::DECIMAL(4,1)] AS b, {'x': DATE '2026-01-01'} AS c")
    receipt = world.load("a.parquet")
    assert receipt.schema == [("a", "SMALLINT"), ("b", "DECIMAL(4,1)[]"), ("c", "STRUCT(x DATE)")]
    assert (receipt.rows_read, receipt.rows_written, receipt.rows_found, receipt.doubt) == (1, 1, 1, None)


def test_a_folder_and_a_pattern_read_all_files_with_their_columns_united(
    world: World, make_parquet: MakeParquet
) -> None:
    make_parquet("in.pq/a.parquet", "SELECT 1 AS id, 5::INTEGER AS v")
    make_parquet("in.pq/deep/b.parquet", "SELECT 2 AS id, 2.5::DOUBLE AS v, 'x' AS extra")
    for path in ("in.pq", "in.pq/**/*.parquet"):
        receipt = world.load(path)
        assert (receipt.rows_read, receipt.rows_found) == (2, 2)
        assert world.query("SELECT id, v, extra FROM orders ORDER BY id") == [(1, 5.0, None), (2, 2.5, "x")]


def test_an_empty_parquet_file_makes_an_empty_table(world: World, make_parquet: MakeParquet) -> None:
    make_parquet("a.parquet", "SELECT 1 AS id WHERE false")
    receipt = world.load("a.parquet")
    assert (receipt.rows_read, receipt.rows_found, receipt.doubt) == (0, 0, None)


@pytest.mark.parametrize("keep", [0, 3, 8, 200, -20])
def test_a_parquet_file_that_was_cut_is_refused_and_the_table_kept(
    world: World, make_parquet: MakeParquet, keep: int
) -> None:
    whole = make_parquet("a.parquet", "SELECT range AS id FROM range(1000)").read_bytes()
    world.load("a.parquet")
    world.write("a.parquet", whole[:keep])
    with pytest.raises(EngineError, match=r"a\.parquet") as caught:
        world.load("a.parquet")
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)
    assert world.query("SELECT count(*) FROM orders") == [(1000,)]


def test_a_parquet_file_broken_inside_is_refused_and_the_table_kept(world: World, make_parquet: MakeParquet) -> None:
    path = make_parquet("a.parquet", "SELECT range AS id, md5(range::VARCHAR) AS h FROM range(20000)")
    world.load("a.parquet")
    whole = bytearray(path.read_bytes())
    whole[2000:60000] = b"\xff" * 58000
    path.write_bytes(whole)
    with pytest.raises(EngineError) as caught:
        world.load("a.parquet")
    assert caught.value.origin is Origin.SOURCE
    assert world.query("SELECT count(*) FROM orders") == [(20000,)]
