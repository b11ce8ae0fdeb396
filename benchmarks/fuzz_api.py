"""Fuzzes the whole JSON API by its OpenAPI document, at a real stack: no answer of 5xx, no answer that is not told.

    python -m benchmarks.fuzz_api [--cases 20000] [--database sqlite|postgresql] [--seed 0]

Each operation gets as many cases as the others, half of them allowed by the document and half of them not, and half of
them with ids of things that are there.
"""

import argparse
import json
import time
from typing import Any

import schemathesis
import urllib3

from benchmarks.common import BenchStack, fresh_database, report
from tests.support.fuzz import Findings, Fuzzer

OWNER = {"username": "owner", "password": "bench-password"}


def main() -> None:
    """Fuzz in rounds until there were enough cases, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with fresh_database(options.database) as url:
        stack = BenchStack(url, RATE_LIMIT="0", RATE_LIMIT_STRANGERS="0", LOGIN_FAILURES="100000")
        try:
            findings = fuzz(stack, cases=options.cases, seed=options.seed)
        finally:
            stack.stop()
    row = [findings.cases, findings.server_errors, len(findings.failures), f"{time.monotonic() - began:.0f} s"]
    statuses = dict(sorted(findings.statuses.items()))
    report("fuzz api", ["cases", "5xx", "operations with something untold", "time"], [row], statuses=statuses)
    for label, why in findings.failures.items():
        print(f"\n{label}: {why}")


def fuzz(stack: BenchStack, *, cases: int, seed: int) -> Findings:
    """Fuzz the stack with at least this many cases."""
    pool = urllib3.PoolManager(retries=False)

    def call(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        more = {"json": body} if body is not None else {}
        answer = pool.request(method, stack.url + path, headers=headers, **more)
        return answer.status, json.loads(answer.data) if answer.data else None

    schema = schemathesis.openapi.from_url(f"{stack.url}/api/openapi.json")
    fuzzer, total, number = Fuzzer(schema, call, OWNER), Findings(), seed
    operations = sum(1 for _ in schema.get_all_operations())
    while total.cases < cases:
        found = fuzzer.run(examples=max(2, min(100, -(-(cases - total.cases) // operations))), number=number)
        total.cases += found.cases
        total.statuses.update(found.statuses)
        total.failures = found.failures | total.failures
        number += 1
        print(f"{total.cases} cases, {total.server_errors} x 5xx", flush=True)
    return total


if __name__ == "__main__":
    main()
