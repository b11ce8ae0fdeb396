"""What is a secret, by its name or by its look, and how texts lose theirs. Nothing here knows Flask or the database."""

import os
import re
from collections.abc import Mapping
from typing import Any

OWN_SECRETS = frozenset({"SECRET_KEY", "DATABASE_URL", "AIRFLOW_PASSWORD", "AIRFLOW_TOKEN"})
"""Settings that stay with the processes of the instance itself: none that moves or shows data needs them."""
OF_DATA = frozenset({"columns", "renames"})
"""Settings whose keys are names of columns: a column called password has a type there, and no secret."""
_SECRET_ENDINGS = ("password", "passwd", "passphrase", "token", "secret", "secretkey", "secretaccesskey", "apikey",
                   "accountkey", "clientkey", "privatekey", "authorization", "cookie", "credential",
                   "connectionstring")  # fmt: skip
_NAMED = (  # in texts, longer names end with these too
    r"(?:password|passwd|passphrase|token|secret|(?:api|account|client|private|secret|secret[_-]?access)[_-]?key"
    r"|authorization|cookie)"
)
SECRETS_IN_TEXT = (
    re.compile(r"(://[^/?#@:\s]*:)[^/?#\s]+(?=@)"),
    re.compile(r"(?i)([?&](?:sig|signature|x-amz-signature|x-goog-signature)=)[^\s\"'&]+"),
    re.compile(
        rf"(?i)({_NAMED}[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|digest|token)\s+)?|bearer\s+|hoh_)[^\s\"'&,;]{{4,}}"
    ),
)
"""Each leaves in its first group what stays: a name, a scheme, the address up to the user."""


def environment_for_others() -> dict[str, str]:
    """The environment of a process that runs drivers and reads data: without the instance's own secrets."""
    return {name: value for name, value in os.environ.items() if name not in OWN_SECRETS}


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: secret_access_key, secretAccessKey, X-Secret-Access-Key alike."""
    return "".join(char for char in name.lower() if char.isalnum()).endswith(_SECRET_ENDINGS)


def secret_values(config: Any) -> set[str]:
    """Every secret text inside a configuration, to be struck out of logs."""
    if isinstance(config, Mapping):
        said = {key: value for key, value in config.items() if key not in OF_DATA}
        found = {value for key, value in said.items() if is_secret(key) and isinstance(value, str) and len(value) > 3}
        return found.union(*(secret_values(value) for value in said.values()))
    if isinstance(config, list):
        return set().union(*(secret_values(item) for item in config))
    return set()


def redact(text: str) -> str:
    """The text without what looks like a secret."""
    return replace_secrets(text, "[struck out]")


def replace_secrets(text: str, word: str) -> str:
    """The text with this word for each part that looks like a secret."""
    for pattern in SECRETS_IN_TEXT:
        text = pattern.sub(rf"\g<1>{word}", text)
    return text
