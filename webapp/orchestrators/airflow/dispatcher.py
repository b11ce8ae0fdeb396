"""The process that talks to Airflow: hands flights over, looks after silent ones, stops those that shall end.

Any number of them may run: each errand is taken by one at a time, and a flight that is handed over twice is one DAG
run. While Airflow is away one flight asks for all of them whether it is back.
"""

import contextlib
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import FrameType
from typing import Any

import psycopg2
import sqlalchemy as sa
import sqlalchemy.exc
from flask import Flask
from setproctitle import setproctitle

from webapp import db as database
from webapp.config import Executor, Settings
from webapp.dates import utcnow
from webapp.db import db, reading, unit_of_work
from webapp.orchestrators.airflow import handover, outbox, settling
from webapp.orchestrators.airflow.outbox import Errand, Result, Word
from webapp.orchestrators.airflow.rest import CONNECTIONS, Airflow, AirflowAway, AirflowRefused
from webapp.runs.models import Run
from webapp.runs.states import RunState
from webapp.wake import CLOCK, RUNS, Waiter

log = logging.getLogger("hohmann.airflow")

LONGEST_SLEEP = 2.0
ERRANDS_A_STEP = 2 * CONNECTIONS
DATABASE_RETRY_SECONDS = 0.5


def main(app: Flask) -> None:
    """Work until SIGTERM or SIGINT."""
    setproctitle("hohmann: airflow")
    settings: Settings = app.extensions["settings"]
    if not settings.airflow_url:
        log.warning("AIRFLOW_URL is not set: there is nobody to hand flights to")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        return
    with app.app_context():
        Dispatcher(settings).work()


class Dispatcher:
    """One process's share of the talking."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.airflow = Airflow(settings)
        self.stopping = False
        self.away_since: float | None = None
        self.ask_again_at = 0.0
        self.pause = outbox.FIRST_PAUSE

    def work(self) -> None:
        """The loop: sleep until somebody signals or something is due, then do what is due."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        log.info("handing flights to Airflow at %s", self.settings.airflow_url)
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="airflow") as pool:
            while not self.stopping:
                self._listen_and_work(pool)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _listen_and_work(self, pool: ThreadPoolExecutor) -> None:
        """Until the stop, or until the connection that signals come by is lost."""
        try:
            with Waiter(database.get_wake().listen(RUNS, CLOCK)) as waiter:
                while not self.stopping:
                    is_more = self._guarded(pool)
                    if not is_more and not self.stopping:
                        waiter.wait(self._seconds_to_sleep())
        except psycopg2.Error as error:
            log.warning("the database does not answer, trying again: %s", str(error).splitlines()[0])
            time.sleep(DATABASE_RETRY_SECONDS)

    def _guarded(self, pool: ThreadPoolExecutor) -> bool:
        try:
            return self.step(pool.map)
        except sqlalchemy.exc.DBAPIError as error:
            log.warning("the database does not answer, trying again: %s", str(error).splitlines()[0])
            time.sleep(DATABASE_RETRY_SECONDS)
            return True
        finally:
            with contextlib.suppress(sqlalchemy.exc.DBAPIError):
                db.session.remove()

    def step(self, each: Callable[..., Any]) -> bool:
        """Do what is due; returns whether there may be more at once."""
        with unit_of_work():
            handover.end_flights_of_ended_runs()
            settling.end_runs_that_do_not_stop(self.settings)
            enlisted = handover.enlist_due_runs(self.settings)
            limit = self._errands_at_once()
            errands = outbox.take_errands(self.settings, limit=limit) if limit else []
        if not errands:
            return False
        results: list[Result] = list(each(self.run_errand, errands))
        with unit_of_work():
            outbox.write_results(results, self.settings)
            self._note_whether_airflow_is_there(results)
        return len(errands) == limit or enlisted >= handover.RUNS_A_STEP

    def _errands_at_once(self) -> int:
        """While Airflow is away, one asks for all, and only now and then."""
        if self.away_since is None:
            return ERRANDS_A_STEP
        return 1 if time.monotonic() >= self.ask_again_at else 0

    def run_errand(self, errand: Errand) -> Result:
        """Say it to Airflow; in a thread of its own, without the database."""
        try:
            if errand.word is Word.START:
                self.airflow.trigger(errand.dag_id, errand.dag_run_id, errand.conf)
                return Result(errand)
            if errand.word is Word.STOP:
                self.airflow.stop(errand.dag_id, errand.dag_run_id)
                return Result(errand)
            state = self.airflow.state_of(errand.dag_id, errand.dag_run_id)
            because = self.airflow.why_queued(errand.dag_id) if state == "queued" else None
            return Result(errand, state=state, waits_because=because)
        except AirflowAway as error:
            return Result(errand, away=str(error))
        except AirflowRefused as error:
            return Result(errand, refusal=str(error))

    def _note_whether_airflow_is_there(self, results: list[Result]) -> None:
        reasons = [result.away for result in results if result.away]
        if reasons:
            self._note_away(reasons[0])
        elif results and self.away_since is not None:
            log.info("Airflow is back after %.0f s", time.monotonic() - self.away_since)
            self.away_since, self.pause = None, outbox.FIRST_PAUSE
            outbox.airflow_is_back()

    def _note_away(self, reason: str) -> None:
        if self.away_since is None:
            log.warning("%s", reason)
            self.away_since = time.monotonic()
        self.ask_again_at = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, self.settings.airflow_retry_seconds)
        outbox.tell_all_that_airflow_is_away(reason)

    def _seconds_to_sleep(self) -> float:
        with reading():
            due = [outbox.next_errand_at(), _next_run_at()]
        now = utcnow()
        seconds = min((_until(at, now) for at in due if at is not None), default=LONGEST_SLEEP)
        if self.away_since is not None:
            seconds = max(seconds, self.ask_again_at - time.monotonic())
        return max(0.0, min(seconds, LONGEST_SLEEP))


def _next_run_at() -> datetime | None:
    """When the next run that waits for its time has to be handed over."""
    query = sa.select(sa.func.min(Run.available_at)).where(
        Run.state == RunState.QUEUED, Run.executor == Executor.AIRFLOW, Run.available_at > utcnow()
    )
    return db.session.scalar(query)


def _until(instant: datetime, now: datetime) -> float:
    return (instant - now).total_seconds()
