"""Temporaries of processes at work, and of those that were killed."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmtool.errors import OutputError
from pmtool.system import files
from pmtool.system.array_file import write_array


def temporary(path: Path) -> Path:
    with files.temporary_beside(path) as found:
        return found


def test_leftovers_of_a_path_are_not_those_of_one_that_begins_alike(tmp_path: Path) -> None:
    every = [temporary(tmp_path / name) for name in ("p1", "p1.2", "p1.2.3", "p1.old", "q")]
    every[0].mkdir()
    (every[0] / "1.dcm").touch()
    for path in every[1:]:
        path.touch()
    files.remove_leftovers(tmp_path / "p1")
    assert set(tmp_path.iterdir()) == set(every[1:])


def test_machines_have_temporaries_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though their processes have the same number; one may go on where another was killed."""
    monkeypatch.setattr(platform, "node", lambda: "node-1.cluster")
    first = temporary(tmp_path / "a.nrrd")
    monkeypatch.setattr(platform, "node", lambda: "node-2.cluster")
    assert temporary(tmp_path / "a.nrrd") != first
    first.touch()
    files.remove_leftovers(tmp_path / "a.nrrd")
    assert not first.exists()


def test_what_is_flushed_is_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows wants it."""
    monkeypatch.setattr(os, "fsync", lambda number: os.write(number, b""))
    files.write_bytes(b"all", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"all"


def test_a_folder_that_its_former_user_removes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def slow(path: Path, *arguments: Any) -> int:
        opened.append(path)
        if len(opened) == 1:
            path.rmdir()
        return original(path, *arguments)

    original = os.open
    monkeypatch.setattr(os, "open", slow)
    folder = files.folder_lock(tmp_path / "j")
    with folder, pytest.raises(OutputError, match="another"), files.folder_lock(tmp_path / "j"):
        pass
    assert len(opened) == 3
    assert not (tmp_path / "j").exists()


def test_what_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    wanted = rf"{re.escape(str(path))} cannot be written: No such file or directory; make it$"
    with pytest.raises(OutputError, match=wanted), files.writing(path, remedy="; make it"):
        path.touch()
    with pytest.raises(OutputError, match="cannot be written: closed"), files.writing(path):
        raise OSError("closed")


def test_an_array_is_written_whole(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    write_array(values, tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_folders_that_are_removed_during_a_walk_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are listed, and right after it."""
    for name in "abc":
        (tmp_path / name / "in").mkdir(parents=True)

    def listed(folder: str) -> Any:
        place = Path(folder)
        if place.name == "a":
            place.rename(tmp_path / ".a")
        found = original(folder)
        if place.name == "b":
            place.rename(tmp_path / ".b")
        return found

    original = os.scandir
    monkeypatch.setattr(os, "scandir", listed)
    places = [place for place, _, _ in files.walk(tmp_path, lambda error: pytest.fail(str(error)))]
    assert places == [tmp_path, tmp_path / "c", tmp_path / "c" / "in"]
