"""Real sockets against a real gunicorn with two web processes, and an independent websocket client."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
import websocket

from tests import factories
from tests.support.databases import close_app
from tests.support.people import as_person, make_cast
from tests.support.stacks import CHECKOUT, free_port
from webapp import create_app, events
from webapp import db as database
from webapp.accounts.models import User
from webapp.config import Settings
from webapp.rockets import operations as rockets

PATIENCE = 8.0


class Site:
    """A running web server, and the same application here, on the same home, to change things with."""

    def __init__(self, home: Path, databases, **environment: str) -> None:
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        url = databases.separate() or databases.for_app(home)
        self.settings = Settings(hohmann_home=home, database_url=url, port=self.port, web_threads=4)
        self.environment = {"HOHMANN_HOME": str(home), "PORT": str(self.port), "DATABASE_URL": url, **environment}
        self.log = home / "web.log"
        self.app = create_app(self.settings)
        self.people = make_cast(self.app)
        self.sockets: list[websocket.WebSocket] = []
        self.start()

    def start(self) -> None:
        """Start gunicorn; returns when it answers."""
        command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "4",
                   "--bind", f"127.0.0.1:{self.port}", "--no-control-socket", "--graceful-timeout", "3",
                   "tests.live.site:make_site()"]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=CHECKOUT, env={**os.environ, **self.environment}, stdout=log, stderr=log
            )
        end = time.monotonic() + 30
        while True:
            with suppress(OSError):
                urllib.request.urlopen(self.origin + "/health", timeout=5).close()
                return
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> float:
        """Stop gunicorn; returns how long that took."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(15)
        return time.monotonic() - began

    def close(self) -> None:
        self.hang_up()
        if self.process.poll() is None:
            self.stop()
        close_app(self.app)

    def hang_up(self) -> None:
        for one in self.sockets:
            one.shutdown()
        self.sockets.clear()

    def connect(self, path: str, *, origin: str | None = None, **more) -> websocket.WebSocket:
        """Open a websocket. Without `origin` none is sent, as machines do."""
        own = {"suppress_origin": True} if origin is None else {"origin": origin}
        made = websocket.create_connection(f"ws://127.0.0.1:{self.port}{path}", timeout=PATIENCE, **own, **more)
        self.sockets.append(made)
        return made

    def listen(self, person, query: str = "", *, token: str = "") -> websocket.WebSocket:
        """A machine's socket that has been let in, with the token in its header."""
        made = self.connect("/api/v1/ws/jobs" + query, header=[f"Authorization: Bearer {token or person.jwt}"])
        assert json.loads(made.recv()) == {"type": "connected", "message": "Connected to job updates"}
        return made

    def cookie(self, person) -> str:
        """The cookie of a browser in which this person is signed in."""
        browser = person.browser()
        name = self.app.config["SESSION_COOKIE_NAME"]
        return f"{name}={browser.client.get_cookie(name).value}"

    def follow(self, person, topics: str, query: str = "") -> websocket.WebSocket:
        """A page's socket, opened with the person's cookie; returns when it is surely listening."""
        path = f"/live?topics=nudge,{topics}{query}"
        made = self.connect(path, origin=self.origin, header=[f"Cookie: {self.cookie(person)}"])
        time.sleep(0.25)  # a page is told nothing when it is let in
        return made

    @contextmanager
    def work(self):
        """One unit of work, committed at its end, from outside the web processes."""
        with self.app.app_context(), database.unit_of_work() as session:
            yield session

    def newcomer(self):
        """Somebody whose sessions a test may end."""
        with self.app.app_context():
            with database.unit_of_work():
                user_id = factories.make_user(f"guest-{uuid.uuid4().hex[:12]}").id
            with database.reading() as session:
                return as_person(self.app, session.scalar(sa.select(User).where(User.id == user_id)))

    def build(self, person, *, source: str = "Earth") -> uuid.UUID:
        """The person builds a rocket: one event."""
        with self.work():
            made = rockets.create_rocket(person.actor, source=source, destination="Mars", estimated_time=3600)
            return made.id

    def latest(self) -> int:
        with self.app.app_context(), database.reading():
            return events.latest_id()

    def light(self, colour: str, *, project_id, subject_id=None) -> uuid.UUID:
        """A light changes its colour: one event, shown to pages by tests/live/site.py."""
        subject = subject_id or uuid.uuid4()
        with self.work():
            events.record("light.changed", project_id=project_id, subject_id=subject, payload={"colour": colour})
        return subject


def heard(ws: websocket.WebSocket) -> dict:
    """The next message of a machine's socket."""
    return json.loads(ws.recv())


def farewell(ws: websocket.WebSocket) -> int:
    """The code with which the server closes; messages before it are skipped."""
    while True:
        opcode, data = ws.recv_data(control_frame=False)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return int.from_bytes(data[:2], "big")


def is_silent(ws: websocket.WebSocket, seconds: float = 0.4) -> bool:
    """Whether nothing comes for a while."""
    ws.settimeout(seconds)
    try:
        ws.recv()
    except websocket.WebSocketTimeoutException:
        return True
    finally:
        ws.settimeout(PATIENCE)
    return False


@pytest.fixture(scope="session")
def running_site(tmp_path_factory, databases):
    made = Site(tmp_path_factory.mktemp("live"), databases)
    yield made
    made.close()


@pytest.fixture
def site(running_site):
    """A running web server that all tests share."""
    yield running_site
    running_site.hang_up()


@pytest.fixture
def make_site(tmp_path, databases):
    """Makes sites of a test's own: with other settings, or to be stopped."""
    made = []

    def make(**environment: str) -> Site:
        made.append(Site(tmp_path / f"site{len(made)}", databases, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()
