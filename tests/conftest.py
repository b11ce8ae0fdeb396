"""Fixtures for all tests, which run on SQLite, or on PostgreSQL with `--database=postgresql`."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.support.databases import Databases, PostgresDatabases, PostgresServer, SqliteDatabases, close_app
from tests.support.missing import missing
from tests.support.network import shut_network
from tests.support.people import Browser, Cast, Person, make_cast
from tests.support.stacks import Stack
from webapp import create_app
from webapp import db as database
from webapp.config import Settings

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                      "--disable-background-networking", "--disable-component-update"]  # fmt: skip

server_key = pytest.StashKey[PostgresServer]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=("sqlite", "postgresql"), default="sqlite", help="which database to test on")
    parser.addoption(
        "--only-with-database", action="store_true", help="leave out tests to which the database makes no difference"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What never asks for the application's database gives the same on both: once is enough."""
    if not config.getoption("only_with_database"):
        return
    same = {item for item in items if "databases" not in getattr(item, "fixturenames", ())}
    config.hook.pytest_deselected(items=list(same))
    items[:] = [item for item in items if item not in same]


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("database") == "postgresql" and not hasattr(config, "workerinput"):
        config.stash[server_key] = PostgresServer()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist where the PostgreSQL is."""
    if server_key in node.config.stash:
        node.workerinput["postgres_url"] = node.config.stash[server_key].url


def pytest_unconfigure(config: pytest.Config) -> None:
    if server_key in config.stash:
        config.stash[server_key].stop()


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.getoption('database')}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped}
    for reason in sorted(reason for reason in reasons if reason.startswith("needs ")):
        terminalreporter.write_line(f"NOT RUN HERE: {reason}", red=True, bold=True)


@pytest.fixture(autouse=True)
def _push_request_context() -> None:
    """Instead of pytest-flask's, whose one context (session, `g`) all requests of a test would share."""


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shut_network(patch)
        yield


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Makes databases of the kind that is tested."""
    config = request.config
    made: Databases
    if config.getoption("database") == "sqlite":
        made = SqliteDatabases()
    else:
        worker = getattr(config, "workerinput", {})
        url = worker["postgres_url"] if worker else config.stash[server_key].url
        made = PostgresDatabases(url, worker.get("workerid", "main"))
    yield made
    made.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HOHMANN_HOME of this test."""
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path, databases: Databases) -> Settings:
    """Settings of an instance with an empty database."""
    return Settings(
        hohmann_home=home,
        database_url=databases.for_app(home),
        web_threads=4,
        hohmann_allow_private_addresses=True,
        log_level="DEBUG",
    )


@pytest.fixture
def make_app() -> Iterator[Callable[[Settings], Flask]]:
    """Makes applications, for tests that need settings of their own (`dataclasses.replace(settings, ...)`)."""
    made = []

    def make(settings: Settings) -> Flask:
        app = create_app(settings)
        app.testing = True
        made.append(app)
        return app

    yield make
    for app in made:
        close_app(app)


@pytest.fixture
def app(settings: Settings, make_app: Callable[[Settings], Flask]) -> Flask:
    """The application, on an empty database."""
    made = make_app(settings)
    # What breaks is answered as in production, so that tests see what a visitor sees.
    made.config["PROPAGATE_EXCEPTIONS"] = False
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A machine that nobody knows, on loopback."""
    return app.test_client()


@pytest.fixture
def browser_of_nobody(app: Flask) -> Browser:
    """A browser in which nobody is signed in."""
    return Browser(app)


@pytest.fixture
def work(app: Flask) -> Callable[[], AbstractContextManager[Session]]:
    """`with work(): ...` is one unit of work in an application context of its own, committed at its end."""

    @contextmanager
    def begin() -> Iterator[Session]:
        with app.app_context(), database.unit_of_work() as session:
            yield session

    return begin


@pytest.fixture
def look(app: Flask) -> Callable[[], AbstractContextManager[Session]]:
    """`with look(): ...` reads what is committed."""

    @contextmanager
    def begin() -> Iterator[Session]:
        with app.app_context(), database.reading() as session:
            yield session

    return begin


@pytest.fixture
def people(app: Flask) -> Cast:
    """Everybody: see tests/support/people.py."""
    return make_cast(app)


@pytest.fixture
def alice(people: Cast) -> Person:
    """Owner and admin."""
    return people.alice


@pytest.fixture
def bob(people: Cast) -> Person:
    """Operator."""
    return people.bob


@pytest.fixture
def dave(people: Cast) -> Person:
    """Developer."""
    return people.dave


@pytest.fixture
def rita(people: Cast) -> Person:
    """Viewer."""
    return people.rita


@pytest.fixture
def charlie(people: Cast) -> Person:
    """A stranger: belongs to no project."""
    return people.charlie


@pytest.fixture
def make_stack(tmp_path: Path, databases: Databases) -> Iterator[Callable[..., Stack]]:
    """Starts real stacks, each with its own home and database: `make_stack(WORKERS="2")`; stops them at the end."""
    made: list[Stack] = []
    count = itertools.count(1)

    def make(*, start: bool = True, **settings: str) -> Stack:
        stack = Stack(tmp_path / f"stack{next(count)}", database_url=databases.separate(), **settings)
        made.append(stack)
        return stack.start() if start else stack

    yield make
    for stack in made:
        if stack.process is not None:
            stack.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Stack]:
    """A real stack that all tests share: leave its people and settings alone, and name your things uniquely."""
    started = Stack(tmp_path_factory.mktemp("stack"), database_url=databases.separate()).start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium (Playwright, sync): `browser.new_page()`."""
    if not CHROMIUM.exists():
        missing("Chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()
