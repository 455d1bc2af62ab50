"""Which scans are trained on, and dividing the patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.errors import UsageError
from pmtool.training.cache import Cache, CachedScan
from pmtool.training.selection import (
    Split,
    explicit_split,
    largest_thickness,
    split_patients,
    strides,
    target_spacings,
    thick_scans_text,
    undivided,
    usable,
)
from pmtool.training.settings import CropSettings
from pmtool.training.sources import find_sources

Voxels = NDArray[np.int16]
Writer = Callable[..., list[Path]]
SHAPE = (5, 20, 24)
Noise = Callable[..., Voxels]
Write = Callable[..., Path]


def nothing(label: str, share: float) -> None:
    """Told of progress."""


def cached(patient: str, spacing: float = 1.0, shape: tuple[int, int, int] = SHAPE) -> CachedScan:
    digest = f"voxels of {patient}"
    return CachedScan(Path(patient), patient, patient, spacing, spacing, shape, digest)


class TestSelection:
    def test_series_in_several_folders(
        self, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        """Parts are no scans; of copies one is taken, even of those under another name."""
        voxels = noise(shape=(6, 20, 24))
        for number, file in enumerate(write_dicom(tmp_path / "data" / "a", voxels)):
            part = tmp_path / "data" / "a" / str(number % 2)
            part.mkdir(exist_ok=True)
            file.rename(part / file.name)
        for name, patient in (("b", "Roe"), ("c", "Roe"), ("d", "Poe")):
            write_dicom(tmp_path / "data" / name, voxels, PatientID=patient)
        cache, sources = Cache(tmp_path), find_sources([tmp_path / "data"])
        cache.build(sources, nothing)
        scans, skipped = cache.load(sources)
        assert (len(scans), skipped) == (5, [])
        whole, reasons = undivided(scans)
        assert [scan.patient for scan in whole] == ["Roe"]
        assert len(reasons) == 2
        assert "is a part of a series that lies in 2 folders" in reasons[0]

    def test_patients_are_never_on_both_sides(self) -> None:
        scans = [cached(f"p{number % 20}") for number in range(60)]
        split = split_patients(scans, 0.25, seed=0)
        sides = [{scan.patient for scan in side} for side in split]
        assert not sides[0] & sides[1]
        assert len(sides[1]) == 5
        assert sum(map(len, split)) == 60
        assert split_patients(scans[::-1], 0.25, seed=0).validation == split.validation[::-1]
        others = [split_patients(scans, 0.25, seed=seed).validation for seed in range(1, 5)]
        assert any(other != split.validation for other in others)

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_both_sides_have_a_patient(self, share: float) -> None:
        split = split_patients([cached("a"), cached("b")], share, seed=0)
        assert [len(side) for side in split] == [1, 1]

    def test_a_single_patient(self) -> None:
        with pytest.raises(UsageError, match=r"one patient \(a\).*--validation.*same PatientID"):
            split_patients([cached("a"), cached("a")], 0.1, seed=0)

    def test_explicit_split(self) -> None:
        a, b = cached("a"), cached("b")
        assert explicit_split([a], [b]) == Split([a], [b])
        with pytest.raises(UsageError, match=r"patient b is in both.*same PatientID"):
            explicit_split([a, b], [b])
        copy = replace(a, patient="c", name="c")
        with pytest.raises(UsageError, match="c of the validation data is a copy of a, which"):
            explicit_split([a], [copy])

    @pytest.mark.parametrize(
        ("spacing", "slices", "expected"),
        [
            (1.0, 9, [1, 2, 3]),
            (1.25, 9, [1, 2]),
            (0.5, 6, [1, 2]),
            (1.5004, 5, [1, 2]),
            (3.0, 5, [1]),
            (5.0, 5, []),
        ],
    )
    def test_strides(self, spacing: float, slices: int, expected: list[int]) -> None:
        assert strides(cached("a", spacing, (slices, 64, 64)), CropSettings()) == expected

    def test_strides_that_are_never_drawn(self) -> None:
        scan = cached("a", 1.0, (9, 64, 64))
        assert strides(scan, CropSettings(strides=(0.5, 0, 0.5))) == [1, 3]
        only = CropSettings(strides=(1, 0, 0), thick=1)
        assert target_spacings([scan], only) == (1, 1)
        assert largest_thickness([scan], only) == 2

    @pytest.mark.parametrize(
        ("thick", "spacings", "expected"),
        [(0, (1.0, 3.0), 3), (1, (1.0,), 6), (1, (1.0, 1.25), 6), (1, (1.25,), 5), (1, (3.0,), 6)],
    )
    def test_thickness(self, thick: float, spacings: tuple[float, ...], expected: float) -> None:
        scans = [cached("a", spacing, (40, 64, 64)) for spacing in spacings]
        assert largest_thickness(scans, CropSettings(thick=thick)) == expected

    def test_thickness_of_few_slices(self) -> None:
        scans = [cached("a", 1.0, (5, 64, 64))]
        assert largest_thickness(scans, CropSettings(thick=1)) == 2

    def test_what_cannot_be_used(self) -> None:
        good = cached("good", shape=(5, 64, 64))
        far = cached("far", 5.0, (5, 64, 64))
        kept, said = usable([good, far, cached("small")], CropSettings())
        assert kept == [good]
        assert [sentence.split(",")[0] for sentence in said] == [
            "far has slices 5 mm apart",
            "small has slices of 24x20",
        ]
        assert "slices are thicker or further apart than 3 mm in 1 scan, such as" in (
            thick_scans_text([good, far], CropSettings()) or ""
        )
        assert thick_scans_text([good], CropSettings()) is None
