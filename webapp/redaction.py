"""What is a secret, by its name or by its look, and how texts lose theirs. Nothing here knows Flask or the database."""

import re
from collections.abc import Mapping
from typing import Any

SECRET_NAMES = frozenset(
    {"bearer_token", "password", "secret", "token", "api_key", "apikey", "access_token", "refresh_token",
    "authorization",
     "client_secret", "client_key", "private_key", "x-api-key", "proxy-authorization", "cookie",
     "secret_access_key", "session_token", "account_key", "sas_token", "passphrase",
     "secret_key", "s3_secret_key", "aws_secret_key", "aws_secret_access_key", "jdbc_password", "credential",
     "connection_string", "gcs_access_token", "azure_account_key", "azure_sas_token", "accountkey"}
)  # fmt: skip
SECRET_IN_TEXT = re.compile(
    r"(?i)(bearer\s+|hoh_|(?:password|token|secret|api_?key|authorization)[\"']?\s*[:=]\s*[\"']?)[^\s\"'&,;]{4,}"
)


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return name.lower() in SECRET_NAMES


def secret_values(config: Any) -> set[str]:
    """Every secret text inside a configuration, to be struck out of logs."""
    if isinstance(config, Mapping):
        found = {value for key, value in config.items() if is_secret(key) and isinstance(value, str) and len(value) > 3}
        return found.union(*(secret_values(value) for value in config.values()))
    if isinstance(config, list):
        return set().union(*(secret_values(item) for item in config))
    return set()


def redact(text: str) -> str:
    """The text without what looks like a secret."""
    return SECRET_IN_TEXT.sub(r"\1[struck out]", text)
