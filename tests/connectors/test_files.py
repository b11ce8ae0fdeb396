"""Files on this machine: every format, streams by names, folders and patterns, and what is wrong with files."""

import datetime
import gzip
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pytest

from tests.connectors.reading import context_in, failed, rows_of, stream_of, types_of, whole
from webapp.engine.connectors.base import Condition, Filter, Mode
from webapp.engine.connectors.files.source import MODIFIED, FilesSource
from webapp.engine.connectors.files.spec import FilesSourceSpec
from webapp.engine.errors import EngineError, Origin


def files(folder: Path, **config: Any) -> FilesSource:
    return FilesSource(FilesSourceSpec(**config), context_in(folder))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def plain_rows(source: FilesSource, name: str, **window: Any) -> list[dict[str, Any]]:
    stream = stream_of(source, name)
    names = [column.name for column in stream.columns if column.name != MODIFIED]
    return rows_of(source, whole(stream, *names, **window))


def test_each_csv_file_is_a_stream_by_its_name(tmp_path: Path, data: Path) -> None:
    (data / "orders.csv").write_text("id,at,paid\n1,2024-01-01,1.5\n2,2024-02-01,\n")
    (data / "people.csv.gz").write_bytes(gzip.compress(b"name\nAda\n"))
    source = files(tmp_path, path="*.csv*")
    assert [stream.name for stream in source.discover()] == ["orders", "people"]
    assert types_of(stream_of(source, "orders")) == {
        "id": "BIGINT", "at": "DATE", "paid": "DOUBLE", MODIFIED: "TIMESTAMP WITH TIME ZONE"}  # fmt: skip
    assert plain_rows(source, "orders")[1] == {"id": 2, "at": datetime.date(2024, 2, 1), "paid": None}
    assert plain_rows(source, "people") == [{"name": "Ada"}]
    assert all(step.ok for step in source.check())


def test_files_of_a_folder_make_one_stream_whose_types_hold_all_of_them(tmp_path: Path, data: Path) -> None:
    (data / "orders").mkdir()
    (data / "orders" / "a.csv").write_text("id,code\n1,7\n")
    (data / "orders" / "b.csv").write_text("id,code,note\n2.5,007x,late\n")
    (data / "orders" / "c.csv").write_text("")
    source = files(tmp_path, path=".")
    stream = stream_of(source, "orders")
    assert types_of(stream) == {
        "id": "DOUBLE", "code": "VARCHAR", MODIFIED: "TIMESTAMP WITH TIME ZONE", "note": "VARCHAR"}  # fmt: skip
    assert plain_rows(source, "orders") == [
        {"id": 1.0, "code": "7", "note": None}, {"id": 2.5, "code": "007x", "note": "late"}]  # fmt: skip


def test_a_code_keeps_its_zeros_when_another_file_shows_that_it_is_text(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("code\n007\n")
    (data / "b.csv").write_text("code\nx\n")
    source = files(tmp_path, streams=[{"name": "codes", "path": "*.csv"}])
    assert plain_rows(source, "codes") == [{"code": "007"}, {"code": "x"}]


def test_a_column_keeps_its_values_however_a_file_spells_its_name(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("id\n1\n")
    (data / "b.csv").write_text("ID\n2\n")
    (data / "c.json").write_text('[{"Id": 3}]')
    source = files(tmp_path, streams=[{"name": "all", "path": "*.*"}])
    assert plain_rows(source, "all") == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_a_date_is_read_as_the_whole_file_says(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("d\n" + "01/02/2024\n" * 30_000 + "13/02/2024\n")
    rows = plain_rows(files(tmp_path, path="a.csv"), "a")
    assert (rows[0]["d"], rows[-1]["d"]) == (datetime.date(2024, 2, 1), datetime.date(2024, 2, 13))


def test_a_declared_type_wins(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("code,n\n007,1\n")
    source = files(tmp_path, path="a.csv", columns={"code": "varchar"})
    assert plain_rows(source, "a") == [{"code": "007", "n": 1}]


def test_json_keeps_integers_that_a_double_would_round(tmp_path: Path, data: Path) -> None:
    (data / "a.json").write_text('[{"n": 9007199254740993, "x": {"y": [1]}}, {"n": 1.5, "t": "2024-01-01T10:00:00"}]')
    source = files(tmp_path, path="a.json")
    assert [row["n"] for row in plain_rows(source, "a")] == ["9007199254740993", "1.5"]
    assert plain_rows(source, "a")[0]["x"] == {"y": [1]}


def test_lines_of_json_are_records(tmp_path: Path, data: Path) -> None:
    (data / "a.jsonl").write_text('{"a": 1}\n{"a": 2, "b": "x"}\n')
    assert plain_rows(files(tmp_path, path="a.jsonl"), "a") == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_parquet_arrow_and_avro_give_their_rows(tmp_path: Path, data: Path) -> None:
    duckdb.sql("SELECT 1::BIGINT AS id, 'x' AS t, 1.25::DECIMAL(9,2) AS m").write_parquet(str(data / "p.parquet"))
    table = pa.table({"id": pa.array([1, None], pa.int32()), "l": [[1], None]})
    with pa.OSFile(str(data / "f.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    schema = {"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}, {"name": "n",
              "type": ["null", "double"]}]}  # fmt: skip
    with (data / "v.avro").open("wb") as avro:
        fastavro.writer(avro, schema, [{"id": 1, "n": None}, {"id": 2, "n": 0.5}])
    source = files(tmp_path, path=".")
    assert types_of(stream_of(source, "p"))["m"] == "DECIMAL(9,2)"
    assert str(plain_rows(source, "p")[0]["m"]) == "1.25"
    assert plain_rows(source, "f") == [{"id": 1, "l": [1]}, {"id": None, "l": None}]
    assert plain_rows(source, "v") == [{"id": 1, "n": None}, {"id": 2, "n": 0.5}]


def test_a_parquet_file_whose_column_changed_its_type_is_refused_clearly(tmp_path: Path, data: Path) -> None:
    duckdb.sql("SELECT 1::BIGINT AS n").write_parquet(str(data / "p.parquet"))
    source = files(tmp_path, path="p.parquet")
    stream = stream_of(source, "p")
    duckdb.sql("SELECT 1.5::DOUBLE AS n").write_parquet(str(data / "p.parquet"))
    with pytest.raises(EngineError, match="column n of p was BIGINT and is DOUBLE now") as refused:
        rows_of(source, whole(stream))
    assert refused.value.origin is Origin.SOURCE


def test_a_state_leaves_older_files_unread(tmp_path: Path, data: Path) -> None:
    (data / "in").mkdir()
    for at, name in enumerate("abc"):
        (data / "in" / f"{name}.csv").write_text(f"v\n{name}1\n")
        os.utime(data / "in" / f"{name}.csv", (1_700_000_000 + at, 1_700_000_000 + at))
    source = files(tmp_path, streams=[{"name": "in", "path": "in/*.csv"}])
    stream = stream_of(source, "in")
    assert (stream.cursor_fields, stream.modes) == ((MODIFIED,), (Mode.FULL_REFRESH, Mode.INCREMENTAL))
    with source.open(parallel=1) as session:
        assert session.high_water(whole(stream, cursor=MODIFIED)) == "2023-11-14T22:13:22.000000+00:00"
    since, until = "2023-11-14T22:13:21+00:00", "2023-11-14T22:13:21.000000+00:00"
    assert [row["v"] for row in rows_of(source, whole(stream, "v", cursor=MODIFIED, since=since))] == ["b1", "c1"]
    assert [row["v"] for row in rows_of(source, whole(stream, "v", cursor=MODIFIED, until=until))] == ["a1", "b1"]
    (row,) = rows_of(source, whole(stream, cursor=MODIFIED, since=since, until=until))
    assert row[MODIFIED].isoformat() == "2023-11-14T22:13:21+00:00"


def test_an_excel_sheet_gives_its_rows(tmp_path: Path, data: Path) -> None:
    rows = [["id", "name", "paid", "id"], [1, "Ada", 1.5, 7], [2, "", 2, 8], ["", "", "", ""], [3, "x", "", "text"]]
    write_sheet(data / "book.xlsx", rows)
    source = files(tmp_path, path="book.xlsx")
    types = types_of(stream_of(source, "book"))
    assert (types["id"], types["name"], types["paid"], types["id_2"]) == ("BIGINT", "VARCHAR", "DOUBLE", "VARCHAR")
    assert plain_rows(source, "book") == [
        {"id": 1, "name": "Ada", "paid": 1.5, "id_2": "7"}, {"id": 2, "name": None, "paid": 2.0, "id_2": "8"},
        {"id": 3, "name": "x", "paid": None, "id_2": "text"}]  # fmt: skip
    with pytest.raises(EngineError, match="has no sheet 'Other'; it has One"):
        list(files(tmp_path, path="book.xlsx", sheet="Other").discover())


def write_sheet(file: Path, rows: list[list[Any]]) -> None:
    """The smallest workbook that is one: numbers and inline texts."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    cells = "".join(
        "<row>" + "".join(
            "<c/>" if cell == "" else f"<c><v>{cell}</v></c>" if not isinstance(cell, str)
            else f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row
        ) + "</row>" for row in rows
    )  # fmt: skip
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/'
        'officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="One" sheetId="1" '
        'r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(file, "w") as book:
        for name, text in parts.items():
            book.writestr(name, text)


def test_rows_that_a_filter_does_not_want_stay_away(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("id,t\n1,x\n2,y\n3,\n")
    source = files(tmp_path, path="a.csv")
    either = Filter((Condition("id", ">", 2), Condition("t", "=", "x")), "or")
    assert [row["id"] for row in plain_rows(source, "a", filter=either)] == [1, 3]
    assert [row["id"] for row in plain_rows(source, "a", filter=Filter((Condition("t", "=", None),)))] == [3]
    with pytest.raises(EngineError, match="'many' is not a BIGINT"):
        plain_rows(source, "a", filter=Filter((Condition("id", "=", "many"),)))


def test_a_row_with_too_many_fields_is_named_with_its_line(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("a,b\n1,2\n3,4,5\n")
    with pytest.raises(EngineError, match=r"a.csv, line 3: expected 2 columns, got 3"):
        plain_rows(files(tmp_path, path="a.csv"), "a")


def test_broken_files_are_named(tmp_path: Path, data: Path) -> None:
    for name in ("a.parquet", "a.xlsx", "a.avro", "a.arrow"):
        (data / name).write_bytes(b"not that at all")
        with pytest.raises(EngineError, match=name) as broken:
            list(files(tmp_path, path=name).discover())
        assert broken.value.fix
    (data / "a.jsonl").write_text('{"a": 1}\n{"a":')
    with pytest.raises(EngineError, match=r"a.jsonl cannot be read as JSON"):
        list(files(tmp_path, path="a.jsonl").discover())


def test_a_missing_file_ends_the_check_with_its_name(tmp_path: Path, data: Path) -> None:
    step = failed(list(files(tmp_path, path="nothing.csv").check()))
    assert (step.name, step.ok) == ("rights", False)
    assert "nothing.csv" in step.message
    assert "data folder" in step.fix


def test_files_outside_the_allowed_folders_are_refused(tmp_path: Path, data: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (data / "link.csv").symlink_to(tmp_path / "secret.csv")
    for path in ("../secret.csv", str(tmp_path / "secret.csv"), "link.csv", "*.csv"):
        assert "outside the folders" in failed(list(files(tmp_path, path=path).check())).message


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, data: Path) -> None:
    (data / "a.csv").write_text("a\n1\n")
    plain_rows(files(tmp_path, path="a.csv"), "a")
    assert not list((tmp_path / "temp").iterdir())


def test_addresses_are_taken_apart_and_other_engines_words_understood() -> None:
    spec = FilesSourceSpec.model_validate({"path": "s3://bucket/some/*.csv", "aws_access_key_id": "a",
                                           "secret_key": "b", "file_format": "CSV"})  # fmt: skip
    assert (spec.storage, spec.bucket, spec.path, spec.format) == ("s3", "bucket", "some/*.csv", "csv")
    with pytest.raises(ValueError, match="name the bucket"):
        FilesSourceSpec(storage="s3")


def test_long_json_is_read_on_many_processors_within_little_memory(tmp_path: Path, data: Path) -> None:
    line = '{"id": 7, "text": "' + "x" * 1000 + '"}\n'
    (data / "long.jsonl").write_text(line * 120_000)  # more than two buffers for each of four threads
    context = replace(context_in(tmp_path), threads=4, memory_limit_mb=100)
    source = FilesSource(FilesSourceSpec(path="long.jsonl"), context)
    read = whole(stream_of(source, "long"), "id")
    with source.open(parallel=1) as session:
        assert (
            sum(batch.num_rows for chunk in session.chunks(read, parallel=1) for batch in session.read(read, chunk))
            == 120_000
        )


def test_a_record_that_is_too_long_is_named_as_such(tmp_path: Path, data: Path) -> None:
    (data / "long.jsonl").write_text('{"id": 7, "text": "' + "x" * (40 << 20) + '"}\n{"id": 8}\n')
    with pytest.raises(EngineError, match=r"long\.jsonl holds a record of more than 16 MB"):
        list(files(tmp_path, path="long.jsonl").discover())


def test_too_little_memory_is_no_fault_of_the_file(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "long.jsonl").write_text('{"id": 7}\n' * 10_000)
    monkeypatch.setattr("webapp.engine.connectors.files.formats._SHORTEST_LIMIT", 16 << 20)
    monkeypatch.setattr("webapp.engine.connectors.files.formats._BESIDE_BUFFERS_MB", -200)
    context = replace(context_in(tmp_path), memory_limit_mb=20)
    source = FilesSource(FilesSourceSpec(path="long.jsonl"), context)
    with pytest.raises(EngineError, match="cannot be held here") as caught:
        list(source.discover())
    assert caught.value.origin is Origin.PLATFORM
