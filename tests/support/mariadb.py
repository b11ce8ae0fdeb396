"""A MariaDB for tests, started on a free port of loopback with a folder of its own."""

import getpass
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pymysql

from tests.support.missing import missing
from tests.support.stacks import free_port


class MariaServer:
    """A private server with a root without password."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hohmann-mariadb-"))
        self.log = self.folder / "log"
        self.port = free_port()
        user = ["--user", getpass.getuser()]
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", "--skip-test-db", *user,
                   "--auth-root-authentication-method=normal"]  # fmt: skip
        installed = subprocess.run(install, check=False, capture_output=True, text=True)
        if installed.returncode:
            raise RuntimeError(f"MariaDB's tables cannot be made:\n{installed.stdout}\n{installed.stderr}")
        self._start(*user)

    def restart(self, *options: str) -> None:
        """End the server and start it again on its data, with more options."""
        self._end()
        self._start("--user", getpass.getuser(), *options)

    def _start(self, *options: str) -> None:
        command = [_program(), "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/socket"]
        command += [f"--port={self.port}", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", *options]
        self.options = options
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self._open().close()
                return
            except pymysql.MySQLError:
                time.sleep(0.1)
        raise RuntimeError(f"MariaDB did not start:\n{self._last_words()}")

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def connect(self, database: str | None = None) -> pymysql.Connection:
        """A connection as root that commits each statement. A server that died says why, and is started again."""
        if self.process.poll() is not None:
            print(f"MariaDB ended with {self.process.returncode}:\n{self._last_words()}", file=sys.stderr)
            self._start(*self.options)
        return self._open(database)

    def _open(self, database: str | None = None) -> pymysql.Connection:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=database, autocommit=True, charset="utf8mb4"
        )

    def stop(self) -> None:
        """End the server and remove its folder."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _program() -> str:
    return shutil.which("mariadbd") or "/usr/sbin/mariadbd"


def start_or_skip() -> MariaServer:
    """A server; without the program a loud skip, with CI=true a failure."""
    if not (shutil.which("mariadb-install-db") and Path(_program()).exists()):
        missing("MariaDB (apt-get install mariadb-server)")
    return MariaServer()
