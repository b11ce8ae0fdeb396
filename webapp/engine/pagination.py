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
        self._steady = False
        self._base = _with_params(spec.url, dict(spec.params))

    def first(self) -> str:
        """Return the address of the first page."""
        return self._noted(self._numbered())

    @property
    def numbered(self) -> bool:
        """Whether pages are counted rather than named by the answers."""
        return isinstance(self._spec.pagination, PagePagination | OffsetPagination)

    @property
    def steady(self) -> bool:
        """Whether the next address can be counted before the last page is read."""
        return self._steady

    def next_known(self, url: str, headers: Any) -> tuple[bool, str | None]:
        """Return whether the next address is known without the body, and that address, None at the end."""
        pagination = self._spec.pagination
        if isinstance(pagination, NoPagination):
            return True, None
        if isinstance(pagination, LinkPagination) and pagination.field is None:
            link = _next_link(headers.get("Link") or "")
            return True, self._noted(urljoin(url, link)) if link else None
        return False, None

    def count_on(self) -> str:
        """Return the address after the last one by counting, before it is known whether there is such a page."""
        pagination = self._spec.pagination
        if isinstance(pagination, OffsetPagination):
            self._offset += pagination.limit
        self._page += 1
        return self._noted(self._numbered())

    def is_last(self, rows: int) -> bool:
        """Say whether a counted page with so many records is the last; raise EngineError when it has too many."""
        pagination = self._spec.pagination
        if isinstance(pagination, OffsetPagination):
            if rows > pagination.limit:
                raise EngineError(
                    f"a page has {rows} records, more than the {pagination.limit} that were asked for",
                    origin=Origin.SOURCE,
                    fix="Set the page size that the API really uses.",
                )
            return rows < pagination.limit
        size = pagination.size if isinstance(pagination, PagePagination) else None
        return rows == 0 or (size is not None and rows < size)

    def next(self, url: str, rows: int, lookup: Lookup) -> str | None:
        """Return the address of the page after ``url``, None at the end; ``lookup`` reads a dotted path of the body."""
        following = self._following(url, rows, lookup)
        return None if following is None else self._noted(following)

    def _following(self, url: str, rows: int, lookup: Lookup) -> str | None:
        match self._spec.pagination:
            case LinkPagination(field=str() as field):
                value = lookup(field)
                return urljoin(url, str(value)) if value else None
            case CursorPagination(parameter=parameter, field=field):
                cursor = lookup(field)
                return None if cursor in (None, "", False) else _with_params(self._base, {parameter: cursor})
            case PagePagination():
                self._page += 1
                self._steady = True
                return None if self.is_last(rows) else self._numbered()
            case OffsetPagination(limit=limit):
                self._offset += rows
                self._steady = rows == limit
                return None if rows < limit else self._numbered()
        return None

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
