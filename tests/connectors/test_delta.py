"""Delta Lake: what its own library reads, kills, tables of other programs, the log that is cut, full disks."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.connectors.lakes import PLAIN, TABLE, Lake, crew, s3_fields
from tests.support.s3 import S3Server, s3_server
from webapp.engine.connectors.base import Column, Load, Partition, Target, Write, first_failure
from webapp.engine.connectors.delta import library
from webapp.engine.errors import EngineError, Kind

FOLDER = {"type": "DELTA", "writer": {"local_path": "lake"}}
WITH_TIME = (*PLAIN, Column("seen", "TIMESTAMP"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path, "delta", FOLDER)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        running.client().create_bucket(Bucket="lake")
        yield running


def place(lake: Lake) -> Path:
    """The table's folder; its name has signs that not every store takes."""
    (found,) = (lake.context.data_root / "lake" / "mission").iterdir()
    return found


def theirs(lake: Lake, rows: list[dict[str, Any]], **given: Any) -> Path:
    """A table that another program has made where ours would lie."""
    lake.load(Write.REPLACE, [])
    folder = place(lake)
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    write_deltalake(folder, pa.Table.from_pylist(rows), **given)
    return folder


def kept(lake: Lake) -> list[str]:
    with lake.destination.open() as session:
        return [one.name for one in session.generations(TABLE)]


def test_one_load_is_one_version_with_the_state_in_its_commit(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    lake.load(Write.UPSERT, crew(2, 3), state={"cursor": 3})
    table = DeltaTable(place(lake))
    assert table.version() == 1
    assert kept(lake) == ["0"]
    assert table.history(1)[0]["hohmann.state"] == '{"cursor": 3}'
    assert sorted(table.to_pyarrow_table()["id"].to_pylist()) == [1, 2, 3]
    assert sorted(DeltaTable(place(lake), version=0).to_pyarrow_table()["id"].to_pylist()) == [1, 2]


def test_a_replace_of_the_same_shape_keeps_the_tables_identity_and_its_settings(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    before = DeltaTable(place(lake))
    before.alter.set_table_properties({"delta.logRetentionDuration": "interval 90 days"})
    lake.load(Write.REPLACE, crew(2))
    assert DeltaTable(place(lake)).metadata().id == before.metadata().id
    lake.load(Write.REPLACE, [{"id": 1, "name": "a", "seen": None}], columns=WITH_TIME)
    assert DeltaTable(place(lake)).metadata().configuration == {"delta.logRetentionDuration": "interval 90 days"}


def test_partition_values_prune_files_for_other_readers(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2, 3), partitions=(Partition("name"),))
    lake.load(Write.UPSERT, crew(3, 4), partitions=(Partition("name"),))
    table = DeltaTable(place(lake))
    assert table.metadata().partition_columns == ["name"]
    assert len(table.file_uris(file_pruning_predicate="name = 'a2'")) == 1
    assert lake.names() == {1: "a1", 2: "a2", 3: "a3", 4: "a4"}


def test_a_partition_that_delta_cannot_have_is_refused_with_a_reason(lake: Lake) -> None:
    with pytest.raises(EngineError, match=r"month\(name\)"):
        lake.load(Write.REPLACE, crew(1), partitions=(Partition("name", "month"),))
    with pytest.raises(EngineError, match="empty texts"):
        lake.load(Write.REPLACE, [{"id": 1, "name": ""}], partitions=(Partition("name"),))


def test_the_parachute_goes_between_versions_of_other_columns_types_and_protocols(lake: Lake) -> None:
    lake.load(Write.REPLACE, [{"id": 1, "name": "a", "seen": None}], columns=WITH_TIME, state={"cursor": 1})
    lake.load(Write.APPEND, [{"id": 2, "name": "b", "seen": None}], columns=WITH_TIME, state={"cursor": 2})
    lake.load(Write.REPLACE, [{"id": "x"}], columns=(Column("id", "VARCHAR"),), state={"cursor": "x"})
    with lake.destination.open() as session:
        assert session.restore(TABLE, "1", None).total == 2
        assert session.state(TABLE) == {"cursor": 2}
        assert session.restore(TABLE, "0", {"cursor": 0}).total == 1
        assert session.restore(TABLE, "1", {"cursor": 1}).total == 2
        assert [column.type for column in session.columns(TABLE) or ()] == ["BIGINT", "VARCHAR", "TIMESTAMP"]
    assert lake.names() == {1: "a", 2: "b"}
    assert lake.load(Write.APPEND, crew(3), state={"cursor": 3}).total == 3


def test_a_new_column_leaves_the_content_before_it_to_the_parachute(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    landed = lake.load(Write.APPEND, [{"id": 2, "name": "b", "seen": None}], columns=WITH_TIME)
    assert kept(lake) == [landed.generation] == ["0"]
    assert len(lake.rows()[0]) == 3


def test_what_is_older_than_its_days_is_removed(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    lake.load(Write.REPLACE, crew(2))
    assert kept(lake) == ["0"]
    lake.load(Write.REPLACE, crew(3), keep_days=0)
    assert kept(lake) == []
    assert len(list(place(lake).glob("*.parquet"))) == 1
    lake.load(Write.APPEND, crew(4))
    assert len(kept(lake)) == 1
    assert lake.names() == {3: "a3", 4: "a4"}


def test_a_content_whose_files_are_gone_is_not_brought_back(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    (file,) = place(lake).glob("*.parquet")
    lake.load(Write.REPLACE, crew(2))
    file.unlink()
    with lake.destination.open() as session, pytest.raises(EngineError, match="were removed"):
        session.restore(TABLE, "0", None)
    assert lake.names() == {2: "a2"}


@pytest.mark.parametrize("before", [True, False])
def test_a_kill_around_the_commit_leaves_old_or_new(lake: Lake, before: bool) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    code = (
        "import os, signal; from pathlib import Path; from tests.connectors.lakes import *;"
        "from webapp.engine.connectors.delta.writer import DeltaLoad as L; o = L._publish;"
        f"k = lambda *a: ({before} or o(*a), os.kill(os.getpid(), signal.SIGKILL)); L._publish = k;"
        f"Lake(Path({str(lake.root)!r}), 'delta', {FOLDER!r}).load(Write.REPLACE, crew(7), state={{'cursor': 7}})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    expected = ({1: "a1", 2: "a2"}, {"cursor": 2}) if before else ({7: "a7"}, {"cursor": 7})
    assert (lake.names(), lake.state()) == expected
    assert lake.load(Write.APPEND, crew(9), state={"cursor": 9}).found == 1
    assert not list((lake.context.data_root / "lake/.hohmann").rglob("*.parquet"))


def test_a_disk_that_is_full_leaves_the_old_table(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    code = (
        "import resource, signal; from pathlib import Path; from tests.connectors.lakes import *;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        f"Lake(Path({str(lake.root)!r}), 'delta', {FOLDER!r}).load(Write.REPLACE, crew(*range(50_000)))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr
    assert "the disk is full" in told
    assert (lake.names(), lake.state()) == ({1: "a1"}, {"cursor": 1})


def test_a_table_that_outlived_its_log_is_read_again(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    table = DeltaTable(place(lake))
    table.alter.set_table_description("someone was here")
    DeltaTable(place(lake)).create_checkpoint()
    (place(lake) / "_delta_log" / f"{0:020}.json").unlink()
    assert lake.names() == {1: "a1"}
    assert lake.state() == {"doubt": True}


def test_tables_of_other_programs_are_appended_to_and_replaced(lake: Lake) -> None:
    odd = [{"id": 1, "name": "x y/ü%"}, {"id": 2, "name": None}]
    theirs(lake, odd, partition_by=["name"])
    assert lake.state() is None
    assert lake.load(Write.APPEND, crew(3), state={"cursor": 3}).total == 3
    assert lake.names() == {1: "x y/ü%", 2: None, 3: "a3"}
    with pytest.raises(EngineError, match="without the column name"):
        lake.load(Write.UPSERT, crew(1))
    with lake.destination.open() as session:
        assert session.restore(TABLE, "0", {}).total == 2
    assert lake.names() == {1: "x y/ü%", 2: None}
    assert lake.load(Write.REPLACE, crew(4)).total == 1
    assert lake.names() == {4: "a4"}


def test_an_upsert_takes_files_of_other_programs_apart(lake: Lake) -> None:
    folder = theirs(lake, crew(1, 2))
    write_deltalake(folder, pa.Table.from_pylist(crew(3)), mode="append")
    assert lake.load(Write.UPSERT, crew(2, name="new")).total == 3
    assert lake.names() == {1: "a1", 2: "new2", 3: "a3"}


def test_a_table_with_rules_that_would_not_be_kept_is_refused(lake: Lake) -> None:
    folder = theirs(lake, crew(1))
    DeltaTable(folder).alter.add_constraint({"small": "id < 5"})
    with pytest.raises(EngineError, match="constraints"):
        lake.load(Write.APPEND, crew(7))
    assert lake.names() == {1: "a1"}


def test_two_loads_into_one_table_of_a_folder_do_not_meet(lake: Lake) -> None:
    with lake.destination.open() as session:
        first = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        with pytest.raises(EngineError, match="in use") as raised:
            session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        assert raised.value.kind is Kind.TRANSIENT
        first.abort()


@pytest.mark.parametrize("name", ["../../escape", "a/b", ".hidden", "_hidden", "per%cent", "*", "ü"])
def test_odd_table_names_stay_inside_the_folder(lake: Lake, name: str) -> None:
    with lake.destination.open() as session:
        session.begin(Load(Target("mission", name), Write.REPLACE, PLAIN)).commit({"x": 1})
        assert session.state(Target("mission", name)) == {"x": 1}
        assert session.state(Target("mission", "other")) is None
    assert not place(lake).name.startswith((".", "%"))


# --- in a bucket ------------------------------------------------------------------------------------------------------


def in_bucket(root: Path, server: S3Server, **changes: str) -> Lake:
    return Lake(root, "delta", {"s3_bucket": "lake", "s3_path": root.name, **s3_fields(server), **changes})


@pytest.mark.parametrize("write", [Write.APPEND, Write.REPLACE])
def test_of_two_loads_at_once_the_second_commit_is_refused(tmp_path: Path, server: S3Server, write: Write) -> None:
    lake = in_bucket(tmp_path, server)
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    with lake.destination.open() as session:
        late = session.begin(Load(TABLE, write, PLAIN))
        lake.load(Write.APPEND, crew(2), state={"cursor": 2})
        with pytest.raises(EngineError, match="meanwhile") as raised:
            late.commit({"cursor": 3})
        late.abort()
    assert raised.value.kind is Kind.TRANSIENT
    assert (sorted(lake.names()), lake.state()) == ([1, 2], {"cursor": 2})


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"s3_endpoint": "http://127.0.0.1:1"}, "log in", "does not answer"),
        ({"s3_secret_key": "hidden-word"}, "log in", "refuses the keys"),
        ({"s3_bucket": "nowhere"}, "log in", "does not exist"),
    ],
)
def test_a_bucket_that_cannot_be_used_fails_at_its_step_and_in_the_load(
    tmp_path: Path, server: S3Server, changes: dict[str, str], step: str, words: str
) -> None:
    lake = in_bucket(tmp_path, server, **changes)
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert (failed.name, words in failed.message, "hidden-word" in failed.message) == (step, True, False), failed
    with pytest.raises(EngineError) as raised:
        lake.load(Write.REPLACE, crew(1))
    assert "hidden-word" not in raised.value.message and raised.value.fix


def test_a_missing_library_says_what_to_install(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    failed = first_failure(lake.destination.check())
    assert failed is not None and failed.name == "library" and "pip install deltalake" in failed.fix
    with pytest.raises(EngineError, match="not installed"):
        lake.load(Write.REPLACE, crew(1))
