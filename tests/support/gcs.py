"""A stand-in for Google Cloud Storage on loopback. It asks for no token: only its JSON API is proven by it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow.fs

from tests.support.azure import wait_for
from tests.support.stacks import free_port


@dataclass(frozen=True)
class GcsServer:
    """Where it is; it has one bucket, `lake`."""

    place: str

    @property
    def url(self) -> str:
        """The endpoint, as a configuration names it."""
        return f"http://{self.place}"

    def system(self) -> Any:
        """A file system that may do everything."""
        return pyarrow.fs.GcsFileSystem(
            anonymous=True, scheme="http", endpoint_override=self.place, retry_time_limit=timedelta(seconds=10)
        )


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """Run a server in a process of its own until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port),
               "--in-memory", "--default-bucket", "lake"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield GcsServer(f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
