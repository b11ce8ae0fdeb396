"""Sends what the OpenAPI document allows, and what it does not, to every operation; nothing may break or be untold.

`Fuzzer` talks to an application in this process or to a server at an address, always through the public API.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks as told

CHECKS = [
    not_a_server_error,
    told.status_code_conformance,
    told.content_type_conformance,
    told.response_headers_conformance,
    told.response_schema_conformance,
]
OWNER = {"username": "fuzz", "password": "a long password"}
#: Answers of 503 that say how the instance is, not that the call broke.
HONEST_503 = frozenset({"GET /health/ready"})
Call = Callable[[str, str, Any, str], tuple[int, Any]]
"""Method, path, body and token to status and JSON."""


@dataclass
class Findings:
    """What a round of fuzzing saw."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def server_errors(self) -> int:
        """Answers of 5xx, but for those that say how the instance is."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


class Fuzzer:
    """Fuzzes the operations of a schema, each with fresh things to refer to and a fresh log-in."""

    def __init__(self, schema: schemathesis.BaseSchema, call: Call, owner: dict[str, str] = OWNER) -> None:
        self._schema, self._call, self._owner = schema, call, owner
        self._names = (f"fuzz-{number}-{time.time_ns()}" for number in itertools.count())
        self._call("POST", "/api/v1/register", owner, "")

    def run(self, *, examples: int, number: int = 0) -> Findings:
        """Send about this many cases to each operation, half of them against the document; `number` seeds them."""
        findings = Findings()
        for result in self._schema.get_all_operations():
            self._fuzz(result.ok(), findings, examples, number)
        return findings

    def _fuzz(self, operation: Any, findings: Findings, examples: int, number: int) -> None:
        token = self._sign_in()
        things = self._make_things(token)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(number)
            @settings(
                max_examples=max(1, examples // 2),
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode), pick=st.integers(0, 1000), is_real=st.booleans())
            def send(case: Case, pick: int, is_real: bool) -> None:
                if is_real:
                    case.path_parameters = _point(case.path_parameters, things, pick)
                self._send_case(case, token, findings, operation.label)

            try:
                send()
            except (Exception, BaseExceptionGroup) as error:  # whatever went wrong is the finding
                if "no examples" not in str(error).lower() and "Unsatisfiable" not in type(error).__name__:
                    findings.failures.setdefault(operation.label, str(error)[:2000])

    def _send_case(self, case: Case, token: str, findings: Findings, label: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        response = case.call(headers=headers)
        findings.cases += 1
        is_honest = response.status_code == 503 and label in HONEST_503
        findings.statuses[200 if is_honest else response.status_code] += 1
        checks = [check for check in CHECKS if not (is_honest and check is not_a_server_error)]
        case.validate_response(response, checks=checks, headers=headers)

    def _sign_in(self) -> str:
        return str(self._call("POST", "/api/v1/login", self._owner, "")[1]["access_token"])

    def _make_things(self, token: str) -> dict[str, list[str]]:
        """Ids of things that are there: rockets, jobs, runs, a user, tokens, connections."""
        name = next(self._names)

        def make(path: str, body: Any) -> dict[str, Any]:
            status, found = self._call("POST", path, body, token)
            assert status < 300, (path, status, found)
            return dict(found)

        mission = {"source": "Earth", "destination": "Mars", "estimated_time": 60}
        task = {
            "extractor_config": {"type": "csv", "path": "absent.csv"},
            "loader_config": {"type": "warehouse", "table_name": "t"},
        }
        body = {"job_name": name, "schedule": "@manual", "is_active": True, "tasks": [task]}
        rocket, job = make("/api/v1/job", mission), make("/api/v1/jobs", body)
        run = make(f"/api/v1/jobs/{job['id']}/run", None)
        user = make("/api/v1/register", {"username": name, "password": "a long password"})
        machine = make("/api/v1/service-tokens", {"name": name, "role": "viewer", "scopes": ["read"]})
        return {
            "job_id": [rocket["id"], job["id"]],
            "run_id": [run["id"]],
            "task": [run["id"]],
            "user_id": [user["id"]],
            "token_id": [machine["id"]],
            "project": ["olake", "123"],
            "number": ["1", "2", "3"],
            "pk": ["1", "2", "3"],
            "text": ["1", 'dest_id="1"'],
        }


def _point(parameters: Any, things: dict[str, list[str]], pick: int) -> dict[str, Any]:
    """The parameters of an address, made to mean things that are there."""
    return {
        name: things[name][pick % len(things[name])] if name in things else value
        for name, value in (parameters or {}).items()
    }
