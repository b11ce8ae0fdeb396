"""How the next page of an API is found, and how a walk that never ends is noticed."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from webapp.engine.errors import EngineError, Origin
from webapp.engine.specs import (
    ApiExtractor,
    CursorPagination,
    LinkPagination,
    NoPagination,
    OffsetPagination,
    PagePagination,
)

_LINK = re.compile(r'<([^>]*)>\s*;[^,<]*\brel\s*=\s*"?([^";,]*)"?', re.IGNORECASE)
Lookup = Callable[[str], Any]


class Walk:
    """Says which address to fetch first and which next; raises EngineError when the pages go in circles."""

    def __init__(self, spec: ApiExtractor) -> None:
        self._spec = spec
        self._seen: set[str] = set()
        self._page = spec.pagination.start if isinstance(spec.pagination, PagePagination) else 0
        self._offset = 0
        base = _with_params(spec.url, dict(spec.params.items()))
        self._base = base

    def first(self) -> str:
        """Return the address of the first page."""
        return self._noted(self._numbered())

    def next(self, url: str, headers: Any, rows: int, lookup: Lookup) -> str | None:
        """Return the address of the page after ``url``, None at the end; ``lookup`` reads a dotted path of the body."""
        following = self._following(url, headers, rows, lookup)
        return None if following is None else self._noted(following)

    def _following(self, url: str, headers: Any, rows: int, lookup: Lookup) -> str | None:
        pagination = self._spec.pagination
        match pagination:
            case NoPagination():
                return None
            case LinkPagination(field=None):
                link = _next_link(headers.get("Link") or "")
                return urljoin(url, link) if link else None
            case LinkPagination(field=str() as field):
                value = lookup(field)
                return urljoin(url, str(value)) if value else None
            case CursorPagination():
                cursor = lookup(pagination.field)
                return None if cursor in (None, "", False) else _with_params(self._base, {pagination.parameter: cursor})
            case PagePagination():
                if rows == 0 or (pagination.size is not None and rows < pagination.size):
                    return None
                self._page += 1
            case OffsetPagination():
                if rows < pagination.limit:
                    return None
                self._offset += rows
        return self._numbered()

    def _numbered(self) -> str:
        pagination = self._spec.pagination
        if isinstance(pagination, PagePagination):
            numbers: dict[str, Any] = {pagination.parameter: self._page}
            if pagination.size is not None and pagination.size_parameter:
                numbers[pagination.size_parameter] = pagination.size
            return _with_params(self._base, numbers)
        if isinstance(pagination, OffsetPagination):
            return _with_params(
                self._base, {pagination.parameter: self._offset, pagination.limit_parameter: pagination.limit}
            )
        return self._base

    def _noted(self, url: str) -> str:
        if url in self._seen:
            raise circles(self._spec.pagination.type)
        self._seen.add(url)
        return url


def circles(kind: str) -> EngineError:
    """The error for pages that never end."""
    return EngineError(
        f"the pages go in circles: the {kind} pagination came to the same page twice",
        origin=Origin.SOURCE,
        pagination=kind,
        fix="Check the pagination's settings against the API's documentation.",
    )


def _next_link(header: str) -> str | None:
    return next((url for url, rel in _LINK.findall(header) if "next" in rel.lower().split()), None)


def _with_params(url: str, params: dict[str, Any]) -> str:
    if not params:
        return url
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in params]
    for name, value in params.items():
        kept += [(name, _text(item)) for item in (value if isinstance(value, list) else [value])]
    return urlunsplit(parts._replace(query=urlencode(kept), fragment=""))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
