"""`python -m webapp.stack`: the whole instance in the foreground. Imports the application once, then forks."""

import contextlib
import errno
import fcntl
import gc
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

import sqlalchemy.exc
from flask import Flask
from jinja2 import FileSystemBytecodeCache

from webapp import create_app, schema, sockets
from webapp import db as database
from webapp.accounts import operations as accounts
from webapp.config import ConfigError, Settings
from webapp.db import db
from webapp.metrics_folder import forget_counts
from webapp.supervisor import Service, Supervisor, describe_exit

STOP_SECONDS = 8.0
WAIT_FOR_REMAINS_SECONDS = 12.0
CANNOT_START = 2


class CannotStart(Exception):
    """The stack cannot run like this; the message is for the person at the terminal."""


def main() -> int:
    """Run until a signal ends it; returns the exit code."""
    os.environ.setdefault("SPT_NOENV", "1")  # setproctitle would else write over what /proc shows of the environment
    try:
        settings = Settings.from_environment()
        lock = lock_home(settings)
        listener = listen(settings)
        forget_counts(settings)
        app = create_app(settings)
        migrate(app)
        print(welcome(app, settings), flush=True)
    except (CannotStart, ConfigError) as error:
        print(f"Hohmann cannot start. {error}", file=sys.stderr, flush=True)
        return CANNOT_START
    with lock, listener:
        return supervise(app, settings, listener)


def supervise(app: Flask, settings: Settings, listener: socket.socket) -> int:
    """Fork the processes and keep them alive."""
    from webapp.webserver import WebServer  # gunicorn, imported once for master and restarts

    def web() -> None:
        WebServer(app, settings, listener).run()

    def worker(number: int) -> None:
        from webapp.runs.worker.loop import main as work

        listener.close()
        work(app, title=f"hohmann: worker {number}")

    def airflow() -> None:
        from webapp.orchestrators.airflow.dispatcher import main as dispatch

        listener.close()
        dispatch(app)

    services = [Service("web", web)]
    if settings.airflow_url:
        services.append(Service("airflow", airflow))
    services += [Service(f"worker {n}", lambda n=n: worker(n)) for n in range(1, settings.workers + 1)]  # type: ignore[misc]
    load_templates(app, settings.hohmann_home / "cache" / "templates")
    forget_connections(app)
    gc.collect()
    gc.freeze()  # what is loaded stays shared: the collector would else touch, and so copy, every page of it
    return Supervisor(services, stop_seconds=STOP_SECONDS).run()


def lock_home(settings: Settings) -> IO[str]:
    """The lock of HOHMANN_HOME, held while the file is open. Raises CannotStart when another stack runs there."""
    path = settings.run_folder / "stack.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("a+")
    except OSError as error:
        raise CannotStart(f"HOHMANN_HOME: {error.strerror}: {settings.hohmann_home}") from error
    end = time.monotonic() + WAIT_FOR_REMAINS_SECONDS
    while not _try_lock(file):
        # The supervisor is gone, but its processes are still ending: they hold the lock until they have.
        if _is_alive(_read_pid(file)) or time.monotonic() > end:
            raise CannotStart(
                f"Another stack (process {_read_pid(file)}) runs on HOHMANN_HOME {settings.hohmann_home}."
            )
        time.sleep(0.1)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(file: IO[str]) -> int:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    return pid > 0 and Path(f"/proc/{pid}").exists()


def listen(settings: Settings) -> socket.socket:
    """The web server's socket, open before anything else: who calls early waits instead of being refused.

    Raises CannotStart that names the port or address and what to do.
    """
    try:
        return sockets.open_first(settings.bind, settings.port)
    except OSError as error:
        raise CannotStart(_why_not_listening(error, settings)) from error


def _why_not_listening(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"PORT {settings.port} is taken by another program. Choose another one: PORT={settings.port + 1} make run"
        )
    if error.errno == errno.EACCES:
        return f"PORT {settings.port} may not be used by this user. Choose one above 1023: PORT=8000 make run"
    return f"BIND {settings.bind}: {error.strerror}. This machine has no such address."


def migrate(app: Flask) -> None:
    """Bring the database to the newest version, in a process of its own: Alembic is not needed afterwards."""
    try:
        with app.app_context():
            if schema.is_current():
                return
    except sqlalchemy.exc.OperationalError as error:
        first_line = str(error.orig).strip().splitlines()[0]
        raise CannotStart(f"DATABASE_URL: the database does not answer: {first_line}") from error
    forget_connections(app)
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException), app.app_context():
            code = _upgrade()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        raise CannotStart(f"The database could not be brought up to date ({describe_exit(status)}); see above why.")


def _upgrade() -> int:
    try:
        schema.upgrade()
    except Exception:  # the outermost edge of the process: the reason must be seen
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def welcome(app: Flask, settings: Settings) -> str:
    """What the person at the terminal needs to know. Raises CannotStart beyond loopback before there is an owner."""
    with app.app_context(), database.reading():
        if accounts.owner_exists():
            return f"Hohmann: {settings.base_url}"
        link = f"{settings.base_url}/register?token={accounts.make_owner_token()}"
    if not settings.on_loopback:
        raise CannotStart(
            f"BIND {settings.bind}: without an owner, anybody could take this instance. "
            "Start it on 127.0.0.1 first, or make the owner with: flask create-owner"
        )
    return f"Hohmann: {settings.base_url}\nIt has no owner yet. Become the owner at {link}"


def load_templates(app: Flask, folder: Path) -> None:
    """Compile all pages once, before the fork: else each web process would do it while its first visitors wait.

    What was compiled is kept in `folder` for the next start; Jinja notices when a template has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    app.jinja_env.bytecode_cache = FileSystemBytecodeCache(str(folder))
    for name in app.jinja_env.list_templates(extensions=["html"]):
        app.jinja_env.get_template(name)


def forget_connections(app: Flask) -> None:
    """Close all database connections: a forked process must not share one."""
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
