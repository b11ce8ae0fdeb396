"""Parquet: configurations in every form, kills in the middle, places that cannot be written."""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from tests.connectors.lakes import PLAIN, TABLE, Lake, crew
from webapp.engine.connectors.base import Load, Write, first_failure
from webapp.engine.connectors.parquet import local
from webapp.engine.connectors.parquet.spec import ParquetSpec
from webapp.engine.errors import EngineError, Kind, Origin

FOLDER = {"type": "PARQUET", "writer": {"local_path": "lake"}}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path, "s3", FOLDER)


def in_child(act: Any) -> int:
    """Do something in a forked process; returns its wait status."""
    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def glob(lake: Lake) -> list[int]:
    """The ids that a reader finds who knows nothing but the pattern."""
    found = duckdb.sql(f"SELECT id FROM read_parquet('{lake.root}/data/lake/**/*.parquet') ORDER BY id")
    return [row[0] for row in found.fetchall()]


def test_the_flat_form_and_the_nested_one_mean_the_same() -> None:
    flat = ParquetSpec.model_validate({"type": "parquet", "local_path": "lake", "s3_secret_key": "hidden-word"})
    nested = ParquetSpec.model_validate(
        {"type": "PARQUET", "writer": {"local_path": "lake", "s3_secret_key": "hidden-word", "normalization": False}}
    )
    assert flat == nested
    assert "hidden-word" not in repr(flat)


def test_a_configuration_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ValidationError, match="local_path"):
        ParquetSpec.model_validate({"type": "PARQUET", "writer": {}})


def test_table_names_are_in_the_paths_and_no_pattern_finds_what_is_kept(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1, 2))
    lake.load(Write.REPLACE, crew(3, 4))
    lake.load(Write.UPSERT, crew(4, 5))
    assert glob(lake) == [3, 4, 5]
    assert list((lake.root / "data/lake/mission/crew 🚀").glob("*.parquet"))


def test_a_folder_outside_is_refused_with_the_step_and_the_fix(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "s3", {"type": "PARQUET", "writer": {"local_path": "../elsewhere"}})
    failed = first_failure(lake.destination.check())
    assert failed is not None and failed.name == "resolve" and "outside" in failed.message and failed.fix


def test_a_place_that_is_a_file_cannot_be_written_and_says_so(lake: Lake) -> None:
    (lake.context.data_root / "lake").write_text("in the way")
    failed = first_failure(lake.destination.check())
    assert failed is not None and failed.name == "write"
    with pytest.raises(EngineError) as raised:
        lake.load(Write.REPLACE, crew(1))
    assert raised.value.origin is Origin.DESTINATION


@pytest.mark.parametrize("name", ["../../escape", "a/b", ".hohmann", "_hidden", "per%cent", "*"])
def test_odd_table_names_stay_inside_the_folder(lake: Lake, name: str) -> None:
    from webapp.engine.connectors.base import Target

    with lake.destination.open() as session:
        target = Target("mission", name)
        writer = session.begin(Load(target, Write.REPLACE, PLAIN))
        writer.commit({"x": 1})
        assert session.state(target) == {"x": 1}
        assert session.state(Target("mission", "other")) is None
    folders = list((lake.context.data_root / "lake" / "mission").iterdir())
    assert len(folders) == 1 and not folders[0].name.startswith((".", "_"))


@pytest.mark.parametrize("moment", ["_assemble", "swap", "_put_away"])
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_at_any_moment_leaves_old_or_new_and_the_next_load_works(
    lake: Lake, moment: str, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.load(Write.REPLACE, crew(1, 2), state={"cursor": 2})
    owner = local.LocalStore if moment == "_put_away" else local
    original = getattr(owner, moment)

    def killed(*given: Any) -> None:
        if not before:
            original(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(owner, moment, killed)
    status = in_child(lambda: lake.load(Write.REPLACE, crew(7, 8, 9), state={"cursor": 9}))
    monkeypatch.undo()
    assert os.WTERMSIG(status) == signal.SIGKILL
    state = lake.state()
    assert (sorted(lake.names()), state) in [([1, 2], {"cursor": 2}), ([7, 8, 9], {"cursor": 9})]
    assert (state == {"cursor": 2}) == (moment == "_assemble" or (moment == "swap" and before))
    lake.load(Write.APPEND, crew(20), state={"cursor": 20})
    assert glob(lake) == sorted([*([1, 2] if state == {"cursor": 2} else [7, 8, 9]), 20])
    assert not list((lake.context.data_root / "lake/.hohmann/staging").rglob("*.part*"))
    with lake.destination.open() as session:
        assert len(session.generations(TABLE)) == (0 if state == {"cursor": 2} else 1)


def test_a_disk_that_is_full_leaves_the_old_table(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1), state={"cursor": 1})
    lines = lake.root / "told.json"

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            lake.load(Write.REPLACE, crew(*range(50_000)))
        except EngineError as error:
            lines.write_text(json.dumps([error.message, str(error.kind), error.permanent]))

    in_child(fill)
    message, kind, permanent = json.loads(lines.read_text())
    assert "full" in message and kind == Kind.SYSTEM and permanent is False
    assert lake.names() == {1: "a1"} and lake.state() == {"cursor": 1}


def test_two_loads_into_one_table_do_not_meet(lake: Lake) -> None:
    with lake.destination.open() as session:
        first = session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        with pytest.raises(EngineError, match="in use") as raised:
            session.begin(Load(TABLE, Write.REPLACE, PLAIN))
        assert raised.value.kind is Kind.TRANSIENT
        first.abort()
        session.begin(Load(TABLE, Write.REPLACE, PLAIN)).abort()


def test_files_of_someone_else_are_read_and_kept_by_the_parachute(lake: Lake) -> None:
    table = lake.context.data_root / "lake" / "mission" / "crew 🚀"
    table.mkdir(parents=True)
    duckdb.sql(f"COPY (SELECT 1::BIGINT AS id, 'theirs' AS name) TO '{table}/theirs.parquet'")
    assert lake.names() == {1: "theirs"}
    landed = lake.load(Write.REPLACE, crew(2))
    with lake.destination.open() as session:
        session.restore(TABLE, landed.generation, None)
    assert lake.names() == {1: "theirs"}


def test_what_is_older_than_its_days_is_removed(lake: Lake) -> None:
    lake.load(Write.REPLACE, crew(1))
    lake.load(Write.REPLACE, crew(2))
    (kept,) = (lake.context.data_root / "lake/.hohmann/parachute/mission/crew 🚀").iterdir()
    os.utime(kept, (0, 0))
    lake.load(Write.REPLACE, crew(3), keep_days=1)
    with lake.destination.open() as session:
        assert len(session.generations(TABLE)) == 1
    assert not kept.exists()


@pytest.mark.parametrize(
    ("writer", "step", "words"),
    [
        ({"s3_bucket": "b", "s3_endpoint": "http://127.0.0.1:1"}, "log in", "does not answer"),
        ({"s3_bucket": "b", "s3_endpoint": "ftp://example.org"}, "resolve", "not an address"),
        ({"s3_bucket": "b", "s3_endpoint": "http://169.254.169.254"}, "resolve", "never allowed"),
    ],
)
def test_a_store_that_cannot_be_used_fails_at_its_step(
    tmp_path: Path, writer: dict[str, str], step: str, words: str
) -> None:
    keys = {"s3_access_key": "key", "s3_secret_key": "hidden-word"}
    lake = Lake(tmp_path, "s3", {"type": "PARQUET", "writer": writer | keys})
    failed = first_failure(lake.destination.check())
    assert failed is not None
    assert failed.name == step and words in failed.message and "hidden-word" not in failed.message


def test_private_endpoints_need_the_operator(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "s3", {"s3_bucket": "b", "s3_endpoint": "http://127.0.0.1:9000"}, allow=False)
    failed = first_failure(lake.destination.check())
    assert failed is not None and "HOHMANN_ALLOW_PRIVATE_ADDRESSES" in failed.fix


def test_a_form_loads_without_drivers() -> None:
    import subprocess

    code = (
        "import sys; from webapp.engine.connectors.registry import spec_class;"
        "[spec_class('destination', n).model_json_schema() for n in ('s3', 'iceberg', 'delta')];"
        "spec_class('source', 'iceberg').model_json_schema();"
        "sys.exit(bool({'pyarrow', 'duckdb', 'pyiceberg', 'deltalake', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
