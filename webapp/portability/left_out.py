"""Secrets stay where they are: a file says where one is needed, and an import finds the stored one again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from webapp.redaction import OF_DATA, is_secret, replace_secrets

NEEDED = "SECRET-NEEDED"
"""What stands for a secret inside a longer text, and is stored for one that nobody has given yet."""
MARK = {"secret": "needed"}

Lookup = Callable[[Mapping[str, Any]], str]


def leave_out(config: Any) -> Any:
    """A copy in which `{secret: needed}` stands for each secret, and a word for one inside an address or a text."""
    if isinstance(config, Mapping):
        return {key: _left_out(key, value) for key, value in config.items()}
    if isinstance(config, list):
        return [leave_out(item) for item in config]
    return replace_secrets(config, NEEDED) if isinstance(config, str) else config


def _left_out(key: str, value: Any) -> Any:
    if key in OF_DATA:
        return value
    return dict(MARK) if is_secret(key) and value else leave_out(value)


def fill_in(config: Mapping[str, Any], stored: Mapping[str, Any] | None, *, leads_to: Lookup) -> dict[str, Any]:
    """A configuration from a file with the secrets that are stored, when both lead to the same place.

    `leads_to` says where a configuration leads. What no secret is known for holds `NEEDED`.
    """
    filled: dict[str, Any] = _fill(config, stored)
    if stored is not None and leads_to(filled) != leads_to(stored):
        return dict(_fill(config, None))
    return filled


def _fill(new: Any, stored: Any) -> Any:
    if new == MARK:
        return NEEDED if stored is None or stored == "" else stored
    if isinstance(new, Mapping):
        known = stored if isinstance(stored, Mapping) else {}
        return {key: _fill(value, known.get(key)) for key, value in new.items()}
    if isinstance(new, list):
        items = stored if isinstance(stored, list) else []
        return [_fill(item, items[at] if at < len(items) else None) for at, item in enumerate(new)]
    if isinstance(new, str) and isinstance(stored, str) and new == replace_secrets(stored, NEEDED):
        return stored
    return new


def list_needed(config: Any, place: str) -> Iterator[str]:
    """Where a configuration has no secret yet, as `<place>.<field>`."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from list_needed(value, f"{place}.{key}")
    elif isinstance(config, list):
        for at, item in enumerate(config):
            yield from list_needed(item, f"{place}[{at}]")
    elif isinstance(config, str) and NEEDED in config:
        yield place
