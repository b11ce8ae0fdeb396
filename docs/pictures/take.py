"""Takes docs/pictures/board.png: `.venv/bin/python docs/pictures/take.py`, after `make test` has installed its parts.

Starts an instance of its own in a temporary folder, flies a small fleet with real files, and photographs the board.
Needs Chromium; CHROMIUM names it when it is not /usr/bin/chromium.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
PICTURE = HERE / "board.png"
SIZE = {"width": 1360, "height": 860}
PATIENCE = 60.0  # seconds

#: Name, schedule, rows of its file (0: it never comes), flights before the file is there, and after.
JOBS = (
    ("Ground stations: pass reports", "*/15 * * * *", 4_000, 0, 12),
    ("Telemetry: propulsion", "@hourly", 60_000, 0, 17),
    ("Telemetry: thermal", "@hourly", 25_000, 2, 9),
    ("Crew roster", "0 6 * * 1-5", 300, 0, 20),
    ("Parts catalogue", "@daily", 12_000, 1, 6),
    ("Invoices of suppliers", "0 5 * * *", 0, 2, 0),
    ("Solar wind, last 24 hours", "30 * * * *", 8_000, 0, 0),
    ("Spare parts in orbit", "@daily", 900, 0, 0),
)
#: From, to, seconds. The picture is taken when the last one is more than half way.
FLIGHTS = (("Earth", "Mars", 30), ("Phobos", "Deimos", 90), ("Ceres", "Mars", 45), ("Luna", "Earth", 18))


class Instance:
    """A running instance, driven as a machine drives it."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.url, self.token = home, f"http://127.0.0.1:{port}", ""
        self.account = {"username": "ada", "password": secrets.token_urlsafe(12)}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the JSON API."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def is_ready(self) -> bool:
        """Whether it answers and a worker is alive."""
        try:
            return bool(self.call("GET", "/health")["status"] == "ready")
        except OSError:
            return False

    def sign_in(self) -> None:
        """Become the owner."""
        self.call("POST", "/api/v1/register", self.account)
        self.token = self.call("POST", "/api/v1/login", self.account)["access_token"]

    def write_file(self, name: str, rows: int) -> None:
        """The file that the job of this name loads."""
        lines = (f"{row},{row * 7 % 997 / 10},station {row % 12}\n" for row in range(rows))
        path = self.home / "data" / f"{table_of(name)}.csv"
        path.write_text("id,value,station\n" + "".join(lines))

    def add_job(self, name: str, schedule: str) -> str:
        """A job that loads its file into a table; returns its id."""
        table = table_of(name)
        task = {
            "extractor_config": {"type": "csv", "path": f"{table}.csv"},
            "loader_config": {"type": "duckdb", "db_path": "mission.duckdb", "table_name": table},
        }
        body = {"job_name": name, "schedule": schedule, "is_active": True, "max_attempts": 1, "tasks": [task]}
        return str(self.call("POST", "/api/v1/jobs", body)["id"])

    def fly(self, job: str) -> None:
        """Run the job to its end."""
        self.call("POST", f"/api/v1/jobs/{job}/run")
        wait_until(lambda: self.call("GET", f"/api/v1/jobs/{job}/runs")[0]["status"] in ("success", "failed"))


def table_of(name: str) -> str:
    """The table that the job of this name loads."""
    return re.sub(r"\W+", "_", name.lower())


def wait_until(is_so: Callable[[], bool]) -> None:
    """Raises TimeoutError after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


@contextmanager
def instance() -> Iterator[Instance]:
    """An instance in a temporary folder, gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="hohmann-picture-") as folder:
        environment = {**os.environ, "HOHMANN_HOME": folder, "PORT": str(port), "DATABASE_URL": ""}
        stack = subprocess.Popen([sys.executable, "-m", "webapp.stack"], cwd=CHECKOUT, env=environment)
        try:
            started = Instance(Path(folder), port)
            wait_until(started.is_ready)
            started.sign_in()
            yield started
        finally:
            stack.send_signal(signal.SIGTERM)
            stack.wait()


def fill(fleet: Instance) -> None:
    """Jobs with a history, one that fails, one that is switched off, and rockets in the air."""
    for name, schedule, rows, losses, landings in JOBS:
        job = fleet.add_job(name, schedule)
        for _ in range(losses):
            fleet.fly(job)
        if rows:
            fleet.write_file(name, rows)
        for _ in range(landings):
            fleet.fly(job)
    fleet.call("PATCH", f"/api/v1/jobs/{job}", {"is_active": False})
    for source, destination, seconds in reversed(FLIGHTS):
        fleet.call("POST", "/api/v1/job", {"source": source, "destination": destination, "estimated_time": seconds})


def photograph(fleet: Instance) -> None:
    """The board, dark, as its owner sees it."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(base_url=fleet.url, viewport=SIZE, color_scheme="dark")
        page.goto("/login")
        page.get_by_label("Username or email").fill(fleet.account["username"])
        page.get_by_label("Password").fill(fleet.account["password"])
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Remove it").wait_for()
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Remove it").click()
        page.locator("#flashes .note").wait_for()
        page.goto("/")
        page.wait_for_selector('[data-live-state="live"]')
        page.evaluate("document.fonts.ready")
        page.locator("#col-InFlight article", has_text=FLIGHTS[-1][0]).get_by_text("60 %").wait_for()
        page.screenshot(path=PICTURE)
        browser.close()


def main() -> None:
    """Take the picture."""
    with instance() as fleet:
        fill(fleet)
        photograph(fleet)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
