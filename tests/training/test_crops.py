"""Crops: where they come from, what is done to them, and that nothing but numbers decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import DataLoader

from pmtool.training.augment import CROP_MARGIN, FREQUENCIES, Augmentation, filtered
from pmtool.training.cache import Cache, CachedScan
from pmtool.training.crops import Crops, Triplets, draw_place
from pmtool.training.settings import (
    CropSettings,
    Settings,
)
from pmtool.training.sources import find_sources

NO_CHANGE = Augmentation(zoom=0, kernel=0, spectrum=0, noise=0, contrast=0)
SETTINGS = Settings(
    crops=CropSettings(size=16, thick=0, body_share=0),
    augmentation=NO_CHANGE,
)
COUNT = 8


def cached(folder: Path, *arrays: NDArray[np.int16], spacing: float = 1.0) -> list[CachedScan]:
    """Scans of a patient each, in the cache."""
    for number, voxels in enumerate(arrays):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.7, 0.7, spacing))
        sitk.WriteImage(image, str(folder / f"{number}.nrrd"))
    (folder / "cache").mkdir()
    cache, sources = Cache(folder / "cache"), find_sources([folder])
    cache.build(sources, lambda label, share: None)
    return cache.load(sources)[0]


@pytest.fixture
def noisy(tmp_path: Path) -> list[CachedScan]:
    rng = np.random.default_rng(0)
    return cached(
        tmp_path,
        *(rng.integers(-1024, 3000, (n, 40, 36)).astype(np.int16) for n in (8, 13)),
    )


@pytest.fixture
def ramp(tmp_path: Path) -> list[CachedScan]:
    """Every voxel says where it is: 100 for a slice, 1 for a row; -10,000 is out of the way."""
    z, y, _ = np.indices((12, 40, 36))
    return cached(tmp_path, (100 * z + y - 900).astype(np.int16))


class TestCrops:
    def test_a_function_of_seed_and_step(self, noisy: list[CachedScan]) -> None:
        settings = replace(SETTINGS, augmentation=Augmentation())
        one, other = Crops(noisy, settings, COUNT), Crops(noisy, settings, COUNT)
        batch = one[5]
        one[6]
        torch.testing.assert_close(one[5], batch, rtol=0, atol=0)
        torch.testing.assert_close(other[5], batch, rtol=0, atol=0)
        assert (one[6].slices != batch.slices).any()
        assert (Crops(noisy, replace(settings, seed=1), COUNT)[5].slices != batch.slices).any()
        assert batch.slices.shape == (8, 3, 16, 16)
        assert batch.slices.dtype == batch.relative_thickness.dtype == torch.float32
        assert batch.slices.abs().max() <= 1
        assert batch.relative_thickness.shape == (8, 1, 1, 1)

    @pytest.mark.parametrize("fixed", [False, True])
    def test_processes_share_a_step(self, noisy: list[CachedScan], fixed: bool) -> None:
        whole = Crops(noisy, SETTINGS, COUNT, fixed=fixed)[3]
        parts = [Crops(noisy, SETTINGS, COUNT, (rank, 3), fixed=fixed)[3] for rank in range(3)]
        for rank, part in enumerate(parts):
            expected = Triplets(*(x[rank::3] for x in whole))
            torch.testing.assert_close(part, expected, rtol=0, atol=0)

    def test_workers_change_nothing(self, noisy: list[CachedScan]) -> None:
        crops = Crops(noisy, replace(SETTINGS, augmentation=Augmentation()), COUNT)
        loader = DataLoader(crops, batch_size=None, sampler=range(2, 6), num_workers=2)
        for step, batch in enumerate(loader, 2):
            torch.testing.assert_close(batch, crops[step], rtol=0, atol=0)

    def test_slices_are_a_stride_apart_and_flipped(self, ramp: list[CachedScan]) -> None:
        settings = replace(SETTINGS, crops=replace(SETTINGS.crops, strides=(1, 1, 1)))
        seen = set()
        for step in range(200):
            crop = Crops(ramp, settings, COUNT).crop(step, 0).slices
            along_z, along_y = np.diff(crop, axis=0), np.diff(crop, axis=1)
            assert (along_z == along_z.flat[0]).all()
            assert (along_y == along_y.flat[0]).all()
            seen.add((int(along_z.flat[0]), int(along_y.flat[0])))
        assert seen == {(100 * z, y) for z in (-3, -2, -1, 1, 2, 3) for y in (-1, 1)}

    def test_strides_by_their_probabilities(self, ramp: list[CachedScan]) -> None:
        settings = replace(SETTINGS, crops=replace(SETTINGS.crops, strides=(0.6, 0.0, 0.4)))
        crops = Crops(ramp, settings, COUNT)
        found = [
            abs(int(crops.crop(step, 0).slices[1, 0, 0]) - crops.crop(step, 0).slices[0, 0, 0])
            // 100
            for step in range(300)
        ]
        assert set(found) == {1, 3}
        assert found.count(3) / 300 == pytest.approx(0.4, abs=0.1)

    def test_spacing_limits_the_strides(self, tmp_path: Path) -> None:
        z, _, _ = np.indices((12, 20, 20))
        scans = cached(tmp_path, (100 * z - 900).astype(np.int16), spacing=1.6)
        crops = Crops(scans, SETTINGS, COUNT)
        steps = {int(np.diff(crops.crop(step, 0).slices[:, 0, 0])[0]) for step in range(50)}
        assert steps == {-100, 100}

    def doubling(self, folder: Path, slices: int) -> set[tuple[tuple[int, ...], float]]:
        """Triplets of thick slices from slices of 1, 2, 4, 8 ... HU, and their thickness."""
        voxels = np.tile(2 ** np.arange(slices)[:, None, None], (1, 20, 20)).astype(np.int16)
        voxels[:, 0] = -500
        settings = replace(SETTINGS, crops=CropSettings(16, (0.5, 0.5), thick=1, body_share=0))
        crops = Crops(cached(folder, voxels), settings, 1)
        drawn = [crops.crop(step, 0) for step in range(300)]
        hu = [np.median(crop.slices, axis=(1, 2)).astype(int).tolist() for crop in drawn]
        return {
            (tuple(sorted(x)), crop.relative_thickness) for x, crop in zip(hu, drawn, strict=True)
        }

    @pytest.mark.parametrize("slices", [12, 7])
    def test_thick_slices_are_means_that_touch_at_most(self, slices: int, tmp_path: Path) -> None:
        hu = 2.0 ** np.arange(slices)
        possible = {
            (
                tuple(round(hu[z : z + thickness].mean()) for z in (first, first + stride, end)),
                thickness / (2 * stride),
            )
            for stride in (1, 2)
            for thickness in range(2, 2 * stride + 1)
            for first in range(slices)
            if (end := first + 2 * stride) + thickness <= slices
        }
        assert self.doubling(tmp_path, slices) == possible

    @pytest.mark.parametrize(
        ("thickness", "stride", "expected"), [(1.6, 1, 0.5), (3.2, 1, 1.0), (1.6, 2, 0.25)]
    )
    def test_thickness_as_a_share_of_the_distance(
        self, thickness: float, stride: int, expected: float, tmp_path: Path
    ) -> None:
        voxels = np.random.default_rng(0).integers(-1000, 1000, (12, 20, 20)).astype(np.int16)
        (scan,) = cached(tmp_path, voxels, spacing=1.6)
        strides = (1e-9, 1.0)[2 - stride :]
        settings = replace(
            SETTINGS, crops=replace(SETTINGS.crops, strides=strides, max_spacing_mm=5)
        )
        crops = Crops([replace(scan, thickness=thickness)], settings, COUNT)
        assert crops[0].relative_thickness.unique().tolist() == pytest.approx([expected])

    def test_too_few_slices_stay_thin(self, tmp_path: Path) -> None:
        assert self.doubling(tmp_path, 3) == {((1, 2, 4), 0.5)}

    def test_validation_is_fixed_and_as_acquired(self, ramp: list[CachedScan]) -> None:
        settings = replace(SETTINGS, crops=replace(SETTINGS.crops, thick=1))
        crops = Crops(ramp, replace(settings, augmentation=Augmentation()), COUNT, fixed=True)
        found = np.stack([crops.crop(0, number).slices for number in crops.numbers])
        assert (np.diff(found, axis=1) == 100).all()
        assert (np.diff(found, axis=2) == 1).all()
        assert len({crop.tobytes() for crop in found}) > 1

    def test_scans_are_drawn_by_their_triplets(self, tmp_path: Path) -> None:
        short, long = (np.full((n, 20, 20), hu, np.int16) for n, hu in ((4, -100), (10, 100)))
        short[:, 0], long[:, 0] = -500, -500
        crops = Crops(cached(tmp_path, short, long), SETTINGS, 1)
        share = np.mean([np.median(crops.crop(step, 0).slices) == 100 for step in range(500)])
        assert share == pytest.approx(8 / 10, abs=0.06)

    def test_a_scan_as_small_as_a_crop(self, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).integers(-1000, 1000, (3, 16, 16)).astype(np.int16)
        crops = Crops(cached(tmp_path, voxels), SETTINGS, 1, fixed=True)
        np.testing.assert_array_equal(crops.crop(0, 0).slices, voxels)

    def test_values_beyond_the_window_are_cut(self, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).integers(-3000, 9000, (3, 30, 30)).astype(np.int16)
        scans = cached(tmp_path, voxels)
        for augmentation in (
            NO_CHANGE,
            Augmentation(kernel=1, spectrum=1, contrast=1, noise=1, zoom=1),
        ):
            crop = Crops(scans, replace(SETTINGS, augmentation=augmentation), 1).crop(0, 0).slices
            assert -1024 <= crop.min() < crop.max() <= 3071


class TestBody:
    @pytest.fixture
    def half(self, tmp_path: Path) -> CachedScan:
        """Body on the left half of the slices 3 to 7, with a bone."""
        voxels = np.full((12, 96, 96), -1024, np.int16)
        voxels[3:8, :, :48] = -100
        voxels[5, 0, 0] = 1500
        (scan,) = cached(tmp_path, voxels)
        return scan

    def places(self, scan: CachedScan, share: float, stride: int = 1) -> list[tuple[int, ...]]:
        settings, rng = CropSettings(size=32, body_share=share), np.random.default_rng(0)
        return [draw_place(scan, stride, 1, settings, rng) for _ in range(400)]

    def test_crops_show_the_body(self, half: CachedScan) -> None:
        found = self.places(half, share=0.5)
        assert {middle for middle, _, _ in found} == set(range(3, 8))
        shares = [(half.voxels[z, y : y + 32, x : x + 32] > -950).mean() for z, y, x in found]
        assert min(shares) > 0.2  # they start up to half a block beside what was looked at
        assert np.mean(np.array(shares) >= 0.5) > 0.75
        assert {top for _, top, _ in found} == set(range(65))

    def test_crops_from_everywhere(self, half: CachedScan) -> None:
        middles, tops, lefts = map(set, zip(*self.places(half, share=0), strict=True))
        assert middles == set(range(1, 11))
        assert (min(tops), max(tops), min(lefts), max(lefts)) == (0, 64, 0, 64)

    def test_body_that_no_triplet_has_in_its_middle(self, half: CachedScan) -> None:
        found = self.places(half, share=0.5, stride=5)
        assert {middle for middle, _, _ in found} <= {5, 6}
        half.body_file.write_bytes(bytes(half.body_file.stat().st_size))
        other = replace(half, name="no body at all")
        assert {middle for middle, _, _ in self.places(other, share=0.5, stride=5)} == {5, 6}

    @given(
        st.integers(16, 40).map(lambda n: 4 * (n // 4)), st.integers(1, 3), st.integers(0, 2**32)
    )
    def test_places_lie_inside(self, size: int, thickness: int, seed: int) -> None:
        body = np.random.default_rng(seed).integers(0, 256, (7, 3, 4)).astype(np.uint8)
        scan = _Fake(Path(f"{size}-{seed}"), "", "", 1.0, 1.0, (7, 45, 61), "")
        object.__setattr__(scan, "blocks", body)
        rng = np.random.default_rng(seed)
        middle, top, left = draw_place(scan, 2, thickness, CropSettings(size=size), rng)
        assert 2 <= middle <= 5 - thickness
        assert 0 <= top <= 45 - size
        assert 0 <= left <= 61 - size


class _Fake(CachedScan):
    blocks: NDArray[np.uint8]

    @property
    def body(self) -> NDArray[np.uint8]:
        return self.blocks


def only(name: str) -> Augmentation:
    """One kind of change, always."""
    changes: dict[str, Any] = {name: 1.0}
    return replace(NO_CHANGE, **changes)


class TestAugmentation:
    @pytest.fixture
    def slices(self) -> NDArray[np.float32]:
        noise = np.random.default_rng(0).normal(
            0, 100, (3, 32 + 2 * CROP_MARGIN, 32 + 2 * CROP_MARGIN)
        )
        smooth = ndimage.gaussian_filter(noise, (0, 1, 1)) * 3
        return smooth.astype(np.float32)

    def inner(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        return slices[:, CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN]

    def test_none(self, slices: NDArray[np.float32]) -> None:
        found = NO_CHANGE(slices, 32, np.random.default_rng(0))
        np.testing.assert_array_equal(found, self.inner(slices))

    @pytest.mark.parametrize("name", ["zoom", "kernel", "spectrum", "noise", "contrast"])
    def test_each_changes_the_slices(self, name: str, slices: NDArray[np.float32]) -> None:
        augmentation = only(name)
        one, same, other = (
            augmentation(slices + 100, 32, np.random.default_rng(seed)) for seed in (1, 1, 2)
        )
        assert one.shape == (3, 32, 32)
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()
        assert (one != self.inner(slices + 100)).any()

    @pytest.mark.parametrize("name", ["zoom", "kernel", "spectrum", "contrast"])
    def test_slices_are_changed_alike(self, name: str, slices: NDArray[np.float32]) -> None:
        equal = np.broadcast_to(slices[:1], slices.shape)
        found = only(name)(equal, 32, np.random.default_rng(3))
        np.testing.assert_array_equal(found, found[[0, 0, 0]])

    @pytest.mark.parametrize(("factor", "sign"), [(-0.8, -1), (2.0, 1)])
    def test_kernels_are_softer_and_sharper(
        self, factor: float, sign: int, slices: NDArray[np.float32]
    ) -> None:
        augmentation = replace(NO_CHANGE, kernel=1.0, kernel_range=(factor, factor))
        found = augmentation(slices, 32, np.random.default_rng(0))
        before = np.abs(np.diff(self.inner(slices))).mean()
        assert np.sign(np.abs(np.diff(found)).mean() - before) == sign

    def test_spectrum_keeps_means_and_multiplies_amplitudes(self) -> None:
        """A plane wave of a known frequency, whole half-periods long, is multiplied by its gain."""
        log_gain = np.array([0.0, 0.3, -0.4, 0.9, 0.5, -1.0, -1.2])
        x = (np.arange(64) + 0.5) / 64
        for waves in (0, 7, 20, 63):
            wave = np.cos(np.pi * waves * x).astype(np.float32)
            expected = np.exp(np.interp(waves / 128, FREQUENCIES, log_gain)) * wave
            found = filtered(np.broadcast_to(wave, (3, 64, 64)), log_gain)
            np.testing.assert_allclose(found[1], np.broadcast_to(expected, (64, 64)), atol=1e-5)

    def test_random_spectra_are_of_many_kinds(self) -> None:
        """Fine texture gets stronger and weaker against coarse one, in either order."""
        white = np.random.default_rng(0).normal(0, 100, (3, 144, 144)).astype(np.float32)
        ratios = []
        for seed in range(40):
            found = only("spectrum")(white, 128, np.random.default_rng(seed))
            coarse = ndimage.gaussian_filter(found, (0, 2, 2))
            ratios.append((found - coarse).std() / coarse.std())
        before = (white - ndimage.gaussian_filter(white, (0, 2, 2))).std()
        before /= ndimage.gaussian_filter(white, (0, 2, 2)).std()
        assert min(ratios) < 0.6 * before
        assert max(ratios) > 1.6 * before

    def test_noise_has_its_deviation_and_differs_between_slices(self) -> None:
        flat = np.zeros((3, 144, 144), np.float32)
        augmentation = replace(NO_CHANGE, noise=1.0, noise_hu=40.0)
        drawn = [augmentation(flat, 128, np.random.default_rng(seed)) for seed in range(20)]
        deviations = [float(noise.std()) for noise in drawn]
        assert min(deviations) > 0
        assert max(deviations) < 41
        assert max(deviations) > 30
        correlation = np.corrcoef(drawn[0].reshape(3, -1))
        assert np.abs(correlation - np.eye(3)).max() < 0.1

    def test_zoom_about_the_middle(self) -> None:
        y, x = np.indices((80, 80)) - 39.5
        disc = np.where(np.hypot(y, x) < 15, 1000, 0).astype(np.float32)
        slices = np.stack([disc] * 3)
        areas, before = [], (disc > 500).sum()
        for seed in range(30):
            found = replace(NO_CHANGE, zoom=1.0)(slices, 64, np.random.default_rng(seed))
            rows, columns = np.nonzero(found[1] > 500)
            assert rows.mean() == pytest.approx(31.5, abs=0.1)
            assert columns.mean() == pytest.approx(31.5, abs=0.1)
            areas.append(len(rows) / before)
        assert min(areas) == pytest.approx(1 / 1.3**2, rel=0.1)
        assert max(areas) == pytest.approx(1.3**2, rel=0.1)

    def test_contrast_leaves_what_is_soft(self) -> None:
        slices = np.linspace(-1000, 1000, 3 * 48 * 48, dtype=np.float32).reshape(3, 48, 48)
        found = replace(NO_CHANGE, contrast=1.0)(slices, 32, np.random.default_rng(0))
        before = self.inner(slices)
        np.testing.assert_array_equal(found[before < 0], before[before < 0])
        assert (found[before > 200] > before[before > 200]).all()
