"""One message over the wire, signed as the Standard Webhooks specification (1.0) has it; redirects are not followed."""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError

from webapp.engine.addresses import checked_address
from webapp.engine.errors import EngineError, Kind

TIMEOUT = urllib3.Timeout(connect=5.0, read=10.0)
LONGEST_ANSWER = 2000
GONE = 410


@dataclass(frozen=True)
class Message:
    """What goes where."""

    url: str
    secret: str
    id: str
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """How an attempt went: the status and the beginning of the answer, or why there was none."""

    status: int | None = None
    answer: str | None = None
    error: str | None = None
    is_final: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more messages."""
        return self.status == GONE


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    key = base64.b64decode(secret.partition("_")[2])
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def send(message: Message, *, allow_private: bool) -> Outcome:
    """Send it once, to an address that was checked at this moment."""
    parts = urlsplit(message.url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    try:
        address = checked_address(host, port, allow_private=allow_private)
    except EngineError as error:
        return Outcome(error=f"{error}. {error.fix or ''}".strip(), is_final=error.kind is not Kind.TRANSIENT)
    tls = {"server_hostname": host, "assert_hostname": host, "cert_reqs": "CERT_REQUIRED"} if is_tls else {}
    kind = urllib3.HTTPSConnectionPool if is_tls else urllib3.HTTPConnectionPool
    timestamp = int(time.time())
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "Hohmann",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(message.secret, message.id, timestamp, message.body),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with kind(address, port, timeout=TIMEOUT, retries=False, **tls) as pool:  # type: ignore[arg-type]
            answer = pool.request(
                "POST", target, body=message.body, headers=headers, redirect=False, preload_content=False
            )
            text = answer.read(LONGEST_ANSWER, decode_content=False).decode("utf-8", "replace").replace("\x00", " ")
            answer.close()
    except (HTTPError, OSError) as error:
        return Outcome(error=f"{host} port {port} {_in_words(error)}"[:500])
    shown = f"the receiver answered {answer.status}" if not 200 <= answer.status < 300 else None
    return Outcome(answer.status, text, shown, is_final=answer.status == GONE)


def _in_words(error: Exception) -> str:
    """Why a receiver gave no answer."""
    reason = error.__cause__ if isinstance(error, NewConnectionError) else error
    if isinstance(reason, OSError) and reason.strerror:
        return f"does not answer: {reason.strerror}."
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "did not answer in time."
    return f"gave no answer: {error or type(error).__name__}"
