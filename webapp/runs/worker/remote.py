"""Executes a run on a machine that reaches Hohmann by its API alone, such as a worker of Airflow's.

Loads neither Flask nor SQLAlchemy: what moves data is the engine, what it says travels in numbered messages. As long as
nobody knows whether the run is still ours, because Hohmann does not answer, nothing is committed.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from webapp.config import Settings
from webapp.runs.messages import Lease, Outcome, Step, Totals
from webapp.runs.worker.execution import Line, Message, Progress, Telephone, execute, reset_peak_memory

log = logging.getLogger("hohmann.remote")

FLUSH_SECONDS = 0.5
MOST_LINES = 500
PAUSE_AFTER_SILENCE = 1.0
PATIENCE_SECONDS = 10.0  # with a run that was asked to stop
ANSWER_SECONDS = 120.0  # how long the last word is tried to be delivered after the lease has run out

#: One call of the API: method, path, body, token. Returns status and decoded body; raises OSError without an answer.
Call = Callable[[str, str, Any, str], tuple[int, Any]]


class NotBegun(Exception):
    """Hohmann does not let this task execute the run; the message says why."""


@dataclass
class Bag:
    """What has been said since the last message was made."""

    lines: list[Line] = field(default_factory=list)
    steps: dict[int, Step] = field(default_factory=dict)
    progress: Progress | None = None
    outcome: Outcome | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.lines or self.steps or self.progress or self.outcome)

    def as_message(self, sequence: int) -> dict[str, Any]:
        """The message of this number."""
        return {
            "sequence": sequence,
            "lines": [asdict(line) for line in self.lines],
            "steps": [asdict(step) for step in self.steps.values()],
            "progress": asdict(self.progress) if self.progress else None,
            "outcome": asdict(self.outcome) if self.outcome else None,
        }


class Postman:
    """Carries what is said to Hohmann, in order, each message until it is acknowledged; learns whether to go on.

    Stands where a worker's pipe stands for a local run. Its thread ends with the last message.
    """

    def __init__(self, call: Call, path: str, token: str, *, lease_seconds: float, limits: Mapping[str, Any]) -> None:
        self._call = call
        self._path = path
        self._token = token
        self._lease_seconds = lease_seconds
        self._limits = limits
        self._bag = Bag()
        self._changed = threading.Condition()
        self._sequence = 0
        self._began = self._progressed = time.monotonic()
        self._good_until = time.monotonic() + lease_seconds
        self._stop_asked: float | None = None
        self.stop_reason: str | None = None
        self.is_lost = False
        self._thread = threading.Thread(target=self._carry, name="postman", daemon=True)
        self._thread.start()

    # --- what the run says and asks -----------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Take something along; waits when more has been said than can be carried."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._bag.lines) < MOST_LINES or self.is_lost)
            if isinstance(message, Line):
                self._bag.lines.append(message)
                log.log(_LEVELS.get(message.level, logging.INFO), "%s", message.message)
            elif isinstance(message, Step):
                self._bag.steps[message.position] = message
                self._progressed = time.monotonic()
            elif isinstance(message, Progress):
                if message != self._bag.progress:
                    self._progressed = time.monotonic()
                self._bag.progress = message
            else:
                self._bag.outcome = message
            self._changed.notify_all()

    def must_stop(self) -> bool:
        """Whether the run has to stop. Waits while nobody knows whether it is still ours."""
        while True:
            if self.is_lost or self.stop_reason:
                return True
            if time.monotonic() < self._good_until:
                return False
            time.sleep(0.05)

    def finish(self, outcome: Outcome) -> bool:
        """Deliver the end; returns whether Hohmann has taken it."""
        self.send(outcome)
        self._thread.join()
        return not self.is_lost

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        try:
            self._carry_to_the_end()
        except Exception:  # whatever it is, the run must not go on with nobody to tell it whether it may
            log.exception("what the run says cannot be carried any more")
            self._lose()

    def _carry_to_the_end(self) -> None:
        while not self.is_lost:
            with self._changed:
                self._changed.wait_for(lambda: self._bag.outcome is not None, self._rest())
                bag, self._bag = self._bag, Bag()
                self._changed.notify_all()
            self._watch_limits()
            is_stuck = self._is_out_of_patience() and bag.outcome is None
            if is_stuck:
                bag.lines.append(_last_line(self.stop_reason))
            self._sequence += 1
            self._deliver(bag.as_message(self._sequence))
            if is_stuck:
                logging.shutdown()
                os._exit(1)  # its thread cannot be ended otherwise; Airflow tells Hohmann that the task failed
            if bag.outcome is not None:
                return

    def _rest(self) -> float:
        return FLUSH_SECONDS if not self._bag.is_empty else min(1.5, self._lease_seconds / 4)

    def _deliver(self, message: Mapping[str, Any]) -> None:
        while not self.is_lost:
            asked = time.monotonic()
            try:
                status, answer = self._call("POST", self._path, message, self._token)
            except OSError as error:
                status, answer = 0, {"error": str(error)}
            if status == 200:
                self._good_until = asked + self._lease_seconds
                if answer.get("stop_for"):
                    self._ask_to_stop(f"cancelled by {answer['stop_for']}")
                return
            if status in (0, 429) or status >= 500:
                self._wait_for_hohmann(answer, is_last_word=message["outcome"] is not None)
            else:
                log.error("the run is not ours any more: %s", answer)
                self._lose()

    def _wait_for_hohmann(self, answer: Any, *, is_last_word: bool) -> None:
        if is_last_word and time.monotonic() > self._good_until + ANSWER_SECONDS:
            log.error("Hohmann did not answer; what this attempt did not commit is lost: %s", answer)
            self._lose()
        time.sleep(PAUSE_AFTER_SILENCE)
        self._watch_limits()

    def _lose(self) -> None:
        with self._changed:
            self.is_lost = True
            self._changed.notify_all()

    def _watch_limits(self) -> None:
        now = time.monotonic()
        longest, silence = (float(self._limits.get(name, 1e9)) for name in ("timeout_seconds", "no_progress_seconds"))
        if now - self._began > longest:
            self._ask_to_stop(f"it took longer than its time limit of {longest:g} s")
        elif now - self._progressed > silence:
            self._ask_to_stop(f"it made no progress for {silence:g} s")

    def _ask_to_stop(self, reason: str) -> None:
        if self._stop_asked is None:
            self._stop_asked, self.stop_reason = time.monotonic(), reason

    def _is_out_of_patience(self) -> bool:
        return self._stop_asked is not None and time.monotonic() - self._stop_asked > PATIENCE_SECONDS

    def outcome_when_stopped(self) -> Outcome:
        """How a run ended that was made to end: cancelled by somebody, or failed at one of its limits."""
        reason = self.stop_reason or "stopped"
        if reason.startswith("cancelled"):
            return Outcome("cancelled", message=reason)
        return Outcome("failed", message=f"The run was stopped: {reason}.", origin="platform", kind="transient")


def _last_line(reason: str | None) -> Line:
    text = f"Stopped: {reason}. The work did not end within {PATIENCE_SECONDS:g} s; its process {os.getpid()} ends."
    return Line(datetime.now(UTC).isoformat(), "warning", "", text)


_LEVELS = {"debug": logging.DEBUG, "warning": logging.WARNING, "error": logging.ERROR}


def execute_run(call: Call, run_id: str, *, dag_run_id: str, service_token: str, settings: Settings) -> Outcome:
    """Execute one attempt of the run and tell Hohmann about it; returns how it ended.

    The service token only begins the attempt: all else goes by a token for this attempt alone. Raises NotBegun when the
    run has ended, or another DAG run has taken its place.
    """
    token = _begin(call, run_id, dag_run_id, service_token)
    path = f"/api/v1/airflow/runs/{run_id}"
    facts = _ask(call, "GET", f"{path}/specification", None, token)
    lease = _lease(facts)
    postman = Postman(call, f"{path}/reports", token, lease_seconds=float(facts["lease_seconds"]), limits=lease.spec)
    reset_peak_memory()
    outcome = execute(lease, Telephone(postman, lease), settings, postman.must_stop)
    if postman.stop_reason and outcome.name == "cancelled":
        outcome = replace(postman.outcome_when_stopped(), cpu_seconds=outcome.cpu_seconds)
    if not postman.finish(outcome):
        raise NotBegun("Hohmann has given the run to somebody else, or did not answer.")
    return outcome


def _begin(call: Call, run_id: str, dag_run_id: str, service_token: str) -> str:
    body = {"dag_run_id": dag_run_id, "key": uuid.uuid4().hex}
    while True:
        try:
            return str(_ask(call, "POST", f"/api/v1/airflow/runs/{run_id}/begin", body, service_token)["token"])
        except NotBegun as error:
            if "NO_PLACE" not in str(error):
                raise
            log.info("%s", error)
            time.sleep(2.0)


def _ask(call: Call, method: str, path: str, body: Any, token: str) -> Any:
    """An answer that is needed before anything can begin, however long it takes. Raises NotBegun for a refusal."""
    while True:
        try:
            status, answer = call(method, path, body, token)
        except OSError as error:
            status, answer = 0, str(error)
        if status == 200:
            return answer
        if 400 <= status < 500 and status != 429:
            raise NotBegun(json.dumps(answer))
        log.warning("Hohmann does not answer, asking again: %s %s", status, answer)
        time.sleep(PAUSE_AFTER_SILENCE)


def _lease(facts: Mapping[str, Any]) -> Lease:
    return Lease(
        run_id=uuid.UUID(facts["run_id"]),
        job_id=uuid.UUID(facts["job_id"]),
        token=0,  # what fences is inside the attempt's token
        attempt=int(facts["attempt"]),
        first_task=int(facts["first_task"]),
        spec=facts["spec"],
        done=Totals(**facts["done"]),
        landed=facts["landed"],
    )
