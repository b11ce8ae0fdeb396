"""gunicorn inside our own process: serves an application that is loaded already, on a socket that is open already."""

import os
import socket
from pathlib import Path
from typing import Any

import gunicorn.http.wsgi
from flask import Flask
from gunicorn.app.base import BaseApplication
from setproctitle import setproctitle

from webapp.config import Settings
from webapp.memory import give_large_blocks_back
from webapp.sockets import open_another
from webapp.supervisor import die_with_parent

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 5
CONNECTIONS_PER_PROCESS = 4000
LONGEST_REQUEST_LINE = 8190  # bytes, the most that gunicorn takes: a search of 500 emoji has a place in it
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn's heartbeat files, which it unlinks at once


class WebServer(BaseApplication):  # type: ignore[misc]
    """A gunicorn master with its workers. `run()` returns when it was asked to end."""

    def __init__(self, app: Flask, settings: Settings, listener: socket.socket) -> None:
        self.app = app
        self.settings = settings
        self.listener = listener
        gunicorn.http.wsgi.SERVER = "hohmann"  # the Server header: no name and version of software
        super().__init__()

    def load_config(self) -> None:
        """Every option that differs from gunicorn's default."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def _options(self) -> dict[str, Any]:
        return {
            "bind": f"fd://{self.listener.fileno()}",
            "worker_class": "gthread",
            "workers": self.settings.web_workers,
            "threads": self.settings.web_threads,
            "worker_connections": CONNECTIONS_PER_PROCESS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "limit_request_line": LONGEST_REQUEST_LINE,
            "preload_app": True,
            "control_socket_disable": True,
            "forwarded_allow_ips": "",  # proxies are believed by TRUSTED_PROXIES alone
            "worker_tmp_dir": str(SHARED_MEMORY) if os.access(SHARED_MEMORY, os.W_OK) else None,
            "accesslog": None,
            "loglevel": "warning",
            "proc_name": "hohmann",
            "post_fork": self._begin_worker,
        }

    def load(self) -> Flask:
        """The application, as it was loaded by whoever started us."""
        return self.app

    def _begin_worker(self, arbiter: Any, worker: Any) -> None:
        # gunicorn calls its processes workers; in our `ps` a worker is what executes runs.
        setproctitle(f"hohmann: gunicorn web {worker.age}")
        die_with_parent(arbiter.pid)
        give_large_blocks_back()
        # The shared socket gives a burst of connections to whichever process wakes first, and they stay there for as
        # long as they are kept alive. The kernel spreads them over sockets of the processes' own.
        worker.sockets = [*worker.sockets, open_another(self.settings.bind, self.settings.port)]
