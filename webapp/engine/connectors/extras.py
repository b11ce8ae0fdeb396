"""Libraries that not everybody needs: there or not."""

from importlib.metadata import version
from importlib.util import find_spec

from webapp.engine.errors import EngineError, Kind, Origin


def check_installed(module: str, needed: str, what: str, origin: Origin = Origin.DESTINATION) -> str:
    """Say which library is used; `needed` is its line in requirements-extras.txt. Raises EngineError without it."""
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not there
        found = False
    if not found:
        raise EngineError(
            f"the library for {what} is not installed on this machine",
            origin=origin,
            kind=Kind.SYSTEM,
            fix=f"Install it beside Hohmann and start the workers again: pip install {needed}",
        )
    package = needed.partition("=")[0]
    return f"{package} {version(package)}"
