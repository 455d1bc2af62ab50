"""HU as stored values: those of the source where it has the slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

import pmtool
from pmtool.dicom.pixels import to_hounsfield
from pmtool.dicom.stored import set_pixels
from pmtool.loading import load_volume

Resample = Callable[..., list[Dataset]]


def header(bits: int, signed: int, slope: float, intercept: float) -> Dataset:
    found = Dataset()
    found.BitsStored, found.PixelRepresentation = bits, signed
    found.RescaleSlope, found.RescaleIntercept = slope, intercept
    return found


def stored(dataset: Dataset) -> NDArray[Any]:
    dtype = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, dtype).reshape(dataset.Rows, dataset.Columns)


@given(
    bits=st.integers(12, 16),
    signed=st.sampled_from([0, 1]),
    slope=st.one_of(st.integers(1, 4), st.floats(0.01, 4)),
    intercept=st.one_of(st.integers(-3000, 0), st.floats(-3000, 0)),
    data=st.data(),
)
def test_what_the_source_has_comes_back(
    bits: int, signed: int, slope: float, intercept: float, data: Any
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    numbers = st.lists(st.integers(low, high), min_size=6, max_size=6)
    values = np.array(data.draw(numbers)).reshape(2, 3)
    source, dataset = header(bits, signed, slope, intercept), Dataset()
    set_pixels(dataset, to_hounsfield(values, source), source)
    np.testing.assert_array_equal(stored(dataset), values)
    assert (dataset.BitsStored, dataset.HighBit, dataset.BitsAllocated) == (bits, bits - 1, 16)


def test_more_bits_where_a_slice_needs_them() -> None:
    dataset = Dataset()
    set_pixels(dataset, np.array([[-1024, 3071]]), header(12, 1, 1, 0))
    assert stored(dataset).tolist() == [[-1024, 3071]]
    assert (dataset.BitsStored, dataset.HighBit) == (16, 15)


def test_values_beyond_16_bits_saturate() -> None:
    dataset = Dataset()
    set_pixels(dataset, np.array([[-1024, 70000]]), header(16, 0, 1, -900))
    assert stored(dataset).tolist() == [[0, 65535]]


def test_values_between_stored_ones_are_rounded() -> None:
    dataset = Dataset()
    set_pixels(dataset, np.array([[-1023, -1022, -1021]]), header(12, 0, 4, -1024))
    assert stored(dataset).tolist() == [[0, 0, 1]]


@pytest.fixture
def resampled(
    ct: sitk.Image, tmp_path: Path, write_dicom: Callable[..., list[Path]], fake_sampler: Any
) -> Resample:
    """Write a series, resample it from 2.5 to 1.25 mm by averages, and read what came out."""

    def resampled(**how: Any) -> list[Dataset]:
        write_dicom(tmp_path / "in", sitk.GetArrayFromImage(ct), **how)
        pmtool.resample(tmp_path / "in", 1.25, f"{tmp_path / 'out'}/", assume_hu=True)
        return [dcmread(path) for path in sorted((tmp_path / "out").iterdir())]

    return resampled


def test_acquired_slices_are_stored_as_they_were(ct: sitk.Image, resampled: Resample) -> None:
    acquired = sitk.GetArrayFromImage(ct) + 1024
    found = np.stack([slice_.pixel_array for slice_ in resampled()])
    np.testing.assert_array_equal(found[::2], acquired)
    np.testing.assert_array_equal(found[1::2], (acquired[1:] + acquired[:-1]) // 2)


@pytest.mark.parametrize(("implicit", "padding"), [(False, -1024), (True, -1024), (False, 64512)])
def test_padding(implicit: bool, padding: int, resampled: Resample) -> None:
    """Also if it is written as an unsigned number although the pixels are signed."""

    def change(number: int, slice_: Dataset) -> None:
        values = np.frombuffer(slice_.PixelData, "<u2").astype("<i2")
        values[:4] = -1024
        slice_.PixelData, slice_.PixelRepresentation = values.tobytes(), 1
        slice_.BitsStored, slice_.HighBit = 16, 15
        slice_.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
        slice_.ensure_file_meta()
        syntax = "ImplicitVRLittleEndian" if implicit else "ExplicitVRLittleEndian"
        slice_.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)

    for found in resampled(change=change):
        assert found.PixelPaddingValue == padding
        assert (found.pixel_array[0, :4] == -1024).all()
        assert (found.pixel_array[1:] >= 0).all()


@pytest.mark.parametrize(("value", "limit"), [(63536, None), (63536, 63530), (-2000, None)])
def test_padding_above_all_hu(
    value: int, limit: int | None, tmp_path: Path, ct: sitk.Image, resampled: Resample
) -> None:
    """Is below air in HU, where it is neither metal nor seen by the network."""

    def change(number: int, slice_: Dataset) -> None:
        values = np.frombuffer(slice_.PixelData, "<u2").copy()
        values[:4], values[4] = 63536, 63530
        slice_.PixelData = values.tobytes()
        slice_.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        slice_.BitsStored, slice_.HighBit = 16, 15
        if limit is not None:
            slice_.PixelPaddingRangeLimit = limit

    for number, found in enumerate(resampled(change=change)):
        assert found.PixelPaddingValue == value
        assert (found.pixel_array[0, :4] == 63536).all()
        assert (found.pixel_array[1:] <= 2024).all()
        if number % 2 == 0 or limit is not None:
            assert found.pixel_array[0, 4] == 63530
    row = load_volume(tmp_path / "in").slices[0, 0]
    last = -2048 if limit is None else -2054
    assert row[:5].tolist() == [last] * 4 + [62506 if limit is None else -2048]


@pytest.mark.parametrize("value", [-2000, 0, 1000, 4095])
def test_padding_that_may_be_hu_is_rescaled(value: int) -> None:
    source = header(16, 1, 1, -1024)
    source.PixelPaddingValue = value
    assert to_hounsfield(np.array([[value]], np.int16), source).tolist() == [[value - 1024]]


def test_padding_of_wide_pixels() -> None:
    """In 32 bits, 40000 is no negative number."""
    source = header(32, 1, 1, -1024)
    source.BitsAllocated, source.PixelPaddingValue = 32, 40000
    assert to_hounsfield(np.array([[40000, 0]], np.int32), source).tolist() == [[-2048, -1024]]


def test_slopes_of_their_own(ct: sitk.Image, resampled: Resample) -> None:
    def change(number: int, slice_: Dataset) -> None:
        slice_.RescaleSlope, slice_.RescaleIntercept = str(1 + number), -1024 - number
        slice_.WindowCenter, slice_.WindowWidth = 40 + number, 400

    slices = resampled(change=change)
    found = np.stack([slice_.pixel_array for slice_ in slices])
    np.testing.assert_array_equal(found[::2], sitk.GetArrayFromImage(ct) + 1024)
    assert [str(s.RescaleSlope) for s in slices] == list("112233445")
    assert [s.WindowCenter for s in slices[:4]] == [40, 40, 41, 41]
