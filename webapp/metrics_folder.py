"""Where the processes of this machine keep their counts. prometheus_client looks at it when it is imported."""

import os
import shutil

from webapp.config import Settings

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def choose_folder(settings: Settings) -> None:
    """Let the counts of this process lie with those of its instance."""
    folder = settings.run_folder / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)


def forget_counts(settings: Settings) -> None:
    """Begin at zero: for the stack, before it has processes."""
    shutil.rmtree(settings.run_folder / "metrics", ignore_errors=True)
