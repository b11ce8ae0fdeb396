"""A stand-in for Azure's blob storage on loopback: Azurite, Microsoft's own, which checks keys as the real one does.

It is installed by `make azurite` outside the checkout.
"""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow.fs

from tests.support.missing import missing
from tests.support.stacks import free_port

_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hohmann" / "azurite"
_PROGRAM = _HOME / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
_PATIENCE = 60.0
# Azurite's documented account, the same for everyone.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class AzureServer:
    """Where it is."""

    place: str

    @property
    def url(self) -> str:
        """The endpoint, as a configuration names it."""
        return f"http://{self.place}"

    def system(self) -> Any:
        """A file system that may do everything."""
        return pyarrow.fs.AzureFileSystem(
            ACCOUNT, account_key=KEY, blob_storage_authority=self.place, blob_storage_scheme="http",
            dfs_storage_authority=self.place, dfs_storage_scheme="http",
        )  # fmt: skip


@contextmanager
def azure_server() -> Iterator[AzureServer]:
    """Run a server until the block ends; without the program a loud skip, with CI=true a failure."""
    node = shutil.which("node") or str(Path(".venv/node/node").resolve())
    if not _PROGRAM.exists() or not Path(node).exists():
        missing("Azurite (make azurite)")
    port, folder = free_port(), tempfile.mkdtemp(prefix="hohmann-azurite-")
    command = [node, str(_PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder,
               "--silent", "--skipApiVersionCheck", "--disableTelemetry"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield AzureServer(f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return once something listens on the port; raise when the process ends before, or takes too long."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args} did not start")


def sas(permissions: str) -> str:
    """A token of the account, for an hour."""
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    words = [ACCOUNT, permissions, "b", "sco", "", until, "", "https,http", "2020-08-04", ""]
    signed = hmac.new(base64.b64decode(KEY), "\n".join(words).encode(), hashlib.sha256).digest()
    given = {"sv": "2020-08-04", "ss": "b", "srt": "sco", "sp": permissions, "se": until, "spr": "https,http",
             "sig": base64.b64encode(signed).decode()}  # fmt: skip
    return urlencode(given)
