"""Secrets at rest: whole configurations are encrypted with keys that can be rotated, and masked wherever they are
shown.

Keys live in `HOHMANN_HOME/keys/data_keys`, one Fernet key a line, newest first; each can decrypt, the first encrypts.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import current_app
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from webapp.redaction import OF_DATA, is_secret

MASK = "••••••••"


class Vault:
    """Encrypts and decrypts with the keys of one instance.

    The file of keys is looked at before each use: processes that run take up a key that was added, and let go of those
    that were dropped.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "data_keys"
        self._known: tuple[tuple[int, int], list[bytes]] = ((0, 0), [])
        _make_first_key(self._path)

    def seal(self, value: Any) -> str:
        """The JSON value, encrypted."""
        return self._fernet().encrypt(orjson.dumps(value)).decode()

    def open(self, text: str) -> Any:
        """The JSON value that was sealed. Raises cryptography.fernet.InvalidToken when no key fits."""
        return orjson.loads(self._fernet().decrypt(text.encode()))

    def renewed(self, text: str) -> str | None:
        """What was sealed, under the newest key; None when it is so already. Raises InvalidToken when no key fits."""
        try:
            Fernet(self._keys()[0]).decrypt(text.encode())
        except InvalidToken:
            return self._fernet().rotate(text.encode()).decode()
        return None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the keys against other changes until the block ends. Raises BlockingIOError when somebody else does."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(folder)

    def add_key(self) -> None:
        """Make a new key, which encrypts from now on; call it while `changing`."""
        self._write([Fernet.generate_key(), *self._keys()])

    def drop_old_keys(self) -> int:
        """Forget all keys but the newest, returns how many; call it while `changing`."""
        newest, *old = self._keys()
        self._write([newest])
        return len(old)

    def _fernet(self) -> MultiFernet:
        return MultiFernet([Fernet(key) for key in self._keys()])

    def _keys(self) -> list[bytes]:
        facts = self._path.stat()
        stamp = (facts.st_mtime_ns, facts.st_ino)
        if self._known[0] != stamp:
            self._known = (stamp, self._path.read_bytes().split())
        return self._known[1]

    def _write(self, keys: list[bytes]) -> None:
        """Put these keys in the place of the others in one step, which a failure of power does not halve."""
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".data_keys-")
        with os.fdopen(handle, "wb") as file:
            file.write(b"\n".join(keys) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)


def _make_first_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(Fernet.generate_key())


class EncryptedJSON(TypeDecorator[Any]):
    """A JSON value that is encrypted in the database, key order kept."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        vault: Vault = current_app.extensions["vault"]
        return None if value is None else vault.seal(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        vault: Vault = current_app.extensions["vault"]
        return None if value is None else vault.open(value)


def mask(config: Any) -> Any:
    """A copy in which every secret that is set is shown as a mask."""
    if isinstance(config, Mapping):
        return {key: _masked(key, value) for key, value in config.items()}
    if isinstance(config, list):
        return [mask(item) for item in config]
    return config


def _masked(key: str, value: Any) -> Any:
    if key in OF_DATA:
        return value
    return MASK if is_secret(key) and value else mask(value)


def unmask(new: Any, old: Any) -> Any:
    """A copy of `new` in which masks that came back are the secrets of `old` again."""
    if isinstance(new, Mapping):
        before = old if isinstance(old, Mapping) else {}
        return {
            key: before.get(key) if is_secret(key) and value == MASK else unmask(value, before.get(key))
            for key, value in new.items()
        }
    if isinstance(new, list):
        earlier = old if isinstance(old, list) else []
        return [unmask(item, earlier[at] if at < len(earlier) else None) for at, item in enumerate(new)]
    return new
