"""What a search in a run's log finds, and that it reads no more of the log than it must."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from tests import factories
from webapp.db import db
from webapp.runs import logs
from webapp.runs.models import LogChunk, Run

MESSAGES = (
    "Größe der Fähre",
    "STRASSE NACH STRAßBURG",
    "Ошибка чтения",
    "ΟΔΥΣΣΕΥΣ landed",
    "日本のロケット",
    "to the moon 🚀 and back",
    'said "go" at 100% of C:\\fuel_line/1\tnow',
    "plain words",
)


@pytest.fixture
def run_id(work: Callable) -> uuid.UUID:
    """A run with one chunk of its log for each of MESSAGES."""
    with work() as session:
        run = factories.make_finished_run(factories.make_job())
        for number, message in enumerate(MESSAGES, start=1):
            line = ["2026-01-02T03:04:05.678901+00:00", "info", "", message]
            session.add(
                LogChunk(run_id=run.id, attempt=1, first_line=number, line_count=1, worst_level=1, lines=[line])
            )
        return run.id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(("größe", 0), ("FÄHRE", 0), ("straß", 1), ("ошибка", 2), ("ОШИБКА ЧТЕНИЯ", 2)),
        *(("οδυσσευς", 3), ("Οδυσσευσ LANDED", 3), ("本のロ", 4), ("moon 🚀", 5), ("🚀", 5), ("🛰", None)),
        *(('"GO" at 100%', 6), ("c:\\Fuel_line/1\tNOW", 6), ("100_", None), ("fuel%line", None), ("plain", 7)),
    ],
)
def test_a_search_finds_a_text_in_any_case_and_language_and_reads_only_where_it_is(
    look: Callable, run_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch, text: str, message: int | None
) -> None:
    read: list[int] = []
    lines_of = logs._lines

    def note(chunk: LogChunk) -> Any:
        read.append(chunk.first_line)
        return lines_of(chunk)

    monkeypatch.setattr(logs, "_lines", note)
    with look():
        run = db.session.scalars(sa.select(Run).where(Run.id == run_id)).one()
        found = logs.read_window(run, logs.LogQuery(q=text)).lines
    assert [line.message for line in found] == ([] if message is None else [MESSAGES[message]])
    assert set(read) == {line.number for line in found}, "chunks were read that cannot hold it"


def test_what_no_pattern_can_say_is_still_found(look: Callable, run_id: uuid.UUID) -> None:
    """ß is the same as ss to a search, so no pattern is made of it."""
    with look():
        run = db.session.scalars(sa.select(Run).where(Run.id == run_id)).one()
        found = logs.read_window(run, logs.LogQuery(q="ß")).lines
    assert [line.number for line in found] == [1, 2]
