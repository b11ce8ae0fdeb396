"""CSV files arrive as they are, and say what is wrong with them when they cannot."""

import datetime
import gzip

import pytest
import zstandard

from tests.engine.conftest import World
from webapp.engine.errors import EngineError, Kind, Origin

ORDERS = [["id", "name", "price", "day"], [1, "tin", 2.5, "2026-01-02"], [2, "copper, raw", "", "2026-01-03"]]


def test_a_csv_file_becomes_a_table_with_inferred_types(world: World) -> None:
    world.write_csv("orders.csv", ORDERS)
    receipt = world.load("orders.csv")
    assert world.query("FROM orders ORDER BY id") == [
        (1, "tin", 2.5, datetime.date(2026, 1, 2)),
        (2, "copper, raw", None, datetime.date(2026, 1, 3)),
    ]
    assert (receipt.rows_read, receipt.rows_written, receipt.rows_found, receipt.doubt) == (2, 2, 2, None)
    assert receipt.schema == [("id", "BIGINT"), ("name", "VARCHAR"), ("price", "DOUBLE"), ("day", "DATE")]
    assert receipt.bytes_read == (world.data / "orders.csv").stat().st_size


def test_each_step_is_told_and_timed(world: World) -> None:
    world.write_csv("orders.csv", ORDERS)
    receipt = world.load("orders.csv")
    assert world.heard.started == world.heard.ended == ["prepare", "open", "load", "verify", "commit"]
    assert set(receipt.seconds) == set(world.heard.started)
    assert world.heard.moved[-1] == (2, 2, receipt.bytes_read, 1.0)


def test_replace_takes_the_place_of_the_old_table(world: World) -> None:
    world.write_csv("orders.csv", ORDERS)
    world.load("orders.csv")
    world.write_csv("orders.csv", [["id", "color"], [7, "red"]])
    receipt = world.load("orders.csv")
    assert world.query("FROM orders") == [(7, "red")]
    assert receipt.schema_changes == [
        "column color added as VARCHAR",
        "column name removed",
        "column price removed",
        "column day removed",
    ]


def test_declared_types_win_over_inferred_ones(world: World) -> None:
    world.write_csv("orders.csv", [["id", "price"], [1, "2.50"], [2, "3"]])
    receipt = world.load("orders.csv", columns={"ID": "varchar", "price": "decimal(10, 2)"})
    assert receipt.schema == [("id", "VARCHAR"), ("price", "DECIMAL(10,2)")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(world: World, delimiter: str) -> None:
    world.write("a.csv", f'id{delimiter}"a,b;c"\n1{delimiter}x\n'.replace('"a,b;c"', '"n,;|"'))
    world.load("a.csv")
    assert world.query("SELECT * FROM orders") == [(1, "x")]


def test_a_text_column_of_sentences_stays_one_column(world: World) -> None:
    world.write("a.csv", 'text\n"hello; world, x"\nfoo\n')
    world.load("a.csv")
    assert world.query("FROM orders") == [("hello; world, x",), ("foo",)]


def test_lines_that_look_like_comments_or_titles_are_not_skipped(world: World) -> None:
    world.write("a.csv", "id,name\n#1,a\n2,b\n#3,c\n")
    assert world.load("a.csv").rows_found == 3


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "name\nMüller\n\x80é\n"),
        ("windows-1252", "name\n€uro\n"),
        ("utf-16", "name\nŁódź 🚀\n"),
        ("utf-16-le", "name\nŁódź\n"),
        ("utf-8-sig", "name\nŁódź\n"),
        ("shift_jis", "name\n東京\n"),
    ],
)
def test_an_encoding_is_read_as_it_is(world: World, encoding: str, text: str) -> None:
    world.write("a.csv", text.encode(encoding))
    world.load("a.csv", encoding=encoding)
    assert [row[0] for row in world.query("FROM orders")] == text.rstrip("\n").split("\n")[1:]


def test_a_wrong_encoding_is_named(world: World) -> None:
    world.write("a.csv", "name\nMüller\n".encode("latin-1"))
    with pytest.raises(EngineError, match="utf-8") as caught:
        world.load("a.csv")
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst"])
def test_compressed_files_of_several_members_are_read_whole(world: World, ending: str) -> None:
    pack = gzip.compress if ending.endswith("gz") else zstandard.compress
    world.write(f"a.{ending}", pack(b"id,name\n1,a\n") + pack(b"2,b\n"))
    world.load(f"a.{ending}")
    assert world.query("FROM orders ORDER BY id") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst"])
def test_a_compressed_file_that_was_cut_is_refused(world: World, ending: str) -> None:
    pack = gzip.compress if ending.endswith("gz") else zstandard.compress
    packed = pack(b"id\n" + b"".join(b"%d\n" % (i * 7919) for i in range(200_000)))
    world.write(f"a.{ending}", packed[: len(packed) // 2])
    with pytest.raises(EngineError, match=r"cut short|Unexpected end|cannot be read") as caught:
        world.load(f"a.{ending}")
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)


def test_a_pattern_reads_all_its_files_and_unites_their_columns(world: World) -> None:
    world.write("in/a.csv", "id,name\n1,a\n")
    world.write("in/b.csv", "name,id,extra\nb,2,x\n")
    world.write("in/c.txt", "id\n3\n")
    world.load("in/*.csv")
    assert world.query("SELECT id, name, extra FROM orders ORDER BY id") == [(1, "a", None), (2, "b", "x")]


def test_a_folder_reads_its_csv_files(world: World) -> None:
    world.write("in/a.csv", "id\n1\n")
    world.write("in/deep/b.csv.gz", gzip.compress(b"id\n2\n"))
    with pytest.raises(EngineError):
        world.load("in", compression="gzip")
    world.write("plain/a.csv", "id\n1\n")
    world.write("plain/deep/b.csv", "id\n2\n")
    assert world.load("plain").rows_found == 2


def test_characters_of_patterns_in_a_name_are_only_characters(world: World) -> None:
    world.write("a[1].csv", "id\n1\n")
    world.write("a1.csv", "other\n2\n")
    world.load("a[1].csv")
    assert world.query("SELECT id FROM orders") == [(1,)]


def test_a_ragged_line_is_named_with_its_columns(world: World) -> None:
    world.write("a.csv", "id,name,x\n1,a,2\n2,b\n3,c,4\n")
    with pytest.raises(EngineError) as caught:
        world.load("a.csv")
    facts = caught.value.facts
    assert (facts["file"], facts["line"], facts["expected"], facts["got"]) == ("a.csv", 3, 3, 2)
    assert (caught.value.origin, caught.value.kind, caught.value.permanent) == (
        Origin.SOURCE,
        Kind.CONFIGURATION,
        True,
    )


def test_a_ragged_line_far_down_is_named_too(world: World) -> None:
    world.write("a.csv", "id,name,x\n" + "1,a,2\n" * 60_000 + "2,b,3,4\n")
    with pytest.raises(EngineError) as caught:
        world.load("a.csv")
    facts = caught.value.facts
    assert (facts["file"], facts["line"], facts["expected"], facts["got"]) == ("a.csv", 60_002, 3, 4)


def test_a_value_that_is_not_of_its_declared_type_is_named(world: World) -> None:
    world.write("a.csv", "id,name\n1,a\nfoo,b\n")
    with pytest.raises(EngineError) as caught:
        world.load("a.csv", columns={"id": "BIGINT"})
    facts = caught.value.facts
    assert (facts["line"], facts["column"], facts["value"], facts["type"]) == (3, "id", "foo", "BIGINT")


def test_a_type_guessed_too_narrow_is_guessed_again_from_all_rows(world: World) -> None:
    world.write("a.csv", "id,n\n" + "1,1\n" * 60_000 + "abc,2.5\n")
    receipt = world.load("a.csv")
    assert receipt.schema == [("id", "VARCHAR"), ("n", "DOUBLE")]
    assert receipt.rows_found == 60_001
    assert ("warning", "the types of the first rows do not fit all rows; looking at all of them") in world.heard.logs


def test_a_type_declared_for_a_column_that_is_not_there_is_refused(world: World) -> None:
    world.write("a.csv", "id\n1\n")
    with pytest.raises(EngineError, match="nope") as caught:
        world.load("a.csv", columns={"nope": "BIGINT"})
    assert caught.value.origin is Origin.USER


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_named(world: World, content: str) -> None:
    world.write("a.csv", content)
    with pytest.raises(EngineError, match="empty") as caught:
        world.load("a.csv")
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)


def test_a_header_alone_makes_an_empty_table(world: World) -> None:
    world.write("a.csv", "id,name\n")
    receipt = world.load("a.csv")
    assert (receipt.rows_read, receipt.rows_found, receipt.doubt) == (0, 0, None)
    assert world.query("FROM orders") == []


def test_a_missing_file_is_named(world: World) -> None:
    with pytest.raises(EngineError, match=r"nope\.csv") as caught:
        world.load("nope.csv")
    assert (caught.value.origin, caught.value.permanent) == (Origin.SOURCE, True)


def test_without_a_header_declared_columns_name_the_fields(world: World) -> None:
    world.write("a.csv", "1,x\n2,y\n")
    receipt = world.load("a.csv", header=False, columns={"number": "INTEGER", "letter": "TEXT"})
    assert receipt.schema == [("number", "INTEGER"), ("letter", "VARCHAR")]
    assert receipt.rows_found == 2


def test_null_values_are_only_those_named(world: World) -> None:
    world.write("a.csv", 'a,b\nNA,1\n"",NA\n')
    world.load("a.csv", null_values=["NA"], columns={"a": "VARCHAR"})
    assert world.query("FROM orders") == [(None, 1), ("", None)]


def test_without_a_quote_every_quote_is_text(world: World) -> None:
    world.write(
        "a.csv",
        'a,b\n"x,y"\n',
    )
    world.load("a.csv", quote="")
    assert world.query("FROM orders") == [('"x', 'y"')]


def test_another_quote_and_escape_are_understood(world: World) -> None:
    world.write("a.csv", "a;b\n'it\\'s; here';2\n")
    world.load("a.csv", quote="'", escape="\\")
    assert world.query("FROM orders") == [("it's; here", 2)]


def test_a_guess_corrected_by_all_rows_still_fits_the_table_it_is_added_to(world: World) -> None:
    world.write("a.csv", "id,price,note\n1,2.5,x\n")
    world.load("a.csv")
    world.write("a.csv", "id,price,note\n" + "1,,5\n" * 60_000 + "2,,text\n")
    receipt = world.load("a.csv", mode="append")
    assert (receipt.rows_found, receipt.schema_changes) == (60_001, [])


def test_rows_that_do_not_agree_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from webapp.engine.tables import TableLoad

    monkeypatch.setattr(TableLoad, "_count", lambda self, table: 1)
    world.write_csv("orders.csv", ORDERS)
    assert world.load("orders.csv").doubt == "2 rows were read, 2 written and 1 found in the table afterwards"


def test_a_large_file_arrives_whole_although_its_order_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.engine.csv_files._ORDERED_SIZE", 0)
    world.write("a.csv", "id,name\n" + "".join(f"{n},n{n}\n" for n in range(300_000)))
    receipt = world.load("a.csv")
    assert (receipt.rows_read, receipt.rows_found, receipt.doubt) == (300_000, 300_000, None)
    assert world.query("SELECT count(DISTINCT id), sum(id) FROM orders") == [(300_000, 299_999 * 150_000)]


@pytest.mark.parametrize("blank", ["\n", "\n\n\n", "\r\n\r\n"])
def test_empty_lines_before_the_header_are_no_lines(world: World, blank: str) -> None:
    end = "\r\n" if "\r" in blank else "\n"
    world.write("a.csv", f"{blank}id,name{end}1,a{end}")
    receipt = world.load("a.csv")
    assert receipt.schema == [("id", "BIGINT"), ("name", "VARCHAR")]
    assert world.query("FROM orders") == [(1, "a")]
