"""Where acquired slices lie in the output's file, as other readers than ITK see it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import pmtool
from pmtool.arrays import Float64s

pytestmark = [
    pytest.mark.usefixtures("fake_sampler"),
    pytest.mark.filterwarnings("ignore:.* have pixels of .*; the model was trained on square ones"),
]

LPS = np.diag([-1.0, -1.0, 1.0])


class Seen(NamedTuple):
    """Voxels, x first, and the LPS position of voxel (i, j, k): ``matrix @ (i, j, k) + origin``."""

    voxels: NDArray[Any]
    matrix: Float64s
    origin: Float64s


def see_nifti(path: Path) -> Seen:
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    qform, sform = (image.get_qform(coded=True), image.get_sform(coded=True))
    assert qform[1] > 0
    assert sform[1] > 0
    assert qform[0] == pytest.approx(sform[0], abs=1e-4)
    spacing = np.linalg.norm(sform[0][:3, :3], axis=0)
    assert image.header.get_zooms() == pytest.approx(spacing)
    matrix = LPS @ sform[0][:3]
    return Seen(np.asarray(image.dataobj), matrix[:, :3], matrix[:, 3])


def see_nrrd(path: Path) -> Seen:
    header, _, data = path.read_bytes().partition(b"\n\n")
    fields = dict(re.findall(r"^([a-z ]+): (.*)$", header.decode(), re.MULTILINE))
    assert fields["space"] == "left-posterior-superior"
    assert fields["encoding"] == "gzip"
    sizes = [int(n) for n in fields["sizes"].split()]
    numbers = [float(n) for n in re.findall(r"[-+.e\d]+", fields["space directions"])]
    origin = [float(n) for n in re.findall(r"[-+.e\d]+", fields["space origin"])]
    voxels = np.frombuffer(gzip.decompress(data), {"short": "<i2", "float": "<f4"}[fields["type"]])
    return Seen(voxels.reshape(sizes, order="F"), np.reshape(numbers, (3, 3)).T, np.array(origin))


def see_meta(path: Path) -> Seen:
    header, _, data = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    fields = dict(re.findall(r"^(\w+) = (.*)$", header.decode(), re.MULTILINE))
    sizes, spacing, matrix, origin = (
        np.array(fields[name].split(), dtype=float)
        for name in ("DimSize", "ElementSpacing", "TransformMatrix", "Offset")
    )
    kind = {"MET_SHORT": "<i2", "MET_FLOAT": "<f4"}[fields["ElementType"]]
    voxels = np.frombuffer(zlib.decompress(data), kind).reshape(sizes.astype(int), order="F")
    return Seen(voxels, matrix.reshape(3, 3).T * spacing, origin)


SEE: dict[str, Callable[[Path], Seen]] = {
    "nii": see_nifti,
    "nii.gz": see_nifti,
    "nrrd": see_nrrd,
    "mha": see_meta,
}


@st.composite
def images(draw: st.DrawFn) -> tuple[sitk.Image, int]:
    """A CT in any direction, and the axis that its slices are stacked along."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    axis = draw(st.sampled_from([0, 1, 2]))
    sizes = [draw(st.integers(2, 9)) for _ in range(3)]
    pixel = draw(st.sampled_from([0.5, 0.703125, 0.9765625]))
    spacing = [pixel, pixel * draw(st.sampled_from([1.0, 1.0, 1.1]))]
    spacing.insert(axis, draw(st.sampled_from([1.25, 2.5, 3.0, 5.0])))
    direction = np.eye(3)[draw(st.permutations([0, 1, 2]))]
    direction *= [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    if draw(st.booleans()):  # oblique
        direction = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    voxels = rng.integers(-1000, 1000, sizes[::-1])
    voxels.flat[0] = -1000  # else few voxels may look like no HU
    kind = draw(st.sampled_from([np.int16, np.float32]))
    image = sitk.GetImageFromArray(voxels.astype(kind))
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin([draw(st.floats(-500, 500)) for _ in range(3)])
    return image, axis


def place(image: sitk.Image) -> Seen:
    """What was meant."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    voxels = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Seen(voxels, direction * image.GetSpacing(), np.array(image.GetOrigin()))


@pytest.mark.parametrize("suffix", SEE)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(images())
def test_acquired_slices_lie_where_they_lay(suffix: str, drawn: tuple[sitk.Image, int]) -> None:
    image, axis = drawn
    with TemporaryDirectory() as name:
        source, target = (Path(name, f"{part}.{suffix}") for part in ("in", "out"))
        sitk.WriteImage(image, str(source))
        pmtool.resample(source, image.GetSpacing()[axis] / 2, target)
        given_, found = place(image), SEE[suffix](target)
    assert found.voxels.dtype == given_.voxels.dtype
    every_second = [slice(None)] * 3
    every_second[axis] = slice(None, None, 2)
    assert np.array_equal(found.voxels[tuple(every_second)], given_.voxels)
    exact = 2e-3 if suffix.startswith("nii") else 1e-9
    stride = np.ones(3)
    stride[axis] = 2
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in given_.voxels.shape])).reshape(3, -1)
    wanted = given_.matrix @ corners + given_.origin[:, None]
    assert found.matrix @ (corners * stride[:, None]) + found.origin[:, None] == pytest.approx(
        wanted, abs=exact
    )


@pytest.mark.parametrize("size", [(768, 768), (340, 512), (20, 20)])
@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_slices_of_any_size(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    voxels = np.random.default_rng(1).integers(-1000, 1000, (3, *size[::-1])).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.6, 0.6, 3))
    sitk.WriteImage(image, str(tmp_path / f"in.{suffix}"))
    pmtool.resample(tmp_path / f"in.{suffix}", 1.5, tmp_path / f"out.{suffix}")
    found = SEE[suffix](tmp_path / f"out.{suffix}")
    assert found.voxels.shape == (*size, 5)
    assert np.array_equal(found.voxels[:, :, ::2], voxels.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", SEE)
def test_a_real_scan(tmp_path: Path, suffix: str, shared: Callable[[str], Path]) -> None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(shared("scans/LIDC-0001.nrrd")))
    reader.SetExtractIndex((200, 180, 60))
    reader.SetExtractSize((48, 40, 5))
    image = reader.Execute()
    sitk.WriteImage(image, str(tmp_path / f"in.{suffix}"))
    pmtool.resample(tmp_path / f"in.{suffix}", 1.25, tmp_path / f"out.{suffix}")
    meant, found = place(image), SEE[suffix](tmp_path / f"out.{suffix}")
    assert np.array_equal(found.voxels[:, :, ::2], meant.voxels)
    assert found.matrix == pytest.approx(meant.matrix * [1, 1, 0.5], abs=1e-5)
    assert found.origin == pytest.approx(meant.origin, abs=1e-4)
