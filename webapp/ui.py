"""What every template can use: asset addresses, the visitor's role, and how numbers and instants are written."""

import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, g, url_for
from markupsafe import Markup, escape

from webapp.accounts.access import ROLE_ORDER, Actor
from webapp.config import Role
from webapp.dates import rfc3339

NUMBERS = re.compile(r"u?(tiny|small|big|huge)?int(eger)?|decimal(\(.*\))?|double|float|real", re.IGNORECASE)
UNITS = ("B", "kB", "MB", "GB", "TB")


def wire_ui(app: Flask) -> None:
    """Give the templates their globals and filters."""
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(asset=asset, may=may)
    app.jinja_env.tests.update(type_of_numbers=is_type_of_numbers)
    app.jinja_env.filters.update(instant=instant, count=count, size=size, duration=duration)


def asset(name: str) -> str:
    """The address of a front-end file, with its content's hash in it."""
    return url_for("static", filename="vendor/" + _manifest().get(name, name))


@cache
def _manifest() -> dict[str, str]:
    path = Path(__file__).parent.parent / "static" / "vendor" / "manifest.json"
    try:
        found: dict[str, str] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return found


def may(role: str) -> bool:
    """Whether the visitor has at least this role in its first project: for showing buttons, never for deciding."""
    actor: Actor | None = g.get("actor")
    if actor is None or not actor.memberships:
        return False
    own = next(iter(actor.memberships.values()))
    return ROLE_ORDER.index(own) >= ROLE_ORDER.index(Role(role))


def is_type_of_numbers(name: str) -> bool:
    """Whether a column of this type stands on the right."""
    return NUMBERS.fullmatch(name) is not None


def instant(value: datetime | None) -> Markup:
    """A `<time>` element: exact in UTC, made relative by the page's script."""
    if value is None:
        return Markup('<span class="quiet">never</span>')
    exact = rfc3339(value) or ""
    return Markup('<time datetime="{}" title="{}">{} UTC</time>').format(
        exact, exact, escape(f"{value:%Y-%m-%d %H:%M:%S}")
    )


def count(value: Any) -> str:
    """A number with thin groups: 1,234,567; a dash for None."""
    return "–" if value is None else f"{value:,}"


def size(value: float | None) -> str:
    """Bytes in the unit that fits."""
    if value is None:
        return "–"
    for unit in UNITS[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {UNITS[-1]}"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: 340 ms, 12.3 s, 4 min 5 s, 2 h 3 min, 6 h, 1 d 4 h."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(at for at, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)
