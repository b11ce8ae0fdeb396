"""One stream of a sync: decide the window, move the chunks, prove the rows, commit them with the state."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from webapp.engine.connectors.base import (
    Chunk,
    DestinationSession,
    Landed,
    Load,
    Mode,
    Read,
    ReadAgain,
    Relay,
    SourceSession,
    Staged,
    Stream,
    Write,
    Writer,
)
from webapp.engine.connectors.sums import check_column
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin
from webapp.engine.sync.adding import Adding
from webapp.engine.sync.counting import Count
from webapp.engine.sync.filters import parse_filter
from webapp.engine.sync.plan import Counting, StreamPlan, StreamReceipt, StreamStatus, SyncSpec
from webapp.engine.sync.positions import Position, cursor_of, known_position, narrowed, shown_state, unadvanced
from webapp.engine.sync.resumption import catch_up, fingerprint, still_right, taken_over, worth_keeping
from webapp.engine.sync.shape import Shape, changes, shape_of
from webapp.engine.sync.telling import Teller

MOST_NAMED = 20
GRACE = 1.0
"""Seconds before a count that disagrees is taken again."""


@dataclass(frozen=True)
class Desk:
    """What the streams of one run share. `slots` are the connections to the source, `silent` who adds nothing up."""

    spec: SyncSpec
    context: Context
    source: SourceSession
    destination: DestinationSession
    teller: Teller
    chunks: Executor
    slots: threading.Semaphore
    parallel_writes: bool
    silent: tuple[str, ...]


class StreamRun:
    """One stream on its way; `run` never raises, the receipt says what happened."""

    def __init__(self, plan: StreamPlan, desk: Desk, *, began: float | None = None) -> None:
        self.plan = plan
        self.desk = desk
        self._began = time.monotonic() if began is None else began
        self.receipt = StreamReceipt(plan.label, mode=plan.mode.value, write=plan.write.value, epoch=plan.epoch)
        self._key = plan.primary_key if plan.write is Write.UPSERT else ()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        self._writer: Writer | None = None
        self._pulled = 0
        self._chunks: list[Chunk] = []
        self._resumable = False
        self._short: tuple[Relay | None] | None = None
        self._count: Count | None = None

    def run(self) -> StreamReceipt:
        """Do all of it."""
        self.receipt.status = StreamStatus.RUNNING
        self.desk.teller.tell(self.receipt, now=True)
        try:
            self._check_stop()
            self._prepare()
            self._move()
            self._note_unseen()
            self._land()
        except ReadAgain as reason:
            self._abort()
            self._log("info", reason.message)
            return StreamRun(self.plan, self.desk, began=self._began).run()
        except Exception as error:  # one stream's failure, whatever it is, must not end the others
            self._give_up(error)
        self.receipt.seconds = round(time.monotonic() - self._began, 3)
        self.desk.teller.tell(self.receipt, now=True)
        return self.receipt

    def _prepare(self) -> None:
        _check(self.plan, self.desk.silent)
        self._shape: Shape = shape_of(self.plan, self._key)
        self._adding = Adding(self.plan, self._shape.sums)
        self._state = self.desk.destination.state(self.plan.target)
        existing = self.desk.destination.columns(self.plan.target)
        self.receipt.state_before = shown_state(self._state)
        known = known_position(self.plan, self._state)
        anew = known is None and (self._state is not None or self.plan.refresh)
        self._write = Write.REPLACE if anew else self.plan.write
        self._needed = existing is None or known is None or self._write is Write.REPLACE
        self.receipt.schema_changes = changes(
            existing, self._shape.columns, self.plan.target.label, anew=self._write is Write.REPLACE
        )
        self._position = Position(self.plan, known)
        with self.desk.slots:
            self._look()
            # One chunk is read or not; between it and the commit is little to lose.
            self._resumable = (
                len(self._chunks) > 1 and not self._position.going_on and self.desk.source.proves(self._read)
            )
        if self._resumable:
            self._go_on()

    def _go_on(self) -> None:
        """Keep what an interrupted attempt has put aside, as far as it is still right."""
        writer, source = self._begun(), self.desk.source
        staged = writer.staged()
        if not staged:
            return
        kept = still_right(staged, self._is_right, self.desk.chunks)
        with self.desk.slots:
            self._chunks = taken_over(writer, source, self._read, kept, self.desk.spec.parallel)
            catch_up(self._position, source, self._read, kept)
        self.receipt.rows_resumed = self._pulled = sum(one.rows for one in kept)
        changed = f"; {len(staged) - len(kept)} have changed since" if len(kept) < len(staged) else ""
        text = f"{len(kept)} chunks with {self.receipt.rows_resumed} rows of an interrupted attempt are kept{changed}"
        self._log("info", text)

    def _is_right(self, staged: Staged) -> bool:
        with self.desk.slots:
            self._check_stop()
            return self.desk.source.unchanged(self._read, staged)

    def _look(self) -> None:
        stream = Stream(self.plan.namespace, self.plan.name, self.plan.columns, self.plan.primary_key)
        self._read = Read(stream, self.plan.columns, _filter(self.plan), cursor_of(self.plan))
        source, spec = self.desk.source, self.desk.spec
        if self._read.cursor is not None:
            self._position.look(source.high_water(self._read), lambda text: self._log("warning", text))
        if self._read.cursor is not None and self._position.high is None and self._position.going_on:
            return  # no row has a cursor value, and those without one came with the first load
        if self.plan.goes_by_text and not self._position.going_on:
            self._remark(f"the cursor {self.plan.cursor} is text: rows go by the order of texts, where 10 is before 9")
        self._read = narrowed(self._read, self._position)
        if spec.count_source and self.plan.count is not Counting.NEVER:
            self._count = Count(source.counting(self._read, exactly=self._exactly), self._counted)
        self._adding.ask(source, self._read)
        self._chunks = list(source.chunks(self._read, parallel=spec.parallel))

    @property
    def _exactly(self) -> bool:
        return self.plan.count is Counting.ALWAYS

    def _counted(self, rows: int | None) -> None:
        self.receipt.rows_source = rows

    def _move(self) -> None:
        self.receipt.chunks = len(self._chunks)
        self.desk.teller.tell(self.receipt, now=True)
        futures: list[Future[None]] = [self.desk.chunks.submit(self._chunk, chunk) for chunk in self._chunks]
        wait(futures)
        failures = [error for future in futures if (error := future.exception()) is not None]
        # The first cause; what was stopped because of it says less.
        for error in sorted(failures, key=lambda one: isinstance(one, Cancelled)):
            raise error
        if self._count is not None:
            self._count.result(self._check_stop)

    def _note_unseen(self) -> None:
        """Tell what rows have brought that the catalog does not know: it is left out, and nothing else would say so."""
        known = {name.lower() for name in self.plan.known}
        unseen = sorted(name for name in self.desk.source.fields(self._read) if known and name.lower() not in known)
        if unseen:
            more = f" and {len(unseen) - MOST_NAMED} more" if len(unseen) > MOST_NAMED else ""
            self._remark(
                f"fields not in the catalog: {', '.join(unseen[:MOST_NAMED])}{more}; discover again to take them"
            )

    def _remark(self, text: str) -> None:
        self.receipt.notes.append(text)
        self._log("warning", text)

    def _chunk(self, chunk: Chunk) -> None:
        try:
            with self.desk.slots:
                self._check_stop()
                self._pour(chunk)
                self._note_chunk(chunk)
        except BaseException:
            self._stopped.set()
            raise
        with self._lock:
            self.receipt.chunks_done += 1
        self.desk.teller.tell(self.receipt)

    def _pour(self, chunk: Chunk) -> None:
        if (relay := self._relay()) is not None:
            self._pass_on(relay, chunk)
            return
        troubles: list[BaseException] = []
        # Closed at once also when the writer refuses: other streams may wait for the source's connection.
        with closing(self._rows(chunk, troubles)) as rows:
            self._poured(rows, chunk, troubles)

    def _note_chunk(self, chunk: Chunk) -> None:
        if self._resumable and (mark := self.desk.source.mark(self._read, chunk)) is not None:
            self._begun().note(chunk, mark)

    def _relay(self) -> Relay | None:
        """The short way, where all rows are read anyway and none has to be looked at."""
        if not self.desk.source.relays or self._write is not Write.REPLACE or self._position.tail is not None:
            return None
        writer = self._begun()
        with self._lock:
            if self._short is None:
                self._short = (None if self._shape.opened else writer.relay(self.desk.source, self._read),)
            return self._short[0]

    def _pass_on(self, relay: Relay, chunk: Chunk) -> None:
        def moved(size: int) -> None:
            self._check_stop()
            with self._lock:
                self.receipt.bytes_read += size
            self.desk.teller.tell(self.receipt)

        done = relay.pass_on(chunk, moved)
        with self._lock:
            self._pulled += done.read
            self.receipt.rows_read += done.read
            self.receipt.rows_written += done.written

    def _poured(self, rows: Iterator[pa.RecordBatch], chunk: Chunk, troubles: list[BaseException]) -> None:
        first = next(rows, None)
        if troubles:
            raise troubles[0]
        if first is None:
            return
        writer = self._begun()
        batches = pa.RecordBatchReader.from_batches(self._shape.schema, itertools.chain([first], rows))
        try:
            written = self._written(writer, batches, chunk)
        except Exception:
            if troubles:  # what the source said; the writer only knows that its rows ended early
                raise troubles[0] from None
            raise
        if troubles:
            raise troubles[0]
        with self._lock:
            self.receipt.rows_written += written

    def _written(self, writer: Writer, batches: pa.RecordBatchReader, chunk: Chunk) -> int:
        if self.desk.parallel_writes:
            return writer.write(batches, chunk)
        with self._writing:
            return writer.write(batches, chunk)

    def _rows(self, chunk: Chunk, troubles: list[BaseException]) -> Generator[pa.RecordBatch]:
        """The chunk's new rows in the destination's columns; what goes wrong is kept, for the writer garbles it."""
        try:
            for batch in self.desk.source.read(self._read, chunk):
                self._check_stop()
                fresh = self._fresh(batch)
                if fresh.num_rows:
                    yield self._shape.fitted(fresh)
        except Exception as error:  # raised again by whoever called the writer
            troubles.append(error)

    def _fresh(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        position = self._position
        if position.tail is not None:
            position.tail.add(batch)
        fresh = batch if position.taken is None else position.taken.new_of(batch)
        self._adding.skip(batch, fresh)
        with self._lock:
            self._pulled += batch.num_rows
            self.receipt.rows_read += fresh.num_rows
            self.receipt.bytes_read += fresh.nbytes
        self.desk.teller.tell(self.receipt)
        return fresh

    def _begun(self) -> Writer:
        with self._lock:
            if self._writer is None:
                self._writer = self.desk.destination.begin(self._load())
            return self._writer

    def _load(self) -> Load:
        spec, shape = self.desk.spec, self._shape
        load = Load(
            self.plan.target, self._write, shape.columns, shape.key, shape.partitions, spec.run_id, spec.keep_days,
            sums=shape.sums,
        )  # fmt: skip
        return replace(load, fingerprint=fingerprint(spec, self.plan, load)) if self._resumable else load

    def _land(self) -> None:
        receipt = self.receipt
        doubt = self._doubt_of_reading()
        if self._writer is None and not self._needed and doubt is None:
            self._nothing_new()
            return
        if doubt and self._write is Write.APPEND:
            self._hold_back(doubt)
            return
        after = (
            unadvanced(self.plan, self._position.before) if doubt else self._position.after(self._write, self._gathered)
        )
        self._check_stop()
        landed = self._begun().commit(after)
        self._note(landed)
        if doubt is None and landed.found != self._gathered:
            doubt = f"{self._gathered} rows were read and {landed.found} found in the table afterwards"
            after, doubt = self._take_back(landed, doubt)
        elif doubt is None and (doubt := self._doubt_of_sums(landed)):
            after, doubt = self._take_back(landed, doubt)
        if self.plan.sums:
            receipt.sums = self._adding.to_json()
        receipt.state_after = shown_state(after)
        receipt.doubt = doubt
        receipt.status = StreamStatus.DOUBT if doubt else StreamStatus.LANDED
        said = doubt or f"{landed.written:,} rows landed in {self.plan.target.label}"
        self._log("warning" if doubt else "info", said)

    @property
    def _gathered(self) -> int:
        """The rows that shall land: read by this attempt or an interrupted one."""
        return self.receipt.rows_read + self.receipt.rows_resumed

    def _nothing_new(self) -> None:
        self.receipt.status = StreamStatus.LANDED
        self.receipt.rows_found = 0
        self.receipt.state_after = self.receipt.state_before
        self.receipt.schema_changes = []
        self._log("info", "nothing new")

    def _note(self, landed: Landed) -> None:
        receipt = self.receipt
        receipt.rows_found, receipt.rows_total, receipt.generation = landed.found, landed.total, landed.generation
        receipt.rows_written = landed.written
        receipt.bytes_written = landed.bytes_written or receipt.bytes_read

    def _doubt_of_reading(self) -> str | None:
        """What does not agree before anything is committed."""
        receipt = self.receipt
        if receipt.rows_written != receipt.rows_read:
            return f"{receipt.rows_read} rows were read and {receipt.rows_written} written"
        first, skipped = receipt.rows_source, self._pulled - self._gathered
        if first is None:
            return None
        second = first
        if first != self._pulled:
            time.sleep(GRACE)
            with self.desk.slots:
                second = self.desk.source.counting(self._read, exactly=self._exactly)() or 0
        # A source without snapshots may have grown or shrunk while it was read.
        receipt.rows_source = self._pulled if min(first, second) <= self._pulled <= max(first, second) else second
        receipt.rows_source -= skipped
        if receipt.rows_source == self._gathered:
            return None
        return f"the source counts {receipt.rows_source} rows, and {self._gathered} were read"

    def _doubt_of_sums(self, landed: Landed) -> str | None:
        """What does not add up to the same; a source without snapshots is asked once more."""
        if not self.plan.sums:
            return None
        self._adding.found(landed.sums)
        if self._adding.disagreement() is not None:
            time.sleep(GRACE)
            with self.desk.slots:
                self._adding.ask(self.desk.source, self._read)
        return self._adding.disagreement()

    def _hold_back(self, doubt: str) -> None:
        """An append that landed and were read again would be there twice: nothing lands, the next run reads it."""
        self._abort()
        receipt = self.receipt
        receipt.status, receipt.rows_written, receipt.rows_found = StreamStatus.DOUBT, 0, 0
        receipt.state_after = receipt.state_before
        receipt.doubt = f"{doubt}; nothing was appended, the next run reads these rows again"
        self._log("warning", receipt.doubt)

    def _take_back(self, landed: Landed, doubt: str) -> tuple[dict[str, Any], str]:
        """Rows have landed with a state that they do not deserve: put the state before in its place."""
        before = unadvanced(self.plan, self._position.before)
        destination = self.desk.destination
        if self._write is not Write.APPEND:
            destination.begin(replace(self._load(), write=Write.APPEND, keep_days=0)).commit(before)
            return before, doubt
        if landed.generation:
            destination.restore(self.plan.target, landed.generation, before)
            return before, f"{doubt}; the rows were taken back, the next run reads them again"
        return self._position.after(self._write, self._gathered), f"{doubt}; they cannot be taken back"

    def _give_up(self, error: Exception) -> None:
        if self._writer is not None and worth_keeping(error):
            self._writer.interrupt()
        else:
            self._abort()
        self.receipt.state_after = self.receipt.state_before
        self.receipt.schema_changes = []
        if isinstance(error, Cancelled):
            self.receipt.status = StreamStatus.CANCELLED
            return
        known = error if isinstance(error, EngineError) else _unexpected(error)
        self.receipt.status = StreamStatus.FAILED
        self.receipt.error = error_json(known)
        self._log("error", known.message)

    def _abort(self) -> None:
        if self._writer is not None:
            self._writer.abort()

    def _check_stop(self) -> None:
        if self._stopped.is_set() or self.desk.context.cancelled():
            raise Cancelled

    def _log(self, level: str, text: str) -> None:
        self.desk.teller.log(level, f"{self.plan.label}: {text}")


def error_json(error: EngineError) -> dict[str, Any]:
    """An error as receipts carry it."""
    known: dict[str, Any] = {"message": error.message, "origin": error.origin.value, "kind": error.kind.value}
    return {**known, "fix": error.fix, "permanent": error.permanent}


def _check(plan: StreamPlan, silent: tuple[str, ...]) -> None:
    for name in plan.sums:
        check_column(plan.columns, name, plan.label)
    for wrong, message, fix in _rules(plan, silent):
        if wrong:
            raise EngineError(f"{plan.label}: {message}", origin=Origin.USER, kind=Kind.CONFIGURATION, fix=fix)


def _rules(plan: StreamPlan, silent: tuple[str, ...]) -> Iterator[tuple[bool, str, str]]:
    yield plan.mode is Mode.CDC, "change data capture is not offered", "Choose incremental or full refresh."
    yield bool(plan.sums and silent), f"{' and '.join(silent)} cannot add columns up", "Leave the sums out."
    yield (
        plan.write is Write.UPSERT and not plan.primary_key,
        "the table has no key, and an upsert needs one",
        "Name the columns that tell its rows apart, or choose append.",
    )
    yield (
        plan.mode is Mode.INCREMENTAL and not plan.cursor,
        "an incremental sync needs a cursor",
        "Choose a column that grows with each change, or choose full refresh.",
    )


def _filter(plan: StreamPlan) -> Any:
    try:
        return parse_filter(plan.filter)
    except ValueError as error:
        raise EngineError(f"{plan.label}: {error}", origin=Origin.USER, fix="Correct the stream's filter.") from error


def _unexpected(error: Exception) -> EngineError:
    # The text of a foreign error may hold what nobody shall see.
    return EngineError(
        f"failed unexpectedly: {type(error).__name__}", origin=Origin.PLATFORM, kind=Kind.SYSTEM, permanent=False
    )


Listener = Callable[[StreamReceipt], None]
