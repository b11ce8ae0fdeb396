"""The rows of a table on its page, while loads write it and when it cannot be read."""

import fcntl
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from tests import factories
from tests.runs.mission import Mission, task
from tests.support.people import Person
from webapp.config import Settings


@pytest.fixture
def table(settings: Settings) -> Path:
    """A DuckDB file with a table of one row."""
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    path = settings.data_folder / "out.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE rows AS SELECT 'from the probe' AS said")
    return path


@pytest.fixture
def page_of_rows(work: Callable, rita: Person, table: Path) -> Callable[[], tuple[int, str]]:
    """Opens the page that shows the table; returns its status and text."""
    with work():
        job_id: uuid.UUID = factories.make_job(tasks=[task()]).id

    def open_page() -> tuple[int, str]:
        answer = rita.browser().get(f"/jobs/{job_id}/rows")
        return answer.status_code, answer.text

    return open_page


@contextmanager
def held_by_a_load(table: Path) -> Iterator[None]:
    with table.with_name(table.name + ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def held_by_another_program(table: Path) -> Iterator[None]:
    """As a DuckDB shell does, which knows nothing of our lock."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(table)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("hold", "says"),
    [
        (held_by_a_load, "look again when it has landed"),
        (held_by_another_program, "Close the program that has the file open"),
    ],
)
def test_a_table_that_is_being_written_says_so_and_comes_back(
    hold: Callable, says: str, table: Path, page_of_rows: Callable[[], tuple[int, str]]
) -> None:
    with hold(table):
        status, text = page_of_rows()
    assert status == 200
    assert "Out.duckdb was in use for" in text
    assert says in text
    assert "from the probe" in page_of_rows()[1]


def test_a_short_load_is_waited_for(table: Path, page_of_rows: Callable[[], tuple[int, str]]) -> None:
    begun, seen = threading.Event(), []
    with held_by_a_load(table):
        thread = threading.Thread(target=lambda: (begun.set(), seen.append(page_of_rows())))
        thread.start()
        begun.wait(5)
        thread.join(0.5)
        assert not seen, "the page did not wait"
    thread.join(20)
    ((status, text),) = seen
    assert status == 200
    assert "from the probe" in text


def test_rows_are_shown_again_and_again_while_a_real_load_replaces_them(mission: Mission) -> None:
    mission.start_worker()
    mission.fly(task(mission.csv("first.csv", rows=10)))
    job_id = mission.add_job(task(mission.csv("many.csv", rows=400_000)))
    browser = mission.alice.browser()
    run_id = mission.start(job_id)
    answers = []
    while not mission.run(run_id).is_finished:
        answers.append(browser.get(f"/jobs/{job_id}/rows"))
    assert answers
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        assert "10 rows" in answer.text or "400,000 rows" in answer.text or "was in use for" in answer.text, answer.text
    assert "400,000 rows" in browser.get(f"/jobs/{job_id}/rows").text


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no database" * 900), lambda path: path.unlink()])
def test_a_file_that_cannot_be_read_is_a_sentence(
    spoil: Callable[[Path], None], table: Path, page_of_rows: Callable[[], tuple[int, str]]
) -> None:
    spoil(table)
    status, text = page_of_rows()
    assert status == 200
    assert "is not a DuckDB database file" in text or "is not there yet" in text
