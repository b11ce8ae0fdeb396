"""The documentation can be found and followed: each page is in an index, each link leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def links(page: Path) -> set[Path]:
    """The files of this repository that a page links to."""
    targets = LINK.findall(page.read_text())
    return {(page.parent / target).resolve() for target in targets if "://" not in target}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file(page: Path) -> None:
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_each_page_is_in_the_index() -> None:
    assert set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "README.md"} <= links(ROOT / "docs" / "README.md")


def test_each_decision_is_in_the_list_of_decisions() -> None:
    assert set((ROOT / "docs" / "decisions").glob("*.md")) <= links(ROOT / "docs" / "decisions.md")


def test_the_readme_fits_on_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 80
