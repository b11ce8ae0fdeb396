"""Every ink can be read on every ground that it stands on, in both schemes (WCAG 2.2, 1.4.3: 4.5 to 1)."""

import re
from pathlib import Path

import pytest

TOKENS = Path(__file__).resolve().parent.parent.parent / "static" / "css" / "tokens.css"
COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", TOKENS.read_text())
}
INKS = ("ink", "ink-2", "ink-3", "accent-ink", "good", "bad", "idle")
GROUNDS = ("ground", "panel", "raised", "sunken", "well", "accent-wash", "good-wash", "bad-wash")


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ink", INKS)
def test_every_ink_is_read_on_every_ground(ink: str, scheme: str) -> None:
    faint = {ground: contrast(COLOURS[ink][scheme], COLOURS[ground][scheme]) for ground in GROUNDS}
    assert {ground: ratio for ground, ratio in faint.items() if ratio < 4.5} == {}
