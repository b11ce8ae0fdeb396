"""argon2id password hashes. An unknown user costs as much time as a wrong password."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MINIMUM_LENGTH = 8
MAXIMUM_LENGTH = 1024

_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's minimum for argon2id


def hash_password(password: str) -> str:
    """An argon2id hash with its own salt and parameters inside."""
    return _hasher.hash(password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password fits; None (no such user) is never true, and takes as long."""
    try:
        return _hasher.verify(password_hash or _nobodys_hash(), password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return _hasher.hash("nobody has this password")
