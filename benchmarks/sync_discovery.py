"""How soon 6,000 tables are seen: `python -m benchmarks.sync_discovery`.

A PostgreSQL database of 6,000 tables in 6 schemas, 12 columns and a key each; the real stack. A person presses Discover
on the source's page: seconds until the first streams are listed, and until all are found; beside it contract 002's one
call, which waits for all of them. Then the streams in the form of a new sync, so many looks at each: its first page, a
search, and the page after "All" has chosen every stream. The database is as in `sync_postgres`.
"""

import argparse
import http.cookiejar
import json
import re
import time
import urllib.parse
import urllib.request
from typing import Any

from benchmarks.common import BenchStack, percentile, report, spread
from benchmarks.sync_again import OLAKE, stack_of_its_own
from benchmarks.sync_postgres import ask, own_database
from benchmarks.syncing import config_of

SCHEMAS = 6
AT_ONCE = 500
LOOKS = 20
COLUMNS = ", ".join(
    ["id bigint PRIMARY KEY", "changed timestamptz", *(f"c{number} text" for number in range(8)), "n numeric(12,2)",
     "flag boolean"]
)  # fmt: skip


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000, help="tables")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with own_database() as url, stack_of_its_own() as stack:
        make_tables(url, chosen.rows)
        person = Browser(stack)
        config = json.dumps(config_of(url))
        source = {"name": "many", "type": "postgres", "version": "v1.0.0", "config": config}
        stack.call("POST", f"{OLAKE}/sources", source)
        page = person.source_page("many")
        first, whole, at_once = [], [], []
        for _ in range(chosen.rounds):
            some, everything = person.discover(page, chosen.rows)
            first.append(some)
            whole.append(everything)
            began = time.perf_counter()
            found = stack.call("POST", f"{OLAKE}/sources/streams", {**source, "job_id": -1, "job_name": "all"})["data"]
            at_once.append(time.perf_counter() - began)
            assert len(found["streams"]) == chosen.rows
        picker = [(what, person.pick(page, fields)) for what, fields in picks(chosen.rows)]
    lines = [
        ["the first streams on the page", spread(first), f"{max(first):.3g}"],
        ["all streams found", spread(whole), f"{max(whole):.3g}"],
        ["all in one call of contract 002", spread(at_once), f"{max(at_once):.3g}"],
        *([what, spread(seconds), f"{percentile(seconds, 0.95):.3g}"] for what, seconds in picker),
    ]
    headings = ["what", "seconds, median (min-max)", "p95"]
    report("sync-discovery", headings, lines, tables=chosen.rows, rounds=chosen.rounds, looks=LOOKS)


def make_tables(url: str, tables: int) -> None:
    """Many in a transaction, few enough for the server's table of locks."""
    ask(url, *(f"CREATE SCHEMA s{number}" for number in range(SCHEMAS)))
    for begin in range(0, tables, AT_ONCE):
        made = [
            f"CREATE TABLE s{at % SCHEMAS}.table_{at:05d} ({COLUMNS})"
            for at in range(begin, min(tables, begin + AT_ONCE))
        ]
        ask(url, "; ".join(made))
    ask(url, "ANALYZE pg_catalog.pg_class, pg_catalog.pg_attribute", "CHECKPOINT")


def picks(tables: int) -> list[tuple[str, dict[str, str]]]:
    """What is asked of the picker: its name, and the fields of the form."""
    return [
        ("the stream picker", {"do": "look"}),
        ("the picker, a search", {"do": "look", "q": f"table_{tables - 1:05d}"[:-2]}),
        ("the picker, every stream chosen", {"do": "all"}),
    ]


class Browser:
    """A browser without JavaScript in which the owner logs in."""

    def __init__(self, stack: BenchStack) -> None:
        self.url = stack.url
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self.opener.addheaders = [("Accept", "text/html")]
        self.send("/login", username="owner", password="bench-password")

    def source_page(self, name: str) -> str:
        """The address of a source's page."""
        found = re.search(rf'href="(/connections/[0-9a-f-]+)"[^>]*>\s*{name}\b', self.open("/connections/sources"))
        assert found, f"the list does not show {name}"
        return found[1]

    def discover(self, page: str, tables: int) -> tuple[float, float]:
        """Seconds from the press of Discover until some streams are listed, and until all are."""
        token = self.token(page)
        began, first = time.perf_counter(), 0.0
        self.open(f"{page}/discover", {"csrf_token": token})
        while True:
            shown = self.open(f"{page}/streams")
            if not first and re.search(r"[1-9][\d,]* found so far|[\d,]+ found, ", shown):
                first = time.perf_counter() - began
            if f"{tables:,} found, " in shown:
                return first, time.perf_counter() - began
            assert time.perf_counter() - began < 120, shown
            time.sleep(0.02)

    def pick(self, page: str, fields: dict[str, str]) -> list[float]:
        """Seconds of each look at the streams in the form of a new sync."""
        form: dict[str, Any] = {"csrf_token": self.token("/syncs/new"), "source": page.rpartition("/")[2], **fields}
        seconds = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            shown = self.open("/syncs/streams", form)
            seconds.append(time.perf_counter() - began)
            assert "table_" in shown
        return seconds

    def token(self, page: str) -> str:
        """The hidden field that says that a form is from a page of ours."""
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.open(page))
        assert found
        return found[1]

    def send(self, page: str, **fields: str) -> str:
        """Fill in the form of a page."""
        return self.open(page, {"csrf_token": self.token(page), **fields})

    def open(self, path: str, fields: dict[str, str] | None = None) -> str:
        """The page there, or the answer to a form."""
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        with self.opener.open(self.url + path, data, timeout=120) as answer:
            return str(answer.read().decode())


if __name__ == "__main__":
    main()
