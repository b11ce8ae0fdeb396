"""A client of contract 004, and what it makes."""

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import Person

JOBS, STATUSES = "/api/jobs/", "/api/jobstatuses/"


class Caller:
    """Somebody who calls with a bearer token."""

    def __init__(self, client: FlaskClient, person: Person) -> None:
        self.client, self.person = client, person

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> TestResponse:
        """The answer, whatever it is."""
        headers = {**self.person.headers, **more.pop("headers", {})}
        sent = {"json": body} if body is not None else {}
        return self.client.open(path, method=method, headers=headers, **sent, **more)

    def get(self, path: str, status: int = 200) -> Any:
        """What is there."""
        return told(self.ask("GET", path), status)

    def post(self, path: str, body: Any, status: int = 201) -> Any:
        """What was made."""
        return told(self.ask("POST", path, body), status)

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        """What was changed."""
        return told(self.ask("PATCH", path, body), status)

    def make_job(self, name: str = "Data Processing Job") -> dict[str, Any]:
        """A new external job."""
        job: dict[str, Any] = self.post(JOBS, {"name": name})
        return job

    def report(self, job: dict[str, Any], *words: str) -> list[dict[str, Any]]:
        """Report these statuses of the job, one after another."""
        return [self.post(STATUSES, {"job": job["id"], "status_type": word}) for word in words]

    def words_of(self, job: dict[str, Any]) -> list[str]:
        """The words of the job's log, oldest first."""
        return [one["status_type"] for one in self.get(f"{JOBS}{job['id']}/")["statuses"]]


def told(answer: TestResponse, status: int) -> Any:
    """The JSON of an answer with this status."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json"
    return answer.get_json()
