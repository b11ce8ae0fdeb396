"""The example of a connector's package, installed by pip and found by its entry point."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.sync.conftest import context_at
from webapp.engine.connectors import registry
from webapp.engine.connectors.base import Mode, Source, Stream, Target, Write, first_failure
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.runner import run_sync

PACKAGE = Path(__file__).parents[2] / "examples" / "hohmann-source-calendar"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip has installed the package into, without a network."""
    # What a build leaves behind stays out of the checkout.
    copy, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    for file in PACKAGE.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--target", str(target), str(copy)],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(site)
    registry._foreign.cache_clear()
    yield
    registry._foreign.cache_clear()
    sys.modules.pop("hohmann_source_calendar", None)


def calendar(folder: Path, **config: str) -> Source:
    found = registry.source_class("calendar")
    return found(found.Spec.model_validate(config), context_at(folder))


def days(source: Source) -> Stream:
    [stream] = source.discover()
    return stream


def sync(folder: Path, last: str, **changes: object) -> StreamReceipt:
    stream = days(calendar(folder, first="2024-12-28", last=last))
    facts = {"mode": Mode.INCREMENTAL, "write": Write.APPEND, "cursor": "day", **changes}
    plan = StreamPlan(stream.namespace, stream.name, stream.columns, Target("", "days"), **facts)
    config = {"first": "2024-12-28", "last": last}
    [receipt] = run_sync(
        SyncSpec("Calendar", config, "duckdb", {"path": "lake.duckdb"}, [plan]), context_at(folder), lambda told: None
    )
    return receipt


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(folder / "lake.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.usefixtures("installed")
def test_the_registry_lists_it_after_our_own() -> None:
    assert registry.source_names()[-1] == "calendar"
    assert registry.connector_class("source", " CALENDAR ").title == "Calendar"


def test_without_the_package_there_is_no_such_source() -> None:
    registry._foreign.cache_clear()
    with pytest.raises(registry.UnknownConnector, match="calendar"):
        registry.source_class("calendar")


@pytest.mark.usefixtures("installed")
def test_contract_002_shows_its_form(client, alice) -> None:
    answer = client.get("/api/v1/project/olake/sources/spec", json={"type": "calendar"}, headers=alice.headers)
    assert answer.status_code == 200, answer.text
    fields = answer.json["data"]["spec"]["jsonschema"]["properties"]
    assert fields["first"] | {"format": "date", "title": "First day"} == fields["first"]
    assert all(field["description"] for field in fields.values())


@pytest.mark.usefixtures("installed")
def test_its_check_tells_the_range_or_what_is_wrong_with_it(tmp_path: Path) -> None:
    [step] = calendar(tmp_path, first="2024-01-01", last="2024-12-31").check()
    assert (step.ok, step.message) == (True, "from 2024-01-01 to 2024-12-31")
    wrong = first_failure(calendar(tmp_path, first="9999-01-01").check())
    assert wrong is not None and "still to come" in wrong.message and wrong.fix
    with pytest.raises(ValueError, match="before the first"):
        calendar(tmp_path, first="2024-01-02", last="2024-01-01")


@pytest.mark.usefixtures("installed")
def test_days_land_with_their_weeks_and_quarters(tmp_path: Path) -> None:
    receipt = sync(tmp_path, "2025-01-05")
    assert (receipt.status, receipt.rows_source, receipt.rows_found) == (StreamStatus.LANDED, 9, 9)
    assert rows(
        tmp_path,
        "SELECT day::VARCHAR, quarter, iso_year, iso_week, weekday, weekday_name, weekend FROM days"
        " WHERE day >= '2024-12-29' ORDER BY day LIMIT 2",
    ) == [
        ("2024-12-29", 4, 2024, 52, 7, "Sunday", True),
        ("2024-12-30", 4, 2025, 1, 1, "Monday", False),
    ]


@pytest.mark.usefixtures("installed")
def test_a_later_sync_brings_only_the_new_days(tmp_path: Path) -> None:
    sync(tmp_path, "2025-01-05")
    receipt = sync(tmp_path, "2025-01-07")
    assert (receipt.status, receipt.rows_written) == (StreamStatus.LANDED, 2)
    assert sync(tmp_path, "2025-01-07").rows_written == 0
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT day), max(day)::VARCHAR FROM days") == [
        (11, 11, "2025-01-07")
    ]


@pytest.mark.usefixtures("installed")
def test_a_filter_and_a_choice_of_columns_are_honoured(tmp_path: Path) -> None:
    receipt = sync(
        tmp_path, "2025-01-05", mode=Mode.FULL_REFRESH, write=Write.REPLACE, cursor=None,
        filter='weekend = true or day = "2025-01-01"',
    )  # fmt: skip
    assert receipt.status is StreamStatus.LANDED
    assert rows(tmp_path, "SELECT count(*) FROM days") == [(5,)]
