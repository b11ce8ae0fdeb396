"""Forcing files to the disk, so that a commit which names them survives a power failure."""

import os
from collections.abc import Iterable
from pathlib import Path


def forced(paths: Iterable[Path]) -> None:
    """Force these files or folders to the disk. Raises OSError: a full disk may say so only here."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
