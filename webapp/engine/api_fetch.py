"""The pages of an API in their order, fetched and read ahead by threads, so that nobody waits twice.

One thread fetches; two read JSON, which PyArrow does outside the interpreter's lock. Where the next address is known
without the body (Link headers), or can be counted (numbered pages, offsets), the next page is fetched while the last is
being read. A counted page that turns out to lie beyond the end is dropped.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

import pyarrow as pa

from webapp.engine import json_values
from webapp.engine.context import Context
from webapp.engine.errors import Cancelled, EngineError
from webapp.engine.http_client import PageFetcher, Request, origin_of
from webapp.engine.json_pages import NotFast, read_fast
from webapp.engine.pagination import Lookup, Walk, circles
from webapp.engine.specs import ApiExtractor

_AHEAD = 4
_READERS = 2
_LOOK = 0.1


@dataclass(frozen=True)
class Page:
    """One page: its bytes, how many records it has, and these as a table where Arrow can read them."""

    body: bytes
    rows: int
    records: pa.Table | None
    lookup: Lookup


def fetched_pages(spec: ApiExtractor, context: Context, *, while_waiting: Callable[[], None]) -> Iterator[Page]:
    """Yield an API's pages in order, calling ``while_waiting`` several times a second until the next one is there.

    Raises EngineError, and Cancelled within a second of being asked to stop.
    """
    fetch = _Fetch(spec, PageFetcher(
        allow_private=context.allow_private_addresses, timeout=spec.timeout, retries=spec.retries))  # fmt: skip
    thread = threading.Thread(target=fetch.run, name="engine-fetch", daemon=True)
    thread.start()
    try:
        while (future := fetch.take(context, while_waiting)) is not None:
            yield _result(future, context)
    finally:
        # The thread may wait on a silent server; it closes its connections at the next byte or time-out.
        fetch.stop()


def _result(future: "Future[Page]", context: Context) -> Page:
    while True:
        if context.cancelled():
            raise Cancelled
        try:
            return future.result(timeout=_LOOK)
        except NotYet:
            continue


class _Fetch:
    """What runs beside the load: fetches page after page and hands each over as soon as it is being read."""

    def __init__(self, spec: ApiExtractor, fetcher: PageFetcher) -> None:
        self._spec = spec
        self._fetcher = fetcher
        self._walk = Walk(spec)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="engine-read")
        self._ready: queue.Queue[Future[Page] | Exception | None] = queue.Queue(_AHEAD)

    def take(self, context: Context, while_waiting: Callable[[], None]) -> "Future[Page] | None":
        """Return the next page, being read; None after the last one."""
        while True:
            if context.cancelled():
                raise Cancelled
            try:
                item = self._ready.get(timeout=_LOOK)
            except queue.Empty:
                while_waiting()
                continue
            if isinstance(item, Exception):
                raise item
            return item

    def stop(self) -> None:
        """Let go of everything that is still under way."""
        self._fetcher.stop()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def run(self) -> None:
        """Fetch until the last page, then say so; an error is handed over in its place."""
        end: Exception | None = None
        try:
            self._pages()
        except Exception as error:  # whatever happens here belongs to the thread that waits for pages
            end = error
        finally:
            self._fetcher.close()
        self._hand_over(end)

    def _pages(self) -> None:
        url: str | None = self._walk.first()
        counted_after: Future[Page] | None = None
        previous = b""
        while url is not None:
            try:
                answer = self._fetcher.fetch(self._request(url))
            except EngineError:
                if counted_after and self._walk.is_last(counted_after.result().rows):
                    return
                raise
            future = self._readers.submit(_read, answer.body, self._spec.records)
            if counted_after and self._walk.is_last(counted_after.result().rows):
                return
            if answer.body == previous and self._walk.numbered and len(previous) > 2:
                raise circles(self._spec.pagination.type)
            previous = answer.body
            self._hand_over(future)
            known, following = self._walk.next_known(url, answer.headers)
            counted_after = None
            if known:
                url = following
            elif self._walk.steady:
                url, counted_after = self._walk.count_on(), future
            else:
                page = future.result()
                url = self._walk.next(url, page.rows, page.lookup)

    def _hand_over(self, item: "Future[Page] | Exception | None") -> None:
        while not self._fetcher.stopped:
            try:
                self._ready.put(item, timeout=_LOOK)
                return
            except queue.Full:
                continue

    def _request(self, url: str) -> Request:
        spec = self._spec
        headers = dict(spec.headers)
        if spec.bearer_token is not None:
            headers["Authorization"] = f"Bearer {spec.bearer_token.get_secret_value()}"
        body = None
        if spec.body is not None:
            body = json.dumps(spec.body).encode()
            headers.setdefault("Content-Type", "application/json")
        return Request(spec.method, url, headers, body, origin_of(spec.url))


def _read(body: bytes, records: str | None) -> Page:
    try:
        fast = read_fast(body, records)
    except NotFast:
        values = json_values.parse_page(body)
        rows = len(json_values.records_of(values, records))
        return Page(body, rows, None, lambda path: json_values.lookup(values, path))
    return Page(body, fast.records.num_rows, fast.records, fast.lookup)
