"""Fetching pages over HTTP: addresses checked and pinned, redirects checked again, time and size bounded."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, TypeVar
from urllib.parse import SplitResult, parse_qsl, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    NewConnectionError,
    ProtocolError,
    SSLError,
    TimeoutError,  # noqa: A004  urllib3's own, which does not derive from the built-in
)

from webapp.engine.addresses import checked_address
from webapp.engine.errors import Cancelled, EngineError, Kind, Origin

_CONNECT_TIMEOUT = 10.0
_PAGE_TIME = 300.0
_PAGE_SIZE = 64 * 1024 * 1024
_REDIRECTS = 10
_CHUNK = 1 << 18
_LONGEST_PAUSE = 30.0
_REDIRECT = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """One page as it came: its final address, headers and body."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Request:
    """One request; ``headers`` are those of the user, sent only to ``trusted``, the origin that they were given for."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    trusted: tuple[str, str, int]


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address; raise EngineError when it is not an http(s) address."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise EngineError(f"{_shown(url)!r} is not an http or https address", origin=Origin.SOURCE)
    return parts.scheme, parts.hostname.lower(), port or (443 if parts.scheme == "https" else 80)


class PageFetcher:
    """Fetches pages one after the other over kept connections; ``stop`` from another thread ends it at once."""

    def __init__(self, *, allow_private: bool, timeout: float, retries: int) -> None:
        self._allow_private = allow_private
        self._timeout = timeout
        self._retries = retries
        self._pools: dict[tuple[str, str, int], urllib3.HTTPConnectionPool] = {}
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give up: no retry, no further page."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether someone gave up."""
        return self._stopped.is_set()

    def close(self) -> None:
        """Close the kept connections."""
        for pool in self._pools.values():
            pool.close()

    def fetch(self, request: Request) -> Answer:
        """Fetch one page, again after 429, 5xx and lost connections; raises EngineError, Cancelled when stopped."""
        return self._retried(lambda: self._answer(request, *self._reached(request)))

    def save(self, request: Request, file: BinaryIO) -> None:
        """Fetch what may be large into a file, with the same care as `fetch`; the caller bounds the disk."""
        self._retried(lambda: self._saved(request, file))

    def _retried(self, action: Callable[[], Result]) -> Result:
        attempt = 0
        while True:
            try:
                return action()
            except EngineError as error:
                if error.kind is not Kind.TRANSIENT or attempt >= self._retries:
                    raise
                self._pause(attempt, error.facts.get("retry_after"))
                attempt += 1

    def _pause(self, attempt: int, wanted: float | None) -> None:
        pause = min(0.25 * 2**attempt * random.uniform(1.0, 1.5), _LONGEST_PAUSE)  # noqa: S311  spreads load only
        if self._stopped.wait(min(max(pause, wanted or 0.0), 2 * _LONGEST_PAUSE)):
            raise Cancelled

    def _reached(self, request: Request) -> tuple[str, urllib3.BaseHTTPResponse]:
        """The answer behind all redirects, and its address."""
        url, method, body = request.url, request.method, request.body
        seen: set[str] = set()
        for _ in range(_REDIRECTS + 1):
            headers = dict(request.headers) if origin_of(url) == request.trusted else {}
            response = self._send(method, url, headers, body)
            if response.status not in _REDIRECT:
                return url, response
            target = urljoin(url, response.headers.get("Location") or "")
            response.drain_conn()
            if target in seen or (target == url and method == "GET"):
                break
            seen.add(url)
            url = target
            if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                method, body = "GET", None
        raise EngineError(
            f"{_shown(request.url)} redirects in a loop or too often", origin=Origin.SOURCE, url=_shown(request.url)
        )

    def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> urllib3.BaseHTTPResponse:
        if self._stopped.is_set():
            raise Cancelled
        origin, parts = origin_of(url), urlsplit(url)
        pool = self._pool(origin)
        sent = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "hohmann",
                **headers, "Host": _host_header(parts)}  # fmt: skip
        try:
            return pool.urlopen(
                method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body=body, headers=sent,
                retries=False, redirect=False, preload_content=False, decode_content=True, assert_same_host=False,
                timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=self._timeout),
            )  # fmt: skip
        except (HTTPError, OSError, ValueError) as error:
            raise _unreached(url, error) from error

    def _pool(self, origin: tuple[str, str, int]) -> urllib3.HTTPConnectionPool:
        if origin not in self._pools:
            scheme, host, port = origin
            address = checked_address(host, port, allow_private=self._allow_private)
            # The checked address is what is connected to: a second look-up could answer differently (DNS rebinding).
            self._pools[origin] = (
                urllib3.HTTPSConnectionPool(address, port, maxsize=1, server_hostname=host, assert_hostname=host)
                if scheme == "https"
                else urllib3.HTTPConnectionPool(address, port, maxsize=1)
            )
        return self._pools[origin]

    def _answer(self, request: Request, url: str, response: urllib3.BaseHTTPResponse) -> Answer:
        _check_status(request, url, response)
        body = self._body(url, response)
        return Answer(url, response.headers, body)

    def _saved(self, request: Request, file: BinaryIO) -> None:
        url, response = self._reached(request)
        _check_status(request, url, response)
        file.seek(0)
        file.truncate()
        try:
            for chunk in response.stream(_CHUNK, decode_content=True):
                if self._stopped.is_set():
                    raise Cancelled
                file.write(chunk)
        except (HTTPError, TimeoutError) as error:
            raise _unreached(url, error) from error
        finally:
            response.close()

    def _body(self, url: str, response: urllib3.BaseHTTPResponse) -> bytes:
        parts: list[bytes] = []
        whole = False
        size, deadline = 0, time.monotonic() + _PAGE_TIME
        try:
            for chunk in response.stream(_CHUNK, decode_content=True):
                size += len(chunk)
                parts.append(chunk)
                if self._stopped.is_set():
                    raise Cancelled
                if size > _PAGE_SIZE:
                    raise EngineError(f"a page of {_shown(url)} is larger than {_PAGE_SIZE >> 20} MB",
                                      origin=Origin.SOURCE, url=_shown(url), fix="Ask for smaller pages.")  # fmt: skip
                if time.monotonic() > deadline:
                    raise _transient(f"{_shown(url)} took more than {_PAGE_TIME:.0f} s for one page", url)
            whole = True
        except (HTTPError, OSError) as error:
            raise _unreached(url, error) from error
        finally:
            # After a body that was not read to its end the connection cannot carry another page.
            (response.release_conn if whole else response.close)()
        return b"".join(parts)


def _check_status(request: Request, url: str, response: urllib3.BaseHTTPResponse) -> None:
    if response.status < 300:
        return
    snippet = ""
    # The status says enough when the rest of the answer breaks off.
    with contextlib.suppress(HTTPError, OSError):
        snippet = response.read(500, decode_content=True).decode("utf-8", "replace")
    response.close()
    raise _bad_status(url, response.status, response.headers.get("Retry-After"), _without_secrets(snippet, request))


def _host_header(parts: SplitResult) -> str:
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port}" if parts.port else shown


def _bad_status(url: str, status: int, retry_after: str | None, snippet: str) -> EngineError:
    facts: dict[str, Any] = {"url": _shown(url), "status": status, "answer": " ".join(snippet.split())[:200]}
    said = f"{_shown(url)} answered {status}"
    if status >= 500 or status in _BUSY:
        return EngineError(said, origin=Origin.SOURCE, kind=Kind.TRANSIENT, retry_after=_seconds(retry_after), **facts,
                           fix="The server is busy or broken: try again later.")  # fmt: skip
    fixes = {401: "Check the token.", 403: "Check the token's rights.", 404: "Check the address."}
    return EngineError(said, origin=Origin.SOURCE, fix=fixes.get(status, "Check the request's settings."), **facts)


def _without_secrets(text: str, request: Request) -> str:
    """What a server said, without what it may have echoed of our headers and our query."""
    sent = [value.removeprefix("Bearer ") for value in request.headers.values()]
    sent += [value for _, value in parse_qsl(urlsplit(request.url).query)]
    for value in sent:
        if len(value) > 3:
            text = text.replace(value, "...")
    return text


def _seconds(retry_after: str | None) -> float | None:
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _unreached(url: str, error: Exception) -> EngineError:
    shown = _shown(url)
    if isinstance(error, SSLError):
        return EngineError(f"{shown}: the TLS connection is refused: {error}", origin=Origin.SOURCE, url=shown,
                           fix="Check the server's certificate.")  # fmt: skip
    # A refused connection is a time-out, too, for urllib3; the narrower word comes first.
    if isinstance(error, NewConnectionError | ConnectionRefusedError):
        return _transient(f"{shown} cannot be reached: no connection", url)
    if isinstance(error, TimeoutError | socket.timeout):
        return _transient(f"{shown} did not answer in time", url)
    if isinstance(error, ProtocolError | OSError):
        return _transient(f"{shown} broke the connection off", url)
    return EngineError(f"{shown} cannot be asked: {type(error).__name__}", origin=Origin.SOURCE, url=shown)


def _transient(message: str, url: str) -> EngineError:
    return EngineError(message, origin=Origin.SOURCE, kind=Kind.TRANSIENT, url=_shown(url),
                       fix="Check that the server runs and can be reached from here.")  # fmt: skip


def _shown(url: str) -> str:
    """An address for messages, without its query, where keys are often found."""
    return url.split("?", 1)[0].split("#", 1)[0]
