"""Checks of outputs before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmtool.errors import OutputError
from pmtool.system.outputs import names_in, remove_empty


def test_a_folder_must_be_writable_or_the_one_that_it_is_made_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names_in(tmp_path / "new" / "deep") == []
    (tmp_path / "b").touch()
    (tmp_path / "a").mkdir()
    assert names_in(tmp_path) == ["a", "b"]
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        with pytest.raises(OutputError, match=f"{tmp_path} is not writable; choose another"):
            names_in(folder)
    assert names_in(tmp_path / "a") == []


def test_a_file_is_no_folder_and_holds_none(tmp_path: Path) -> None:
    """It is refused before the work, not when a report is written after it."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "report", tmp_path / "file" / "a" / "b"):
        with pytest.raises(OutputError, match=r"file is a file, not a folder: name another folder"):
            names_in(folder)


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="out cannot be made: No such file"):
        names_in(Path("out"))


def test_empty_folders_are_removed_up_to_the_first(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "d" / "kept").touch()
    remove_empty([tmp_path / name for name in ("a/b/c/x", "a/d/x", "e/x", "f/x")], tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a",
        "a/d",
        "a/d/kept",
    ]
