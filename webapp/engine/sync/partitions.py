"""The partition text of contract 002: `/{created_at, year}/{region, identity}`."""

import re

from webapp.engine.connectors.base import Partition

_PART = re.compile(r"/?\{([^{}]*)\}")
_TRANSFORM = re.compile(r"([a-z]+)(?:[\[(]\s*(\d{1,9})\s*[\])])?")
_TRANSFORMS = ("identity", "year", "month", "day", "hour", "bucket", "truncate")
_GRANULARITY = {"": "identity", "yyyy": "year", "mm": "month", "dd": "day", "hh": "hour"}


def parse_partitions(text: str) -> tuple[Partition, ...]:
    """The partitions that a text names; ValueError says what is wrong and where."""
    found: list[Partition] = []
    text, at = text.strip(), 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise ValueError(
                f"the partitions need /{{column, transform}} at character {at + 1}, not {text[at:][:20]!r}"
            )
        found.append(_partition(part[1]))
        at = part.end()
    names = [one.column for one in found]
    if twice := next((one for one in found if found.count(one) > 1), None):
        raise ValueError(f"the partitions name {twice.column} twice in the same way: {', '.join(names)}")
    return tuple(found)


def _partition(text: str) -> Partition:
    words = [word.strip().strip("\"'") for word in text.split(",")]
    column, transform = words[0], words[1] if len(words) > 1 else "identity"
    if not column or len(words) > 3:
        raise ValueError(f"a partition is {{column, transform}}, not {{{text}}}")
    if len(words) == 3:
        return _older(column, words[1], words[2].lower(), text)
    return _transformed(column, transform.lower() or "identity", text)


def _older(column: str, default: str, granularity: str, text: str) -> Partition:
    """The form with a default and a granularity: `{created_at, "", YYYY}`."""
    if default or column == "now()" or granularity not in _GRANULARITY:
        raise ValueError(f"{{{text}}}: defaults, now() and weeks are not supported; write {{column, transform}}")
    return Partition(column, _GRANULARITY[granularity])


def _transformed(column: str, transform: str, text: str) -> Partition:
    found = _TRANSFORM.fullmatch(transform)
    if found is None or found[1] not in _TRANSFORMS:
        raise ValueError(f"{{{text}}}: the transform is one of {', '.join(_TRANSFORMS)}")
    wide = found[1] in ("bucket", "truncate")
    if wide != bool(found[2]) or (wide and int(found[2]) < 1):
        raise ValueError(f"{{{text}}}: bucket and truncate have a width, as in bucket[16]; the others have none")
    return Partition(column, found[1], int(found[2]) if wide else None)
