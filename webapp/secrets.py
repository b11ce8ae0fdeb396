"""Secrets at rest: whole configurations are encrypted with keys that can be rotated, and masked wherever they are
shown.

Keys live in `HOHMANN_HOME/keys/data_keys`, one Fernet key a line, newest first; each can decrypt, the first encrypts.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.fernet import Fernet, MultiFernet
from flask import current_app
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

MASK = "••••••••"
SECRET_NAMES = frozenset(
    {"bearer_token", "password", "secret", "token", "api_key", "apikey", "access_token", "refresh_token",
    "authorization",
     "client_secret", "private_key", "x-api-key", "proxy-authorization", "cookie"}
)  # fmt: skip


class Vault:
    """Encrypts and decrypts with the keys of one instance."""

    def __init__(self, folder: Path) -> None:
        self._fernet = MultiFernet([Fernet(line) for line in _load_keys(folder / "data_keys").split()])

    def seal(self, value: Any) -> str:
        """The JSON value, encrypted."""
        return self._fernet.encrypt(orjson.dumps(value)).decode()

    def open(self, text: str) -> Any:
        """The JSON value that was sealed. Raises cryptography.fernet.InvalidToken when no key fits."""
        return orjson.loads(self._fernet.decrypt(text.encode()))


def _load_keys(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        key = Fernet.generate_key()
        file.write(key)
    return key


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


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return name.lower() in SECRET_NAMES


def mask(config: Any) -> Any:
    """A copy in which every secret that is set is shown as a mask."""
    if isinstance(config, Mapping):
        return {key: MASK if is_secret(key) and value else mask(value) for key, value in config.items()}
    if isinstance(config, list):
        return [mask(item) for item in config]
    return config


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


def secret_values(config: Any) -> set[str]:
    """Every secret text inside a configuration, to be struck out of logs."""
    if isinstance(config, Mapping):
        found = {value for key, value in config.items() if is_secret(key) and isinstance(value, str) and len(value) > 3}
        return found.union(*(secret_values(value) for value in config.values()))
    if isinstance(config, list):
        return set().union(*(secret_values(item) for item in config))
    return set()
