from pathlib import Path

import numpy as np
import pytest

from pmtool.errors import OutputError, UsageError
from pmtool.resampling.journal import Journal, SliceKey

KEY = {"seed": 1, "model": "abc"}
SLICE = SliceKey((3 << 16) + (1 << 15), 0)


def opened(folder: Path, resume: bool = False, discard: bool = False) -> Journal:
    return Journal.open(folder, KEY, resume=resume, discard=discard)


def test_slices_survive(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    opened(tmp_path / "j")[SLICE] = values
    again = opened(tmp_path / "j", resume=True)
    assert SLICE in again
    assert SLICE._replace(sample=1) not in again
    assert np.array_equal(again[SLICE], values)
    again.remove()
    assert not again.exists
    assert not list((tmp_path / "j").iterdir())


def test_damaged_slices_are_missing(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    journal[SLICE] = np.zeros((8, 8), np.int16)
    (file,) = (tmp_path / "j").glob("*.npy")
    for size in (140, 0):
        file.write_bytes(file.read_bytes()[:size])
        assert SLICE not in journal


def test_an_interrupted_run_is_not_lost_unasked(tmp_path: Path) -> None:
    opened(tmp_path / "j")[SLICE] = np.zeros((2, 2), np.int16)
    with pytest.raises(UsageError, match="--resume"):
        opened(tmp_path / "j")
    assert SLICE in opened(tmp_path / "j", resume=True, discard=True)
    assert SLICE not in opened(tmp_path / "j", discard=True)


def test_another_run_cannot_go_on(tmp_path: Path) -> None:
    opened(tmp_path / "j")
    with pytest.raises(UsageError, match="another seed"):
        Journal.open(tmp_path / "j", {**KEY, "seed": 2}, resume=True, discard=False)


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("name", ["mine.npy", "0000abcd-1.npy", ".mine.tmp"])
def test_files_of_others_stay(tmp_path: Path, name: str, discard: bool) -> None:
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match="move them away"):
        opened(tmp_path, discard=discard)
    Journal(tmp_path).remove()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_beside_files_of_others_is_not_discarded(tmp_path: Path) -> None:
    opened(tmp_path)[SLICE] = np.zeros((2, 2), np.int16)
    (tmp_path / "mine.npy").touch()
    with pytest.raises(OutputError, match="move them away"):
        opened(tmp_path, discard=True)
    assert SLICE in opened(tmp_path, resume=True)


def test_remains_of_a_run_that_has_ended_are_replaced(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal[SLICE] = np.zeros((2, 2), np.int16)
    journal.expect([tmp_path / "out.nrrd"])
    (tmp_path / "key.json").unlink()  # killed while it removed its journal
    assert SLICE not in opened(tmp_path)


def test_unwritable(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        opened(tmp_path / "none" / "j")
