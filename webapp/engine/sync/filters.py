"""The filter text of contract 002: `age >= 5 and "last name" = "x"`, parsed into conditions and put into bound SQL."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from webapp.engine.connectors.base import Condition, Filter

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op>!=|<=|>=|=|<|>)|(?P<word>[^\s=!<>"']+))""", re.DOTALL
)
_ESCAPE = re.compile(r"""\\([\\"'])""")
_NUMBER = re.compile(r"[+-]?(?:\d+(?P<real>\.\d*)?|\.\d+)(?P<power>[eE][+-]?\d+)?")
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_filter(text: str) -> Filter | None:
    """The conditions of a filter's text, None for an empty one; ValueError says what is wrong and where."""
    tokens = list(_tokens(text))
    if not tokens:
        return None
    conditions, words = [], set()
    while True:
        conditions.append(_condition(tokens, text))
        if not tokens:
            break
        words.add(_joining(tokens.pop(0)))
    if len(words) > 1:
        raise ValueError("the filter joins conditions with both `and` and `or`; use one of the two throughout")
    return Filter(tuple(conditions), words.pop() if words else "and")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            what = (
                "a quote that is not closed" if text[start] in "\"'" else f"{text[start]!r}, which means nothing here"
            )
            raise ValueError(f"the filter has {what}, at character {start + 1}")
        kind = found.lastgroup or ""
        yield _Token(kind, found[kind], found.start(kind))
        at = found.end()


def _condition(tokens: list[_Token], text: str) -> Condition:
    column = _next(tokens, text, "a column", ("word", "text"))
    op = _next(tokens, text, "one of = != < <= > >=", ("op",))
    value = _next(tokens, text, "a value", ("word", "text"))
    name = _unquoted(column.text) if column.kind == "text" else column.text
    if not name:
        raise ValueError(f"the filter has an empty column name at character {column.at + 1}")
    meant = _value(value)
    if meant is None and op.text not in ("=", "!="):
        raise ValueError(f"null can only be compared with = or !=, at character {op.at + 1} of the filter")
    return Condition(name, op.text, meant)


def _next(tokens: list[_Token], text: str, wanted: str, kinds: tuple[str, ...]) -> _Token:
    if not tokens:
        raise ValueError(f"the filter ends where {wanted} should follow, at character {len(text) + 1}")
    token = tokens.pop(0)
    if token.kind not in kinds:
        raise ValueError(f"the filter needs {wanted} instead of {token.text!r}, at character {token.at + 1}")
    return token


def _joining(token: _Token) -> str:
    word = token.text.lower()
    if token.kind != "word" or word not in ("and", "or"):
        raise ValueError(f"the filter needs `and` or `or` instead of {token.text!r}, at character {token.at + 1}")
    return word


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(r"\1", text[1:-1])


def _value(token: _Token) -> str | int | float | bool | None:
    if token.kind == "text":
        return _unquoted(token.text)
    if token.text.lower() in _CONSTANTS:
        return _CONSTANTS[token.text.lower()]
    found = _NUMBER.fullmatch(token.text)
    if found is None:
        return token.text
    if "." not in token.text and not found["power"]:
        return int(token.text)
    number = float(token.text)
    if math.isinf(number):
        raise ValueError(f"the number {token.text} is too large, at character {token.at + 1} of the filter")
    return number
