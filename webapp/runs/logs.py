"""Windows on a run's log: its newest lines, the lines around one of them, and what a search finds in all of it."""

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from webapp.db import db
from webapp.runs.models import LogChunk, Run
from webapp.runs.operations import LEVELS

WINDOW = 500
_PLAIN = re.compile(r"[ !#-.0-\[\]-~]+")  # what JSON text holds as it is


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
    if query.q and _PLAIN.fullmatch(query.q):
        # Chunks without the text need not be read at all; what JSON would escape is looked for in the lines themselves.
        chunks = chunks.where(sa.cast(LogChunk.lines, sa.Text).icontains(query.q, autoescape=True))
    return chunks


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
