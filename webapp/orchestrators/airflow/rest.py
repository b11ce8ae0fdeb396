"""Airflow's REST API v2, as much of it as is needed. Knows no database; safe to use from several threads.

Source: Apache Airflow 3 (`/api/v2/dags/{dag_id}/dagRuns`, `/auth/token`). A run id that was used before is 409; a bad
or expired token is 403, none at all 401; a paused DAG takes a run and leaves it queued.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError  # noqa: A004 - not the built-in one

from webapp.config import Settings
from webapp.redaction import redact

REMEMBER_DAG_SECONDS = 1.0
CONNECTIONS = 8
LONGEST_QUOTE = 300


class AirflowAway(Exception):
    """Airflow does not answer, too late, or with an error of its own: nobody knows whether it heard."""


class AirflowRefused(Exception):
    """Airflow answered that it will not; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """An answer of Airflow's."""

    status: int
    body: Any


class Airflow:
    """One Airflow, with a token that is fetched when one is needed and again when it is not good any more."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.airflow_url.rstrip("/")
        self._login = {"username": settings.airflow_username, "password": settings.airflow_password}
        self._given = settings.airflow_token
        self._timeout = settings.airflow_timeout
        self._http = urllib3.PoolManager(maxsize=CONNECTIONS, block=True, retries=False)
        self._lock = threading.Lock()
        self._token = self._given
        self._dags: dict[str, float] = {}

    def trigger(self, dag_id: str, dag_run_id: str, conf: Mapping[str, str]) -> None:
        """Start a DAG run with this id; one that Airflow has taken already is well. Raises AirflowAway, AirflowRefused.

        A paused DAG takes the run and leaves it queued without a word: that counts as refused. The run begins by itself
        when the DAG is switched on, and handing it over again until then changes nothing.
        """
        body = {"dag_run_id": dag_run_id, "logical_date": None, "conf": conf}
        answer = self._ask("POST", _runs(dag_id), body)
        if answer.status == 409:
            self._check_taken(dag_id, dag_run_id, conf)
        elif answer.status == 404:
            self._dags.pop(dag_id, None)
            raise AirflowRefused(_unknown(dag_id), status=404)
        elif answer.status >= 400:
            raise AirflowRefused(_refusal(answer), status=answer.status)
        self._check_dag(dag_id)

    def _check_taken(self, dag_id: str, dag_run_id: str, conf: Mapping[str, str]) -> None:
        """After 409: the run of this id is ours when it has our conf; the answer to the first try was lost."""
        there = self._ask("GET", _run(dag_id, dag_run_id))
        if there.status != 200 or there.body.get("conf") != dict(conf):
            raise AirflowRefused(f"Airflow says that another run of {dag_id} is in its way (409).", status=409)

    def state_of(self, dag_id: str, dag_run_id: str) -> str | None:
        """The DAG run's state (queued, running, success, failed), None when it is not there (any more)."""
        answer = self._ask("GET", _run(dag_id, dag_run_id))
        if answer.status == 404:
            return None
        if answer.status >= 400:
            raise AirflowRefused(_refusal(answer), status=answer.status)
        return str(answer.body.get("state"))

    def stop(self, dag_id: str, dag_run_id: str) -> None:
        """Mark the DAG run as failed, which ends its tasks; one that has ended or is not there is left alone."""
        if self.state_of(dag_id, dag_run_id) in {None, "success", "failed"}:
            return
        answer = self._ask("PATCH", _run(dag_id, dag_run_id), {"state": "failed"})
        if answer.status >= 400 and answer.status != 404:
            raise AirflowRefused(_refusal(answer), status=answer.status)

    def why_queued(self, dag_id: str) -> str | None:
        """Why a run of this DAG may stay queued, in a sentence; None when nothing is known against it."""
        try:
            self._dags.pop(dag_id, None)
            self._check_dag(dag_id)
        except AirflowRefused as error:
            return str(error)
        return None

    def _check_dag(self, dag_id: str) -> None:
        if self._dags.get(dag_id, 0.0) > time.monotonic():
            return
        answer = self._ask("GET", f"/api/v2/dags/{quote(dag_id, safe='')}")
        if answer.status == 404:
            raise AirflowRefused(_unknown(dag_id), status=404)
        if answer.status >= 400:
            raise AirflowRefused(_refusal(answer), status=answer.status)
        if answer.body.get("is_paused"):
            raise AirflowRefused(f"The DAG {dag_id} is paused in Airflow. Switch it on there.", status=409)
        self._dags[dag_id] = time.monotonic() + REMEMBER_DAG_SECONDS

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One call; with a new token once more when the old one is not good."""
        token = self._token or self._fetch_token("")
        answer = self._send(method, path, body, token)
        if answer.status in (401, 403):
            answer = self._send(method, path, body, self._fetch_token(token))
        if answer.status in (401, 403):
            raise AirflowRefused(f"Airflow does not let us in: {_said(answer)}. Check {self._names}.", status=401)
        return answer

    @property
    def _names(self) -> str:
        return "AIRFLOW_USERNAME and AIRFLOW_PASSWORD" if self._login["username"] else "AIRFLOW_TOKEN"

    def _fetch_token(self, stale: str) -> str:
        """A token that is not the stale one; several threads that notice at once fetch one."""
        with self._lock:
            if self._token != stale:
                return self._token
            if self._login["username"]:
                answer = self._send("POST", "/auth/token", self._login, "")
            elif self._given:
                raise AirflowRefused("Airflow does not take AIRFLOW_TOKEN (any more).", status=401)
            else:
                answer = self._send("GET", "/auth/token", None, "")  # where everybody is an admin
            if answer.status >= 400 or not isinstance(answer.body, dict) or "access_token" not in answer.body:
                raise AirflowRefused(f"Airflow gives no token: {_said(answer)}. Check {self._names}.", status=401)
            self._token = str(answer.body["access_token"])
            return self._token

    def _send(self, method: str, path: str, body: Any, token: str) -> Answer:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._http.request(
                method, self._base + path, body=data, headers=headers, timeout=self._timeout, redirect=False
            )
        except HTTPError as error:
            raise AirflowAway(f"Airflow does not answer at {self._base}: {_why(error, self._timeout)}") from error
        if answer.status >= 500 or 300 <= answer.status < 400 or answer.status == 429:
            raise AirflowAway(f"Airflow at {self._base} answers {answer.status}.")
        try:
            return Answer(answer.status, json.loads(answer.data) if answer.data else None)
        except ValueError as error:
            raise AirflowAway(f"What answers at {self._base} is no Airflow 3: it sends no JSON.") from error


def _runs(dag_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns"


def _run(dag_id: str, dag_run_id: str) -> str:
    return f"{_runs(dag_id)}/{quote(dag_run_id, safe='')}"


def _unknown(dag_id: str) -> str:
    return f"Airflow knows no DAG {dag_id}. Put Hohmann's dags folder where Airflow loads its DAGs from."


def _said(answer: Answer) -> str:
    detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
    text = detail if isinstance(detail, str) else json.dumps(detail) if detail else "no reason given"
    return redact(f"{text} ({answer.status})")[:LONGEST_QUOTE]


def _refusal(answer: Answer) -> str:
    return f"Airflow refuses: {_said(answer)}."


def _why(error: HTTPError, timeout: float) -> str:
    """The end of a chain of errors, in a few words."""
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    if isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError):
        return f"no answer within {timeout:g} s."
    text = getattr(reason, "strerror", None) or str(reason).rsplit(": ", 1)[-1]
    return f"{text}."
