"""A counter in shared memory that says "some token or account was revoked; look it up again".

Processes cache whom a token belongs to. Each request compares this counter, which costs a memory read; it is raised
after the commit that revokes and before its answer is sent, so the next request on this machine sees it. Other hosts on
the same PostgreSQL follow within CACHE_SECONDS.
"""

import fcntl
import mmap
import os
import struct
from pathlib import Path

from flask import current_app
from sqlalchemy.orm import Session

from webapp import db as database
from webapp.db import db

CACHE_SECONDS = 5.0


class Epoch:
    """The counter, in a file of eight bytes that all processes of this machine map."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(folder / "revocations", os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._handle).st_size < 8:
            os.ftruncate(self._handle, 8)
        self._memory = mmap.mmap(self._handle, 8)

    def read(self) -> int:
        """The present count."""
        return int(struct.unpack_from("<Q", self._memory)[0])

    def raise_by_one(self) -> None:
        """Tell every process of this machine."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            struct.pack_into("<Q", self._memory, 0, self.read() + 1)
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        self._memory.close()
        os.close(self._handle)


def announce_revocation() -> None:
    """Raise the counter when the present unit of work is committed."""
    db.session.info["revoked"] = True


def _after_commit(session: Session) -> None:
    if session.info.get("revoked"):
        epoch: Epoch = current_app.extensions["revocations"]
        epoch.raise_by_one()


database.after_commit.append(_after_commit)
