"""Receipts on their way to whoever watches: one at a time, each stream at most twice a second while it runs."""

import threading
import time
from collections.abc import Callable

from webapp.engine.context import Context
from webapp.engine.sync.plan import StreamReceipt

_PAUSE = 0.5


class Teller:
    """Hands receipts and log lines on; when the listener fails, `broken` ends the whole run."""

    def __init__(self, on_stream: Callable[[StreamReceipt], None], context: Context) -> None:
        self._on_stream = on_stream
        self._context = context
        self._lock = threading.RLock()
        self._told: dict[str, float] = {}
        self.broken: Exception | None = None

    def tell(self, receipt: StreamReceipt, *, now: bool = False) -> None:
        """Tell how a stream stands; `now` when it has just begun or ended."""
        moment = time.monotonic()
        with self._lock:
            if not now and moment - self._told.get(receipt.stream, 0.0) < _PAUSE:
                return
            self._told[receipt.stream] = moment
            self._guarded(lambda: self._on_stream(receipt))

    def log(self, level: str, message: str) -> None:
        """Pass one line on."""
        with self._lock:
            self._guarded(lambda: self._context.reporter.log(level, message))

    def _guarded(self, action: Callable[[], None]) -> None:
        if self.broken is not None:
            return
        try:
            action()
        except Exception as error:  # the run must end, whichever of its threads was speaking
            self.broken = error
