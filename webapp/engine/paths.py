"""Which files a load may touch: those under the allowed roots, links resolved, every match of a pattern checked."""

import glob
import os
from pathlib import Path

from webapp.engine.context import Context
from webapp.engine.errors import EngineError, Kind, Origin

_PATTERN = frozenset("*?[")


def has_pattern(text: str) -> bool:
    """Say whether a path is a pattern for many."""
    return not _PATTERN.isdisjoint(text)


def allowed_path(text: str, context: Context, *, origin: Origin) -> Path:
    """Return the real path of a file or folder, which need not exist; raise EngineError when it lies elsewhere."""
    given = Path(text)
    try:
        real = Path(os.path.realpath(context.data_root / given))
    except (OSError, ValueError) as error:
        raise EngineError(f"{text!r} is not a usable path: {error}", origin=origin, path=text) from error
    roots = (context.data_root, *context.allowed_roots)
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        raise EngineError(
            f"{text!r} lies outside the folders that this instance may use",
            origin=origin,
            fix="Put the file under the data folder, or ask the operator to allow its folder.",
            path=text,
        )
    return real


def check_pattern(text: str, context: Context) -> None:
    """Refuse a pattern whose fixed part, or any ``..`` in it, leads outside the allowed roots."""
    parts = Path(text).parts
    if ".." in parts and has_pattern(text):
        raise EngineError(f"{text!r}: a pattern holds no '..'", origin=Origin.SOURCE, path=text)
    fixed: list[str] = []
    for part in parts:
        if has_pattern(part):
            break
        fixed.append(part)
    allowed_path(str(Path(*fixed)) if fixed else ".", context, origin=Origin.SOURCE)


def source_files(text: str, context: Context, *, endings: tuple[str, ...]) -> list[Path]:
    """Return the real paths that a source's path names, in order: a file, a folder's files, or a pattern's matches.

    Raises EngineError when there is none, or when one lies outside the allowed roots.
    """
    plain = context.data_root / text
    if has_pattern(text) and not plain.exists():
        check_pattern(text, context)
        matches = sorted(glob.glob(str(plain), recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
        found = [match for match in matches if Path(match).is_file()]
    else:
        real = allowed_path(text, context, origin=Origin.SOURCE)
        found = _folder_files(real, endings) if real.is_dir() else [str(real)]
    if not found:
        raise _missing(text, f"no file matches {text!r}")
    files = [allowed_path(name, context, origin=Origin.SOURCE) for name in found]
    for file in files:
        _check_readable(text, file)
    return files


def _folder_files(folder: Path, endings: tuple[str, ...]) -> list[str]:
    names = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name.lower().endswith(endings) and not Path(name).name.startswith((".", "_"))]


def _check_readable(text: str, file: Path) -> None:
    if not file.exists():
        raise _missing(text, f"the file {text!r} is not there")
    if not file.is_file():
        raise EngineError(f"{text!r} is not a regular file", origin=Origin.SOURCE, path=text)
    if not os.access(file, os.R_OK):
        raise EngineError(
            f"{text!r} may not be read",
            origin=Origin.SOURCE,
            kind=Kind.SYSTEM,
            path=text,
            fix="Give the worker's user the right to read it.",
        )


def _missing(text: str, message: str) -> EngineError:
    return EngineError(
        message, origin=Origin.SOURCE, fix="Check the path; a relative one begins at the data folder.", path=text
    )
