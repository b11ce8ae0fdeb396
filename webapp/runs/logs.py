"""Windows on a run's log: its newest lines, the lines around one of them, and what a search finds in all of it."""

import json
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import sqlalchemy as sa

from webapp.db import db
from webapp.engine.locks import WAITING
from webapp.runs.models import LogChunk, Run, RunStep
from webapp.runs.operations import LEVELS

WINDOW = 500
_WRITTEN = timedelta(seconds=2)  # lines and figures are written together, a little after they came


@dataclass(frozen=True)
class Line:
    """One line as pages show it; `at` is aware."""

    number: int
    at: datetime
    level: str
    step: str
    message: str
    attempt: int


@dataclass(frozen=True)
class LogQuery:
    """Which lines are wanted. `line` centres the window on a line, `after` and `before` page on from one; all None: the
    newest lines. `attempt` None means all attempts.
    """

    q: str = ""
    level: str = "info"
    step: str = ""
    attempt: int | None = None
    line: int | None = None
    after: int | None = None
    before: int | None = None

    @property
    def is_tail(self) -> bool:
        """Whether this is the end of the log, to which new lines belong."""
        return self.line is None and self.after is None and self.before is None and not self.q and not self.step


@dataclass(frozen=True)
class Window:
    """Lines in their order, and whether there are older and newer ones that fit."""

    lines: list[Line]
    has_older: bool
    has_newer: bool


def read_window(run: Run, query: LogQuery, *, size: int = WINDOW) -> Window:
    """The window that is asked for."""
    if query.line is not None:
        first = query.line - size // 2
        found = _forward(run, query, after=max(0, first), size=size)
        return Window(found[:size], has_older=first > 0, has_newer=len(found) > size)
    if query.after is not None:
        found = _forward(run, query, after=query.after, size=size)
        return Window(found[:size], has_older=query.after > 0, has_newer=len(found) > size)
    found = _backward(run, query, before=query.before, size=size)
    return Window(found[-size:], has_older=len(found) > size, has_newer=query.before is not None)


def lines_between(run_id: uuid.UUID, first: int, last: int) -> list[Line]:
    """The lines with these numbers, both ends included."""
    query = sa.select(LogChunk).where(LogChunk.run_id == run_id, LogChunk.first_line <= last)
    query = query.where(LogChunk.first_line + LogChunk.line_count > first).order_by(LogChunk.first_line)
    return [line for chunk in db.session.scalars(query) for line in _lines(chunk) if first <= line.number <= last]


def wait_of(run: Run) -> Line | None:
    """The line that says what a run under way waits for, as long as nothing has come of the attempt since."""
    query = sa.select(LogChunk).where(LogChunk.run_id == run.id, LogChunk.attempt == run.attempt)
    chunk = db.session.scalar(query.order_by(LogChunk.first_line.desc()).limit(1))
    line = list(_lines(chunk))[-1] if chunk is not None and chunk.lines else None
    if line is None or not is_wait(line) or (run.progress_at and run.progress_at > line.at + _WRITTEN):
        return None
    later = sa.select(RunStep.position).where(
        RunStep.run_id == run.id, RunStep.attempt == run.attempt, RunStep.started_at > line.at
    )
    return None if db.session.scalar(later.limit(1)) is not None else line


def is_wait(line: Line) -> bool:
    """Whether a line says what a run waits for: the engine's own words (`engine.locks.Patience`)."""
    return line.message.startswith(WAITING)


def log_as_text(run_id: uuid.UUID) -> Iterator[str]:
    """The whole log, a piece at a time, one line of text for each of its lines."""
    after = 0
    while True:
        query = sa.select(LogChunk.first_line, LogChunk.lines).where(LogChunk.run_id == run_id)
        chunks = db.session.execute(
            query.where(LogChunk.first_line > after).order_by(LogChunk.first_line).limit(20)
        ).all()
        if not chunks:
            return
        for _, lines in chunks:
            yield "".join(f"{_utc(at)} {level:<7} {step:<10} {message}\n" for at, level, step, message in lines)
        after = chunks[-1].first_line


def _utc(instant: str) -> str:
    return instant.removesuffix("+00:00") + "Z" if instant.endswith("+00:00") else instant


def _forward(run: Run, query: LogQuery, *, after: int, size: int) -> list[Line]:
    """One more than `size` fitting lines above `after`, where there are so many."""
    chunks = _chunks(run, query).where(LogChunk.first_line + LogChunk.line_count > after + 1)
    found: list[Line] = []
    for chunk in _stream(chunks.order_by(LogChunk.first_line)):
        found += [line for line in _lines(chunk) if line.number > after and _fits(line, query)]
        if len(found) > size:
            break
    return found[: size + 1]


def _backward(run: Run, query: LogQuery, *, before: int | None, size: int) -> list[Line]:
    """One more than `size` fitting lines below `before`, where there are so many, in their order."""
    chunks = _chunks(run, query)
    if before is not None:
        chunks = chunks.where(LogChunk.first_line < before)
    found: list[Line] = []
    for chunk in _stream(chunks.order_by(LogChunk.first_line.desc())):
        fitting = [line for line in _lines(chunk) if _fits(line, query) and (before is None or line.number < before)]
        found += reversed(fitting)
        if len(found) > size:
            break
    return list(reversed(found[: size + 1]))


def _chunks(run: Run, query: LogQuery) -> sa.Select[LogChunk]:
    chunks = sa.select(LogChunk).where(LogChunk.run_id == run.id, LogChunk.worst_level >= LEVELS.index(query.level))
    if query.attempt is not None:
        chunks = chunks.where(LogChunk.attempt == query.attempt)
    if stored := _as_stored(query.q):
        # Chunks without the text need not be read at all; their lines are then looked at one by one.
        chunks = chunks.where(sa.cast(LogChunk.lines, sa.Text).ilike(f"%{stored}%", escape="/"))
    return chunks


def _as_stored(text: str) -> str:
    """The longest part of a text of which it is sure how JSON writes it, as a pattern of LIKE, escaped by "/"."""
    parts = [""]
    for char in text:
        spelling = _spelling(char)
        if spelling is None:
            parts.append("")
        else:
            parts[-1] += spelling
    return max(parts, key=len)


def _spelling(char: str) -> str | None:
    """How JSON writes a character in either case, with _ for digits that differ; None where no pattern can say it."""
    if char.isascii():
        return re.sub("[%_/]", r"/\g<0>", json.dumps(char)[1:-1])
    fold = char.casefold()
    if len(fold) > 1 or fold.isascii():
        return None
    spellings = [json.dumps(kin)[1:-1] for kin in (fold, *_capitals().get(fold, ()))]
    return "".join(digits[0] if len(set(digits)) == 1 else "_" for digits in zip(*spellings, strict=True))


@cache
def _capitals() -> dict[str, list[str]]:
    """The characters that a search takes for another one, by that: mostly its capital, for some letters more."""
    found: dict[str, list[str]] = {}
    for char in map(chr, range(0x80, sys.maxunicode + 1)):
        if (fold := char.casefold()) != char:
            found.setdefault(fold, []).append(char)
    return found


def _stream(query: sa.Select[LogChunk]) -> Iterable[LogChunk]:
    return db.session.scalars(query.execution_options(yield_per=20))


def _fits(line: Line, query: LogQuery) -> bool:
    return (
        LEVELS.index(line.level) >= LEVELS.index(query.level)
        and query.q.casefold() in line.message.casefold()
        and query.step in ("", line.step)
    )


def _lines(chunk: LogChunk) -> Iterator[Line]:
    for at, (instant, level, step, message) in enumerate(chunk.lines):
        yield Line(chunk.first_line + at, datetime.fromisoformat(instant), level, step, message, chunk.attempt)
