"""A part that a machine lacks never passes for a test that ran."""

import os
from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.missing import missing


def test_on_ci_a_missing_part_fails_the_test_and_elsewhere_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs a harp"):
        missing("a harp")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"^needs a harp"):
        missing("a harp")


def test_on_ci_a_disk_that_cannot_be_mounted_fails_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.fail.Exception, match="mount a small disk"), small_disk(tmp_path / "small", megabytes=1):
        pass
