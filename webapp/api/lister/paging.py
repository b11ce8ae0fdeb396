"""Pages by number, with the absolute addresses of their neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from flask import request

from webapp.errors import NotFound

PAGE_SIZE = 10
LARGEST_PAGE_SIZE = 100


@dataclass(frozen=True)
class Page:
    """A page of `count` things that was asked for by the query's `page` and `page_size`."""

    count: int
    number: int
    size: int

    @property
    def offset(self) -> int:
        """How many things come before it."""
        return (self.number - 1) * self.size

    @property
    def last(self) -> int:
        """The number of the last page; an empty list has one."""
        return max(1, -(-self.count // self.size))

    def show(self, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The answer."""
        following = _address(self.number + 1) if self.number < self.last else None
        previous = _address(self.number - 1) if self.number > 1 else None
        return {"count": self.count, "next": following, "previous": previous, "results": results}


def asked_page(count: int) -> Page:
    """The page that the request wants of `count` things. Raises NotFound for one that is not there."""
    size = _size((request.args.getlist("page_size") or [""])[-1])
    last = Page(count, 1, size).last
    text = (request.args.getlist("page") or [""])[-1] or "1"
    try:
        number = last if text == "last" else int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= last:
        raise NotFound("Invalid page.")
    return Page(count, number, size)


def _size(text: str) -> int:
    """What cannot be a size is passed over, as Django REST framework does."""
    try:
        size = int(text)
    except ValueError:
        return PAGE_SIZE
    return min(size, LARGEST_PAGE_SIZE) if size > 0 else PAGE_SIZE


def _address(number: int) -> str:
    query = parse_qs(request.query_string.decode("utf-8", "replace"), keep_blank_values=True)
    query.pop("page", None)
    if number > 1:
        query["page"] = [str(number)]
    tail = urlencode(sorted(query.items()), doseq=True)
    address = f"{request.scheme}://{request.host}{quote(request.path)}"
    return f"{address}?{tail}" if tail else address
