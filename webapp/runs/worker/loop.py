"""The worker's one thread: waits for signals, children and the clock, and serves them in short units of work."""

import contextlib
import gc
import logging
import math
import selectors
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from types import FrameType

import psycopg2
import sqlalchemy.exc
from flask import Flask
from setproctitle import setproctitle

from webapp import db as database
from webapp.config import Settings
from webapp.dates import utcnow
from webapp.db import db, is_postgresql, reading, unit_of_work
from webapp.runs.chores import Chore, chores_of
from webapp.runs.claims import announce_claims, claim_runs, look_ahead
from webapp.runs.messages import Lease, Outcome, Step
from webapp.runs.queue import Report, apply_reports, beat, look_at_leases, sign_off
from webapp.runs.recovery import release_runs, worker_name
from webapp.runs.worker.children import Child, Crew, Flight, import_what_children_need
from webapp.runs.worker.execution import Line, Message, Progress, remove_temp
from webapp.wake import RUNS, Listener

log = logging.getLogger("hohmann.worker")

FLUSH_SECONDS = 0.2  # how long lines and progress may wait to be written together
IDLE_BEAT_SECONDS = 4.0
GATHER_SECONDS = 0.05  # how long ends of short runs may wait for one another while more runs are at hand
LOOK_SECONDS = 5.0  # the queue is looked at this often even when no signal came
SHORT_RUN_SECONDS = 0.02  # runs shorter than this are claimed several at a time
MOST_AT_HAND = 32  # for each child
DATABASE_RETRY_SECONDS = 0.5
VAIN_LOOKS = 4  # a worker that looked this often in vain since its last claim lets the others go first
STEP_BACK_SECONDS = 0.004


def main(app: Flask, *, title: str = "hohmann: worker") -> None:
    """Work until SIGTERM or SIGINT."""
    setproctitle(title)
    with app.app_context():
        WorkerLoop(app, app.extensions["settings"]).work()


class WorkerLoop:
    """One worker: its children, its leases, and what has to be written about them."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.name = worker_name()
        self.started_at = utcnow()
        self.reports: dict[uuid.UUID, Report] = {}
        self.first_unwritten = 0.0
        self.mean_seconds = 1.0
        self.stopping = False
        self.look_for_cancels = False
        self.announce_at = 0.0
        self.launched: list[Lease] = []  # started, but not yet announced
        self.wants_look = True
        self.vain_looks = 0
        self.step_back_until = 0.0
        self.database_back_at = 0.0
        self.patient_until = 0.0
        self.next_beat = 0.0
        self.next_look = 0.0
        self.chores = chores_of(app)
        self.chore_due = dict.fromkeys(range(len(self.chores)), 0.0)
        self.selector = selectors.DefaultSelector()
        self.listener: Listener | None = None
        self.listening_on = -1

    def work(self) -> None:
        """The loop. Children are forked before there is any database connection that they could inherit."""
        self._catch_signals()
        import_what_children_need()
        db.engine.dispose()
        self.crew = Crew(self.settings, before_fork=_close_database, before_child_lives=gc.freeze)
        for child in self.crew.children:
            self.selector.register(child.pipe, selectors.EVENT_READ, child)
        log.info("worker %s with %d places", self.name, self.settings.worker_slots)
        while not self.stopping:
            self._wait()
            self._listen_to_children()
            self._watch_flights()
            self._step(self._write_and_claim)
            self._step(self._beat)
            self._do_chores()
        self._shut_down()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        self.signals = (reader, writer)
        self.selector.register(reader, selectors.EVENT_READ, "signal")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _wait(self) -> None:
        self._keep_listening()
        for key, _ in self.selector.select(self._seconds_to_wait()):
            if key.data == "signal":
                with contextlib.suppress(BlockingIOError):
                    self.signals[0].recv(4096)
            elif key.data == "wake":
                self._hear()

    def _seconds_to_wait(self) -> float:
        now = time.monotonic()
        due = [self.next_beat, self.next_look, *self.chore_due.values()]
        if self.reports:
            due.append(self._write_at())
        if self.wants_look and self._room():
            due.append(self.step_back_until)
        if self.launched:
            due.append(self.announce_at)
        due += [now + 0.5 for child in self.crew.children if child.flight]
        return max(0.0, max(min(due), self.database_back_at) - now)

    def _keep_listening(self) -> None:
        if self.listener is None and time.monotonic() >= self.database_back_at:
            try:
                self.listener = database.get_wake().listen("runs", "clock")
            except psycopg2.Error:
                self._database_is_away()
                return
            self.listening_on = self.listener.fileno()
            self.selector.register(self.listening_on, selectors.EVENT_READ, "wake")
            self._everything_is_due()  # what was signalled while nobody listened

    def _hear(self) -> None:
        assert self.listener is not None
        try:
            heard = self.listener.drain()
        except psycopg2.Error:
            self._stop_listening()
            return
        if RUNS in heard:
            if self.vain_looks >= VAIN_LOOKS and not self.wants_look:
                self.step_back_until = time.monotonic() + STEP_BACK_SECONDS
            self.wants_look = True
            self.look_for_cancels = True
        for at, chore in enumerate(self.chores):
            if chore.channels & heard:
                self.chore_due[at] = 0.0

    def _stop_listening(self) -> None:
        if self.listener is not None:
            self.selector.unregister(self.listening_on)  # a lost connection does not know its number any more
            self.listener.close()
            self.listener = None

    def _everything_is_due(self) -> None:
        self.wants_look = True
        self.next_beat = 0.0
        self.chore_due = dict.fromkeys(self.chore_due, 0.0)

    # --- children -----------------------------------------------------------------------------------------------------

    def _listen_to_children(self) -> None:
        for child in list(self.crew.children):
            messages, is_gone = child.messages()
            for message in messages:
                self._take(child, message)
            if is_gone and child in self.crew.children:
                self._bury(child)

    def _take(self, child: Child, message: Message) -> None:
        flight = child.flight
        if flight is None:
            return
        report = self._report(flight.lease)
        if isinstance(message, Line):
            report.lines.append((message.at, message.level, message.step, message.message))
        elif isinstance(message, Step):
            report.steps[message.position] = message
            flight.progressed = time.monotonic()
        elif isinstance(message, Progress):
            numbers = (message.rows_read, message.rows_written, message.bytes_read, message.fraction)
            if numbers != report.progress:
                flight.progressed = time.monotonic()
            report.progress = numbers
        else:
            self._end_flight(child, flight, message)

    def _report(self, lease: Lease) -> Report:
        report = self.reports.get(lease.run_id)
        if report is None:
            if not self.reports:
                self.first_unwritten = time.monotonic()
            report = self.reports[lease.run_id] = Report(lease)
        return report

    def _end_flight(self, child: Child, flight: Flight, outcome: Outcome) -> None:
        seconds = time.monotonic() - flight.started
        self.mean_seconds = 0.9 * self.mean_seconds + 0.1 * seconds if seconds < self.mean_seconds else seconds
        if flight.stop_reason and outcome.name == "cancelled":
            outcome = flight.outcome_when_stopped()
            self._say(flight.lease, f"Stopped: {flight.stop_reason}. Its process {child.pid} ended the work by itself.")
        self._report(flight.lease).outcome = replace(outcome, began=flight.began)
        child.flight, child.last_used = None, time.monotonic()
        child.runs_done += 1
        child.spoiled = child.spoiled or outcome.name != "succeeded"
        self.wants_look = True
        if self.crew.is_worn(child):
            self._replace(child)
        else:
            child.start_next()

    def _say(self, lease: Lease, text: str, level: str = "info") -> None:
        self._report(lease).lines.append((utcnow().isoformat(), level, "", text))

    def _replace(self, child: Child) -> None:
        self.selector.unregister(child.pipe)
        fresh = self.crew.replace(child)
        self.selector.register(fresh.pipe, selectors.EVENT_READ, fresh)

    def _bury(self, child: Child) -> None:
        """A child is gone, without having said how its run ended."""
        flight, child.flight = child.flight, None
        if flight is not None:
            if flight.stop_reason:
                outcome = flight.outcome_when_stopped()
            else:
                message = "The process that executed the run was killed, perhaps because memory ran out."
                outcome = Outcome("failed", message=message, origin="platform", kind="transient")
                self._say(flight.lease, message, "error")
            self._report(flight.lease).outcome = replace(outcome, began=flight.began)
            remove_temp(self.settings, flight.lease)
        self.wants_look = True
        self._replace(child)

    def _watch_flights(self) -> None:
        """Time limits, and the end of patience with a run that was asked to stop."""
        now = time.monotonic()
        for child in list(self.crew.children):
            flight = child.flight
            if flight is None:
                continue
            if flight.stop_asked is not None:
                if now - flight.stop_asked > self.settings.cancel_seconds:
                    self._kill(child, flight)
                continue
            spec = flight.lease.spec
            if now - flight.started > float(spec.get("timeout_seconds", 1e9)):
                child.ask_to_stop(f"it took longer than its time limit of {spec['timeout_seconds']:g} s")
            elif now - flight.progressed > float(spec.get("no_progress_seconds", 1e9)):
                child.ask_to_stop(f"it made no progress for {spec['no_progress_seconds']:g} s")
        self._share_out()

    def _kill(self, child: Child, flight: Flight) -> None:
        child.kill()
        child.spoiled = True
        messages, _ = child.messages()
        for message in messages:  # it may have ended in the last moment
            self._take(child, message)
        if child.flight is flight and child in self.crew.children:
            patience = f"did not end within {self.settings.cancel_seconds:g} s and was killed"
            self._say(flight.lease, f"Stopped: {flight.stop_reason}. Process {child.pid} {patience}.", "warning")
            self._bury(child)

    def _share_out(self) -> None:
        """Runs that wait behind a long one move to a child that is free, or back to the queue."""
        idle = [child for child in self.crew.children if child.is_idle]
        stuck: list[Child] = []
        for child in self.crew.children:
            while child.waiting and idle:
                idle.pop().give(child.waiting.pop())
            if child.waiting and child.flight and time.monotonic() - child.flight.started > 0.5:
                stuck.append(child)
        if stuck:
            self.mean_seconds = max(self.mean_seconds, 0.5)
            back = [lease for child in stuck for lease in child.waiting]
            reason = "Given back to the queue: the run before it on this worker takes long."
            if self._step(lambda: self._give_back(back, reason)):
                for child in stuck:
                    child.waiting.clear()

    def _give_back(self, leases: list[Lease], reason: str) -> None:
        with unit_of_work():
            release_runs(leases, reason=reason)

    # --- the database -------------------------------------------------------------------------------------------------

    def _step(self, step: Callable[[], None]) -> bool:
        """Do a unit of work; while the database is away, keep everything and try again soon."""
        began = time.monotonic()
        if began < self.database_back_at:
            return False
        try:
            step()
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
            if not is_database_away(error):
                raise
            log.warning("database does not answer, trying again: %s", str(error).splitlines()[0])
            self._database_is_away()
            return False
        finally:
            db.session.remove()
        if time.monotonic() - began > self.settings.heartbeat_seconds:
            self._be_patient()  # the others may have been kept waiting too
        return True

    def _database_is_away(self) -> None:
        """Try again soon."""
        self.database_back_at = time.monotonic() + DATABASE_RETRY_SECONDS
        self._be_patient()
        self._stop_listening()

    def _be_patient(self) -> None:
        """The database was away or slow: let every worker be heard, this one first, before one judges another."""
        self.next_beat = 0.0
        self.patient_until = time.monotonic() + DATABASE_RETRY_SECONDS + 2 * self.settings.heartbeat_seconds

    def _write_at(self) -> float:
        """When what is reported has to be written: ends at once, unless more of them come while children are busy."""
        if not any(report.outcome for report in self.reports.values()):
            return self.first_unwritten + FLUSH_SECONDS
        more_to_come = any(child.waiting for child in self.crew.children)
        return self.first_unwritten + GATHER_SECONDS if more_to_come else 0.0

    def _room(self) -> int:
        """How many more runs this worker would take."""
        each = 1 if self.mean_seconds > SHORT_RUN_SECONDS else MOST_AT_HAND
        free = [each - len(child.leases) for child in self.crew.children]
        return sum(left for left in free if left > each // 2 or left == each)

    def _write_and_claim(self) -> None:
        now = time.monotonic()
        writes = bool(self.reports) and now >= self._write_at()
        room = self._room()
        looks = room > 0 and ((self.wants_look and now >= self.step_back_until) or now >= self.next_look)
        if looks and not is_postgresql():
            looks = self._look_ahead(now)  # most signals are for another worker, and SQLite's lock is everybody's
        held = self._held()
        asks = self.look_for_cancels and bool(held)
        if not (writes or looks or asks or (self.launched and now >= self.announce_at)):
            return
        reports = list(self.reports.values()) if writes else []
        launched = self.launched
        with unit_of_work():
            announce_claims(launched)
            apply_reports(reports)
            leases = claim_runs(self.name, limit=room, settings=self.settings) if looks else []
            pulse = look_at_leases(held) if asks else None
        self.launched = []
        for report in reports:
            self.reports.pop(report.lease.run_id, None)
        self.look_for_cancels = False
        if pulse:
            self._obey(pulse.to_cancel, pulse.lost)
        if leases:
            self._begin(leases, now, was_idle=not held)
        if looks:
            self.vain_looks = 0 if leases else self.vain_looks + 1
            self._look_ahead(now)
            self.wants_look = len(leases) == room

    def _look_ahead(self, now: float) -> bool:
        """Whether a run is due; takes no lock. Sets when the queue has to be looked at again."""
        with reading():
            is_due, later = look_ahead()
        self.next_look = now + min(LOOK_SECONDS, _seconds_until(later))
        self.wants_look = False
        return is_due

    def _begin(self, leases: list[Lease], now: float, *, was_idle: bool) -> None:
        """Start what was claimed first; that it has started is announced right after."""
        if was_idle:
            self.crew.hold.prolong(now + self.settings.lease_seconds)
            self.next_beat = min(self.next_beat, now + self.settings.heartbeat_seconds)
        self._hand_out(leases)
        self.launched += leases
        # Many at once are short ones: their ends come soon, and one commit tells both.
        self.announce_at = now + GATHER_SECONDS if len(leases) > len(self.crew.children) else now

    def _hand_out(self, leases: list[Lease]) -> None:
        for lease in leases:
            child = min(self.crew.children, key=lambda child: len(child.leases))
            child.give(lease)

    def _held(self) -> dict[uuid.UUID, int]:
        return {lease.run_id: lease.token for child in self.crew.children for lease in child.leases}

    def _obey(self, wanted: Mapping[uuid.UUID, str], lost: frozenset[uuid.UUID]) -> None:
        for child in list(self.crew.children):
            for lease in [lease for lease in child.waiting if lease.run_id in wanted or lease.run_id in lost]:
                child.waiting.remove(lease)
                if lease.run_id in wanted:
                    self._report(lease).outcome = Outcome("cancelled", message=f"cancelled by {wanted[lease.run_id]}")
            flight = child.flight
            if flight and flight.lease.run_id in wanted:
                child.ask_to_stop(f"cancelled by {wanted[flight.lease.run_id]}")
            if flight and flight.lease.run_id in lost:
                log.warning("lease of run %s was lost; its process is ended", flight.lease.run_id)
                self.reports.pop(flight.lease.run_id, None)
                child.flight = None
                self._replace(child)

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self.next_beat:
            return
        leases = [lease for child in self.crew.children for lease in child.leases]
        busy = sum(child.flight is not None for child in self.crew.children)
        with unit_of_work():
            slots = self.settings.worker_slots
            pulse = beat(self.name, leases, slots=slots, busy=busy, started_at=self.started_at, settings=self.settings)
        self.next_beat = now + (self.settings.heartbeat_seconds if leases else IDLE_BEAT_SECONDS)
        self._obey(pulse.to_cancel, pulse.lost)
        self.crew.hold.prolong(now + self.settings.lease_seconds)
        for child in self.crew.fat_and_idle():
            self._replace(child)

    def _do_chores(self) -> None:
        for at, chore in enumerate(self.chores):
            if time.monotonic() >= self.chore_due[at]:
                self._step(lambda at=at, chore=chore: self._do_chore(at, chore))  # type: ignore[misc]

    def _do_chore(self, at: int, chore: Chore) -> None:
        now = time.monotonic()
        if chore.judges_workers and now < self.patient_until:
            self.chore_due[at] = self.patient_until
            return
        self.chore_due[at] = now + chore.every
        due = self._run_chore(chore)
        if due is not None:
            self.chore_due[at] = min(self.chore_due[at], time.monotonic() + max(0.0, (due - utcnow()).total_seconds()))

    def _run_chore(self, chore: Chore) -> datetime | None:
        try:
            with unit_of_work():
                return chore.run()
        except Exception as error:  # an outermost edge: one chore that breaks must not end the runs of the whole worker
            if is_database_away(error):
                raise
            log.exception("the chore %r failed; it is tried again in %g s", chore.name, chore.every)
            return None

    # --- the end ------------------------------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        """End all children; give unfinished runs back to the queue; write what is known."""
        log.info("worker %s ends", self.name)
        self._listen_to_children()
        leases = [lease for child in self.crew.children for lease in child.leases]
        self.crew.kill_all()
        for lease in leases:
            remove_temp(self.settings, lease)
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError), unit_of_work():
            announce_claims(self.launched)
            apply_reports(list(self.reports.values()))
            release_runs(leases, reason="The worker was shut down; the run starts again when one is free.")
            sign_off(self.name)
        self._stop_listening()


def _seconds_until(instant: datetime | None) -> float:
    return max(0.0, (instant - utcnow()).total_seconds()) if instant else math.inf


def is_database_away(error: Exception) -> bool:
    """Whether it is the database that does not answer, is locked or full, so that trying again later makes sense."""
    if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError | sqlalchemy.exc.TimeoutError):
        return True
    return isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated


def _close_database() -> None:
    """Before a fork: no connection is open that the child would share. The next unit of work opens one again."""
    db.session.remove()
    db.engine.dispose()
