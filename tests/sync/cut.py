"""A sync in a process of its own that is killed, as by `kill -9`, when so many chunks of its stream are done.

The first argument is a file with the run: `spec` (as SyncSpec takes it, streams as JSON), `folder`, `chunks`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from webapp.engine.context import Context, Silence
from webapp.engine.sync.plan import StreamPlan, StreamReceipt, SyncSpec
from webapp.engine.sync.runner import run_sync


def main(run: dict[str, Any]) -> None:
    seen: list[StreamReceipt] = []

    def cancelled() -> bool:
        if seen and seen[0].chunks_done >= run["chunks"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    folder = Path(run["folder"])
    context = Context(folder, (folder,), folder / "warehouse.duckdb", folder / "temp", Silence(), cancelled=cancelled,
                      allow_private_addresses=True)  # fmt: skip
    spec = SyncSpec(**{**run["spec"], "streams": [StreamPlan.from_json(one) for one in run["spec"]["streams"]]})
    run_sync(spec, context, lambda receipt: None if seen else seen.append(receipt))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
