"""SQLite's values and the types that its columns can honestly have.

SQLite keeps a type for each value, not for each column. A column gets its declared type when all its values fit it, a
wider one when they fit that, and VARCHAR otherwise; nothing is rounded, cut or guessed.
"""

import datetime
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_EXACT = 2**53
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC) ?\( ?(\d+) ?(?:, ?(\d+) ?)?\)")
_BIGGEST = 2**63
NAIVE, ZONED = 1, 2
TIMES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True)
class Facts:
    """How many values of a column are of which kind; `special` tells how many of its texts (or numbers, for a
    DECIMAL) have the declared form, `zoned` how many of these name a zone.
    """

    integers: int = 0
    reals: int = 0
    texts: int = 0
    blobs: int = 0
    widest: int = 0
    special: int = 0
    zoned: int = 0
    flags: int = 0

    @property
    def filled(self) -> int:
        """How many values are not null."""
        return self.integers + self.reals + self.texts + self.blobs


def wanted_type(declared: str) -> str:
    """The type that a declaration promises, "" when it promises none; SQLite's rules of affinity, read strictly."""
    spelled = " ".join(declared.upper().split())
    if found := _DECIMAL.fullmatch(spelled):
        precision, scale = int(found[1]), int(found[2] or 0)
        return f"DECIMAL({precision},{scale})" if 1 <= precision <= 38 and scale <= precision else ""
    for word, type_ in (
        ("BOOL", "BOOLEAN"), ("INT", "BIGINT"), ("CHAR", "VARCHAR"), ("CLOB", "VARCHAR"), ("TEXT", "VARCHAR"),
        ("BLOB", "BLOB"), ("REAL", "DOUBLE"), ("FLOA", "DOUBLE"), ("DOUB", "DOUBLE"), ("DATETIME", "TIMESTAMP"),
        ("TIMESTAMP", "TIMESTAMP"), ("DATE", "DATE"), ("JSON", "JSON"),
    ):  # fmt: skip
        if word in spelled:
            return type_
    return ""


def honest_type(wanted: str, facts: Facts) -> str:
    """The declared type when all values fit it, else the narrowest that holds them all."""
    if not facts.filled:
        return wanted or "VARCHAR"
    if _fits(wanted, facts):
        return "TIMESTAMP WITH TIME ZONE" if wanted == "TIMESTAMP" and facts.zoned else wanted
    if facts.integers == facts.filled:
        return "BIGINT"
    if facts.blobs == facts.filled:
        return "BLOB"
    if facts.reals + facts.integers == facts.filled and (not facts.integers or facts.widest <= _EXACT):
        return "DOUBLE"
    return "VARCHAR"


def _fits(wanted: str, facts: Facts) -> bool:
    if wanted == "BOOLEAN":
        return facts.flags == facts.filled
    if wanted == "BIGINT":
        return facts.integers == facts.filled
    if wanted == "DOUBLE":
        return facts.reals == facts.filled
    if wanted == "VARCHAR":
        return facts.texts == facts.filled
    if wanted == "BLOB":
        return facts.blobs == facts.filled
    if wanted == "TIMESTAMP":
        return facts.special == facts.filled and facts.zoned in (0, facts.filled)
    return bool(wanted) and facts.special == facts.filled


def form_of(wanted: str, value: Any) -> int:
    """Whether a value has the declared form: 0 no, 1 yes, 2 yes and with a zone."""
    if wanted == "TIMESTAMP":
        return _time_form(value)
    if wanted == "DATE":
        return int(isinstance(value, str) and len(value) == 10 and _time_form(value) == NAIVE)
    if wanted.startswith("DECIMAL"):
        return int(_decimal(value, wanted) is not None)
    return 0


def _time_form(value: Any) -> int:
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return 0
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        return 0
    return ZONED if found["zone"] else NAIVE


def _decimal(value: Any, type_: str) -> Decimal | None:
    if isinstance(value, str | bytes):
        return None
    precision, scale = (int(part) for part in type_[len("DECIMAL(") : -1].split(","))
    number = Decimal(repr(value))
    if not number.is_finite():
        return None
    cut = round(number, scale)
    return cut if cut == number and abs(cut) < Decimal(10) ** (precision - scale) else None


def microseconds(value: Any) -> int | None:
    """A text's instant as microseconds since 1970, so that all spellings compare rightly; None for anything else."""
    if not _time_form(value):
        return None
    moment = datetime.datetime.fromisoformat(value)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND


def instant_text(stamp: int) -> str:
    """The text for `microseconds`."""
    return (_EPOCH + stamp * _MICROSECOND).replace(tzinfo=None).isoformat(sep=" ")


def carried(value: Any, type_: str) -> Any:
    """A value as Arrow shall carry it under a type. Raises ValueError when it does not fit."""
    if value is None:
        return None
    if type_ in ("VARCHAR", "JSON"):
        return _text(value)
    if type_ in ("BIGINT", "DOUBLE", "BOOLEAN"):
        return _number(value, type_)
    if type_ == "BLOB" and isinstance(value, bytes):
        return value
    if type_ in TIMES and _time_form(value) == (ZONED if "ZONE" in type_ else NAIVE):
        return datetime.datetime.fromisoformat(value)
    if type_ == "DATE" and form_of("DATE", value):
        return datetime.date.fromisoformat(value)
    if type_.startswith("DECIMAL") and (number := _decimal(value, type_)) is not None:
        return number
    raise ValueError(value)


def _number(value: Any, type_: str) -> int | float | bool:
    if type_ == "BOOLEAN" and value in (0, 1) and isinstance(value, int):
        return bool(value)
    if type_ == "BIGINT" and isinstance(value, int) and -_BIGGEST <= value < _BIGGEST:
        return value
    if type_ == "DOUBLE" and (isinstance(value, float) or (isinstance(value, int) and abs(value) <= _EXACT)):
        return float(value)
    raise ValueError(value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise ValueError(value)
    return value if isinstance(value, str) else str(value)
