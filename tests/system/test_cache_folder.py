"""Which of three folders keeps what can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtool.errors import OutputError
from pmtool.system.cache_folder import cache_folder, own_folder


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/own", "/shared", "/own"),
        ("~/own", "/shared", "/home/someone/own"),
        ("", "/shared", "/shared/pmtool"),
        ("", "relative", "/home/someone/.cache/pmtool"),
        ("", "", "/home/someone/.cache/pmtool"),
        (None, None, "/home/someone/.cache/pmtool"),
    ],
)
def test_order_of_precedence(
    own: str | None, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in (("PMTOOL_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_a_relative_own_folder_is_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PMTOOL_CACHE", "kept")
    assert cache_folder() == tmp_path / "kept"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="set PMTOOL_CACHE to another folder"):
        own_folder(tmp_path / "file" / "engines")
