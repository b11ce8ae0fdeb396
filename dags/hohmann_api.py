"""How DAGs call Hohmann: the connection `hohmann` of Airflow says where it is and holds the service token.

Only the standard library is used, so that a DAG that flies a rocket needs nothing installed beside Airflow.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any

CONNECTION = "hohmann"
ANSWER_SECONDS = 30.0
LONGEST_SILENCE = 300.0  # how long Hohmann may be away before a task gives up; Airflow then tries the task again


class Refused(Exception):
    """Hohmann answered that it will not; trying again changes nothing."""


class Hohmann:
    """One Hohmann, at `url`, entered with a service token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.token = token

    @classmethod
    def from_airflow(cls) -> "Hohmann":
        """The one that Airflow's connection `hohmann` names: its host is the URL, its password the service token."""
        from airflow.sdk import Connection

        found = Connection.get(CONNECTION)
        if not found.host or not found.password:
            raise Refused(f"The connection {CONNECTION} needs the URL of Hohmann as host and a token as password.")
        url = found.host if "://" in found.host else f"{found.schema or 'http'}://{found.host}"
        return cls(f"{url}:{found.port}" if found.port else url, found.password)

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """One call: its status and the decoded answer. Raises OSError when there is none."""
        data = None if body is None else json.dumps(body, default=_plain).encode()
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token or self.token}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
                return answer.status, _decode(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decode(error.read())
        except http.client.HTTPException as error:  # half an answer is none
            raise OSError(f"{type(error).__name__}: {error}") from error

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, however often it has to be asked. Raises Refused, and OSError when Hohmann stays away."""
        began, pause = time.monotonic(), 0.2
        while True:
            try:
                status, answer = self.call(method, path, body)
            except OSError:
                if time.monotonic() - began > LONGEST_SILENCE:
                    raise
                status, answer = 503, None
            if status < 400:
                return answer
            if status < 500 and status != 429:
                raise Refused(f"{method} {path}: {status} {answer}")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode(errors="replace")[:500]


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
