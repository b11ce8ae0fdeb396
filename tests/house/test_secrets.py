"""A planted secret is searched for everywhere: logs, database, files, JSON, HTML, command lines."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from tests.support.stacks import Stack, command_line


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, databases) -> "PlantedStack":  # type: ignore[no-untyped-def]
    """A stack through which secrets of all kinds have passed, in good requests and in bad ones."""
    stack = PlantedStack(tmp_path_factory.mktemp("planted"), database_url=databases.separate(), LOG_LEVEL="DEBUG")
    stack.start()
    try:
        stack.plant()
        yield stack
    finally:
        stack.stop()


class PlantedStack(Stack):
    """Remembers what was planted."""

    def plant(self) -> None:
        self.planted = {
            name: f"{name}{secrets.token_hex(12)}" for name in ("password", "bearer", "header", "wrongpass", "newpass")
        }
        self.jwt = self._people()
        self.service_token = self._machine()
        self._jobs()
        self._bad_requests()

    def _people(self) -> str:
        account = {"username": "alice", "email": "alice@example.org", "password": self.planted["password"]}
        assert self.request("POST", "/api/v1/register", account)[0] == 201
        assert self.request("POST", "/api/v1/login", account | {"password": self.planted["wrongpass"]})[0] == 401
        return str(self.request("POST", "/api/v1/login", account)[1]["access_token"])

    def _machine(self) -> str:
        body = {"name": "airflow", "scopes": ["read", "jobs:run", "jobs:write"], "role": "operator"}
        status, answer, _ = self.request("POST", "/api/v1/service-tokens", body, token=self.jwt)
        assert status == 201, answer
        return str(answer["token"])

    def _jobs(self) -> None:
        extractor = {
            "type": "api",
            "url": f"{self.url}/api/v1/users",
            "bearer_token": self.planted["bearer"],
            "headers": {"X-Api-Key": self.planted["header"], "X-Trace": "shown"},
        }
        task = {
            "extractor_config": extractor,
            "loader_config": {"type": "duckdb", "db_path": "planted.duckdb", "table_name": "rows"},
        }
        body = {"job_name": "planted", "schedule": "@manual", "is_active": True, "max_attempts": 1, "tasks": [task]}
        status, job, _ = self.request("POST", "/api/v1/jobs", body, token=self.jwt)
        assert status == 200, job
        self.job_id = job["job_id"]
        status, run, _ = self.request("POST", f"/api/v1/jobs/{self.job_id}/run", token=self.jwt)
        assert status == 200, run
        self.run_id = run["run_id"]
        self.wait_for(lambda: self._run()["status"] in ("failed", "success"), seconds=30, what="the run to end")
        assert self._run()["status"] == "failed", "the planted token is no good at this server"

    def _run(self) -> dict[str, str]:
        found: dict[str, str] = self.request("GET", f"/api/v1/runs/{self.run_id}", token=self.service_token)[1]
        return found

    def _bad_requests(self) -> None:
        password = self.planted["newpass"]
        for path, body in (
            ("/api/v1/register", {"username": "", "password": password}),
            ("/api/v1/register", {"username": "x", "password": [password]}),
            ("/api/v1/login", {"username": 5, "password": {"a": password}}),
            ("/api/v1/auth/password", {"old_password": password, "new_password": password}),
            ("/api/v1/jobs", {"job_name": 7, "tasks": [{"extractor_config": {"bearer_token": password}}]}),
        ):
            status, answer, _ = self.request("POST", path, body, token=self.jwt if "jobs" in path else "")
            assert status >= 400, answer
            assert password not in str(answer), path

    def all_secrets(self) -> dict[str, str]:
        """Everything that must be found nowhere."""
        return {**self.planted, "jwt": self.jwt, "service token": self.service_token}


def look_for(found_in: dict[str, str], where: str, text: str | bytes, wanted: dict[str, str]) -> None:
    for name, secret in wanted.items():
        if (secret.encode() if isinstance(text, bytes) else secret) in text:
            found_in[name] = where


def test_no_secret_is_in_a_log_line(planted: PlantedStack) -> None:
    found: dict[str, str] = {}
    time.sleep(0.5)
    look_for(found, "stack.log", planted.output(), planted.all_secrets())
    assert found == {}


def test_no_secret_lies_in_a_file(planted: PlantedStack) -> None:
    """SQLite's database and its write-ahead log are among these files."""
    found: dict[str, str] = {}
    for path in planted.home.rglob("*"):
        if path.is_file():
            look_for(found, str(path), path.read_bytes(), planted.all_secrets())
    assert found == {}


def test_no_secret_is_in_the_database(planted: PlantedStack) -> None:
    url = planted.environment["DATABASE_URL"]
    found: dict[str, str] = {}
    if url:
        connection = psycopg2.connect(url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            for (table,) in cursor.fetchall():
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                look_for(found, table, "\n".join(row[0] for row in cursor.fetchall()), planted.all_secrets())
        connection.close()
    else:
        look_for(found, "hohmann.db", (planted.home / "hohmann.db").read_bytes(), planted.all_secrets())
    assert found == {}


def test_no_secret_is_on_a_command_line_or_in_an_environment(planted: PlantedStack) -> None:
    found: dict[str, str] = {}
    for process in planted.processes():
        look_for(found, command_line(process), command_line(process), planted.all_secrets())
        look_for(found, "environment", str(process.environ()), planted.all_secrets())
    assert found == {}


def test_no_secret_comes_back_as_json_or_html(planted: PlantedStack, visit: Callable[[Stack, str], str]) -> None:
    found: dict[str, str] = {}
    for path in (
        "/api/v1/jobs",
        f"/api/v1/jobs/{planted.job_id}",
        "/api/v1/runs",
        f"/api/v1/runs/{planted.run_id}",
        f"/api/v1/runs/{planted.run_id}/logs",
        "/api/v1/job",
        "/api/v1/users",
        "/api/v1/service-tokens",
        "/health",
    ):
        status, answer, _ = planted.request("GET", path, token=planted.jwt)
        assert status == 200, path
        look_for(found, path, str(answer), planted.all_secrets())
    for path in ("/", "/jobs", f"/jobs/{planted.job_id}", "/runs", f"/runs/{planted.run_id}", "/settings/tokens"):
        look_for(found, path, visit(planted, path), planted.all_secrets())
    assert found == {}


@pytest.fixture
def visit() -> Callable[[PlantedStack, str], str]:
    """Opens a page in a browser that is signed in as the owner."""
    import http.cookiejar
    import re
    import urllib.parse
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    opener.addheaders = [("Accept", "text/html")]

    def read(url: str, form: dict[str, str] | None = None) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        with opener.open(url, data=data, timeout=20) as response:
            return str(response.read().decode())

    def open_page(stack: PlantedStack, path: str) -> str:
        if not opener.handlers or "Log out" not in read(f"{stack.url}/login"):
            token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', read(f"{stack.url}/login"))
            assert token
            form = {"username": "alice", "password": stack.planted["password"], "csrf_token": token[1]}
            read(f"{stack.url}/login", form)
        page = read(stack.url + path)
        assert "Log out" in page, path
        return page

    return open_page


def test_keys_of_the_instance_stay_in_its_own_folder(planted: PlantedStack) -> None:
    keys = [path.read_bytes().strip() for path in (planted.home / "keys").iterdir() if path.is_file()]
    elsewhere = [
        p for p in planted.home.rglob("*") if p.is_file() and Path("keys") not in (p.relative_to(planted.home).parent,)
    ]
    for path in elsewhere:
        content = path.read_bytes()
        assert not any(key in content for key in keys if key), path
