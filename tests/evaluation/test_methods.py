"""Classical methods against SimpleITK in three dimensions; PixelMiner against `pmtool.resample`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.errors import ContentError, GeometryError, MemoryBudgetError
from pmtool.evaluation.method_options import MethodOptions, chosen_methods
from pmtool.evaluation.methods import (
    CLASSICAL,
    Classical,
    Sampled,
    external,
    load_external,
)
from pmtool.evaluation.scan import ThinScan
from pmtool.evaluation.volumes import Volumes
from pmtool.images.reading import ReadingOptions
from pmtool.loading import load_volume
from pmtool.models.bundle import Bundle
from pmtool.phantom.chest import chest_phantom
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.sampler import Sampler


def scan_of(image: sitk.Image) -> ThinScan:
    return ThinScan("scan", Volumes({"scan": lambda: load_volume(image)}))


@pytest.fixture
def thin() -> sitk.Image:
    """Nine slices of smoothed noise, 1.25 mm apart."""
    values = np.random.default_rng(7).normal(0, 900, (9, 14, 12))
    image: sitk.Image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(values), 1.0)
    image = sitk.Cast(sitk.Round(image), sitk.sitkInt16)
    image.SetSpacing((0.7, 0.7, 1.25))
    image.SetOrigin((3.0, -4.0, 50.0))
    return image


@pytest.mark.parametrize("name", CLASSICAL)
def test_equal_to_simpleitk_in_three_dimensions(name: str, thin: sitk.Image) -> None:
    scan = scan_of(thin)
    kept = sitk.Cast(thin[:, :, ::2], sitk.sitkFloat64)
    made = sitk.Resample(kept, thin, sitk.Transform(), CLASSICAL[name], 0.0, sitk.sitkFloat64)
    expected = sitk.GetArrayFromImage(made)
    make = Classical(name).maker(scan, list(scan.dropped), lambda done: None)
    for index in scan.dropped:
        np.testing.assert_allclose(make(index), expected[index], atol=0.5 + 1e-6)
        assert make(index).dtype == np.int16


def test_stack_of_another_axis(thin: sitk.Image) -> None:
    turned = sitk.PermuteAxes(thin, (2, 0, 1))
    one, other = scan_of(thin), scan_of(turned)
    make, make_turned = (
        Classical("bspline").maker(s, [3], lambda done: None) for s in (one, other)
    )
    assert np.array_equal(make(3), make_turned(3))
    assert other.pixel == (0.7, 0.7)


def test_external_volumes(thin: sitk.Image, tmp_path: Path) -> None:
    scan = scan_of(thin[:, :, :8])
    files = {"whole": thin[:, :, :8], "short": thin[:, :, :7], "other": thin[:, :, 1:8]}
    files["coarse"] = thin[:, :, ::2]
    for name, image in files.items():
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    for name in ("whole", "short"):  # the last one of 8 has no kept slice after it
        method = external("other", [scan], [tmp_path / f"{name}.nrrd"])
        make = method.maker(scan, [5], lambda done: None)
        assert np.array_equal(make(5), scan.truth(5))
    for name, different in {"other": "origin", "coarse": "size and spacing"}.items():
        with pytest.raises(GeometryError, match=rf"another grid than .*, of other {different};"):
            load_external(tmp_path / f"{name}.nrrd", scan)


@pytest.mark.parametrize("flips", [(0, 1, 0), (1, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("count", [7, 8])
def test_external_volumes_with_other_axes_are_turned(
    thin: sitk.Image,
    tmp_path: Path,
    flips: tuple[int, ...],
    order: tuple[int, ...],
    count: int,
) -> None:
    """As other programs make NIfTI of a DICOM series, with all 8 slices or up to the last kept."""
    scan, path = scan_of(thin[:, :, :8]), tmp_path / "other.nii.gz"
    flipped = sitk.Flip(thin[:, :, :count], [bool(flip) for flip in flips])
    sitk.WriteImage(sitk.PermuteAxes(flipped, order), str(path))
    volume = load_external(path, scan)
    assert np.array_equal(volume.slices, scan.volume.slices[:count])
    assert volume.slices.dtype == np.int16


def test_external_volumes_that_need_no_turn_keep_their_digest(
    thin: sitk.Image, tmp_path: Path
) -> None:
    """By which their scores are kept."""
    sitk.WriteImage(thin, str(tmp_path / "other.nrrd"))
    digest = load_external(tmp_path / "other.nrrd", scan_of(thin)).digest()
    assert digest == load_volume(tmp_path / "other.nrrd").digest()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_external_voxels_that_are_no_number(value: float, thin: sitk.Image, tmp_path: Path) -> None:
    scan, image = scan_of(thin), sitk.Cast(thin, sitk.sitkFloat32)
    image[3, 4, 5] = value
    sitk.WriteImage(image, str(tmp_path / "other.nrrd"))
    with pytest.raises(ContentError, match=r"other\.nrrd has NaN or infinite voxels"):
        load_external(tmp_path / "other.nrrd", scan)


def normalised(image: sitk.Image) -> sitk.Image:
    """The volume in [0, 1], as networks take it."""
    scaled: sitk.Image = sitk.RescaleIntensity(sitk.Cast(image, sitk.sitkFloat32), 0, 1)
    return scaled


def test_external_voxels_that_are_not_hu(thin: sitk.Image, tmp_path: Path) -> None:
    scan, path = scan_of(thin), tmp_path / "other.nrrd"
    sitk.WriteImage(normalised(thin), str(path))
    with pytest.raises(ContentError, match=r"other\.nrrd cannot be in HU: .* in \[0, 1\]"):
        load_external(path, scan)
    load_external(path, scan, ReadingOptions(assume_hu=True))
    sitk.WriteImage(sitk.Cast(255 * normalised(thin), sitk.sitkUInt8), str(path))
    with pytest.raises(ContentError, match=r"other\.nrrd has uint8 voxels"):
        load_external(path, scan, ReadingOptions(assume_hu=True))


def test_large_external_volumes(
    thin: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, path = scan_of(thin), tmp_path / "other.nrrd"
    sitk.WriteImage(thin, str(path))
    monkeypatch.setattr("pmtool.system.limits.MAX_INPUT", thin.GetNumberOfPixels())
    with pytest.raises(MemoryBudgetError, match="--allow-large"):
        load_external(path, scan)
    load_external(path, scan, ReadingOptions(allow_large=True))


def test_the_series_of_the_scan_is_not_that_of_another_tool(
    thin: sitk.Image, tmp_path: Path
) -> None:
    sitk.WriteImage(thin, str(tmp_path / "other.nrrd"))
    reading = ReadingOptions(series_uid="1.2.3")
    load_external(tmp_path / "other.nrrd", scan_of(thin), reading)


def test_pixelminer_makes_what_resample_makes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = Bundle.load()
    image = chest_phantom(size=64, slices=5, spacing=(5.6, 5.6, 1.25))
    scan = scan_of(image)
    method = Sampled("pixelminer", Sampler(bundle, SamplerOptions(seed=4, threads=1)), tmp_path)
    told: list[float] = []
    make = method.maker(scan, [3], told.append)
    assert told
    kept = image[:, :, ::2]
    fine = sitk.GetArrayFromImage(pmtool.resample(kept, 1.25, seed=4, threads=1, thickness=1.25))
    assert np.array_equal(make(3), fine[3])
    told.clear()
    assert np.array_equal(method.maker(scan, [3], told.append)(3), fine[3])  # kept, not made again
    assert not told
    (folder,) = tmp_path.glob("slices-*")
    shutil.rmtree(folder)
    assert np.array_equal(method.maker(scan, [], told.append)(3), fine[3])  # not asked for before


def test_distances_that_the_model_does_not_know_are_told(
    thin: sitk.Image, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pytest.importorskip("onnxruntime")
    options = MethodOptions(methods=("pixelminer",))
    chosen_methods([scan_of(thin)], tmp_path, options)
    assert not recwarn.list
    thin.SetSpacing((0.7, 0.7, 5.0))
    with pytest.warns(UserWarning, match="generated at 5 mm, outside the 1 to 3 mm"):
        chosen_methods([scan_of(thin)], tmp_path, options)
