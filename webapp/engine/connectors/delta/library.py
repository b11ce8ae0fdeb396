"""The deltalake library: there or not, and what it says when something goes wrong, as facts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from webapp.engine.connectors.delta.spec import DeltaWriter
from webapp.engine.connectors.parquet.faults import destination_fault, fault
from webapp.engine.errors import EngineError, Kind

NEEDED = "deltalake==1.6.6"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check_library() -> str:
    """Say which library is used. Raises EngineError when it is not installed."""
    if find_spec("deltalake") is None:
        raise destination_fault(
            "the library for Delta Lake is not installed on this machine",
            f"Install it beside Hohmann and start the workers again: pip install {NEEDED}",
            Kind.SYSTEM,
        )
    import deltalake

    return f"deltalake {deltalake.__version__}"


@contextmanager
def told(config: DeltaWriter, shown: str) -> Iterator[None]:
    """Turn what the library and Arrow raise in the block into EngineErrors without secrets; `shown` is the table."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # the library's errors share no class with those of its stores
        raise _explained(error, config, shown) from None
    except BaseException as error:
        # A panic of its Rust side comes as neither.
        if type(error).__name__ != "PanicException":
            raise
        raise _explained(error, config, shown) from None


def _explained(error: BaseException, config: DeltaWriter, shown: str) -> EngineError:
    text = " ".join(_COLOURS.sub("", str(error)).replace("↳", "").split())
    if secret := config.s3_secret_key.get_secret_value():
        text = text.replace(secret, "***")
    if type(error).__name__ == "CommitFailedError" or "already exists" in text:
        return destination_fault(
            f"{shown} was changed by someone else meanwhile ({text[:200]})",
            "Let one job write the table; this load can be tried again.",
            Kind.TRANSIENT,
        )
    return fault(RuntimeError(text), shown)
