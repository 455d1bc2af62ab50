"""What several tests need: small CTs, and a sampler that is quick and can be reckoned by hand."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.models.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from pmtool.arrays import Float32s
    from pmtool.choices import Mode
    from pmtool.interface.protocol import Memory
    from pmtool.pixels.mixture import Mixture
    from pmtool.sampling.options import SamplerOptions
    from pmtool.sampling.pairs import PairGroup, SlicePair
    from pmtool.sampling.plan import Plan

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


class AveragingSampler:
    """Stands in for the sampler: the mean of both neighbours, plus the sample's number."""

    device = "cpu"
    engine = SimpleNamespace(
        backend="averages", devices=("cpu",), precision="float32", pixels="kernel"
    )
    calls: ClassVar[list[int]] = []
    interrupt_after: ClassVar[int | None] = None
    signal: ClassVar[int] = signal.SIGINT

    def __init__(self, bundle: Any, options: SamplerOptions) -> None:
        self.bundle, self.options = bundle, options
        self.window = bundle.hyperparameters.hu_window

    def in_mode(self, mode: Mode) -> Self:
        return type(self)(self.bundle, replace(self.options, mode=mode))

    def plan(self, shape: tuple[int, int], pairs: int) -> Plan:
        from pmtool.sampling.plan import Plan

        return Plan(shape, (64, 64), 1, 1, 1, memory=2**20, seconds_per_slice=0.1)

    def identity(self, plan: Plan) -> dict[str, Any]:
        from pmtool.sampling.sampler import Planner

        return Planner.identity(cast(Planner, self), plan)

    def generate(
        self, pairs: Sequence[SlicePair], progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[int, NDArray[np.int16]]]:
        low, high = self.window
        for index in reversed(range(len(pairs))):
            above, below, _, number, sample = pairs[index]
            assert above.dtype == below.dtype == np.int16
            assert above.min() >= low
            assert below.max() <= high
            if self.interrupt_after is not None and len(self.calls) >= self.interrupt_after:
                os.kill(os.getpid(), self.signal)
            self.calls.append(number)
            if progress is not None:
                progress(len(pairs) - index)
            mean = (above.astype(np.int32) + below) // 2 + sample
            yield index, np.clip(mean, low, high).astype(np.int16)


def group_of(
    hyperparameters: Hyperparameters,
    memory: Memory,
    above: Float32s,
    below: Float32s,
    relative_thickness: Float32s,
    known: Float32s,
) -> PairGroup:
    """A group of the size of a window.

    Neighbours are ``(N, 1, H + 2 margin, W + 2 margin)``, known pixels ``(H, W, N)``, both in
    [-1, 1].
    """
    from pmtool.sampling.pairs import PairGroup, SlicePair

    height, width, _ = known.shape
    empty = np.zeros((height, width), np.int16)
    pairs = [SlicePair(empty, empty, float(x), i) for i, x in enumerate(relative_thickness.flat)]
    group = PairGroup(hyperparameters, pairs, (height, width), memory)
    memory.upload(group.above, above[:, 0])
    memory.upload(group.below, below[:, 0])
    memory.upload(group.targets, np.ascontiguousarray(known.transpose(2, 0, 1)))
    return group


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program to be written by the test, which is taken for nvidia-smi."""
    from pmtool.system.devices import nvidia_smi_once

    program = tmp_path / "nvidia-smi"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvidia_smi_once.cache_clear()
    yield program
    nvidia_smi_once.cache_clear()


@pytest.fixture
def fake_sampler(monkeypatch: pytest.MonkeyPatch) -> type[AveragingSampler]:
    """`pmtool.resample` with averages in place of a network; its class counts the calls."""

    class Fresh(AveragingSampler):
        calls: ClassVar[list[int]] = []

    manifest = SimpleNamespace(
        name="fake", trained_on="nothing", spacing_mm=(0.5, 3.0), thickness_mm=6.0
    )
    bundle = SimpleNamespace(
        hyperparameters=Hyperparameters(channels=1), hash="0" * 64, manifest=manifest
    )
    monkeypatch.setattr("pmtool.resampling.preparation.Bundle.load", lambda folder: bundle)
    monkeypatch.setattr("pmtool.resampling.preparation.Sampler", Fresh)
    monkeypatch.setattr("pmtool.cohort.run.Planner", Fresh)
    return Fresh


@pytest.fixture(scope="session")
def random_mixture() -> Callable[..., Mixture]:
    """`_random_mixture`."""
    return _random_mixture


def _random_mixture(count: int, *, narrow: bool = False) -> Mixture:
    """Mixtures of 12 logistics; narrow ones are close together."""
    from pmtool.pixels.mixture import Mixture

    rng = np.random.default_rng(count)
    shape = (count, 12)
    parts = (
        rng.normal(0, 2, shape),
        rng.normal(0, 0.1 if narrow else 0.6, shape),
        rng.uniform(-7, -4 if narrow else 0, shape),
    )
    return Mixture(*(part.astype(np.float32) for part in parts))


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """``shared(path)``: one of the real scans beside the checkout, or a skip."""

    def find(path: str) -> Path:
        found = SHARED / path
        if not found.exists():
            pytest.skip(f"{found.name} is not there")
        return found

    return find


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch is slower on several threads for small tensors, much slower on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ct() -> sitk.Image:
    """Five slices of 12x10 noise with its own place in space, 2.5 mm apart."""
    rng = np.random.default_rng(5)
    image = sitk.GetImageFromArray(rng.integers(-1000, 1000, (5, 12, 10)).astype(np.int16))
    image.SetSpacing((0.7, 0.7, 2.5))
    image.SetOrigin((-11.0, 7.5, -300.25))
    return image


@pytest.fixture
def ct_path(ct: sitk.Image, tmp_path: Path) -> Path:
    """`ct` in a file."""
    path = tmp_path / "ct.nrrd"
    sitk.WriteImage(ct, str(path))
    return path


@pytest.fixture
def write_dicom() -> Callable[..., list[Path]]:
    """`_write_dicom`."""
    return _write_dicom


def _write_dicom(
    folder: Path,
    voxels: NDArray[Any],
    spacing: float = 2.5,
    change: Callable[[int, Any], None] | None = None,
    **tags: Any,
) -> list[Path]:
    """A CT series, a file a slice, whose files' names are out of order.

    Parameters
    ----------
    voxels
        HU of at least -1024, ``(slices, H, W)``.
    change
        Called with every slice's number and data set before it is written.
    **tags
        Of all slices, by keyword.
    """
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, plane in enumerate(voxels):
        slice_ = Dataset()
        slice_.SOPClassUID = CTImageStorage
        slice_.Modality, slice_.PatientID = "CT", "Doe"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = "1.2", "1.2.3"
        slice_.FrameOfReferenceUID = "1.2.1"
        slice_.ImagePositionPatient = [-11.0, 7.5, -300.25 + spacing * number]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.InstanceNumber = [0.7, 0.7], number + 1
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.Rows, slice_.Columns = plane.shape
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 12, 11
        slice_.PixelRepresentation = 0
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
        slice_.PixelData = (plane + 1024).astype("<u2").tobytes()
        for keyword, value in tags.items():
            setattr(slice_, keyword, value)
        slice_.SOPInstanceUID = f"{slice_.SeriesInstanceUID}.{number + 1}"
        if change is not None:
            change(number, slice_)
        slice_.ensure_file_meta()
        slice_.file_meta.setdefault("TransferSyntaxUID", ExplicitVRLittleEndian)
        files.append(folder / f"{slice_.SeriesInstanceUID}-{7 * number % 10}-{number}.dcm")
        slice_.save_as(files[-1], enforce_file_format=True)
    return files


REMEDY = re.compile(r"[;:] (copy|fetch|give|put|write|convert|change|install|export|take) ")


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command that must fail: with this code and one line, which docs/errors.md explains.

    Nothing may be left that was not there before.
    """
    from pmtool.cli.console import run_command
    from pmtool.main import cli

    explained = (ROOT / "docs" / "errors.md").read_text()

    def check(code: int, message: str, *arguments: object) -> None:
        before = sorted(tmp_path.rglob("*"))
        found = run_command(cli, [str(argument) for argument in arguments])
        told = capfd.readouterr()
        lines = [line for line in told.err.splitlines() if not line.startswith("warning: ")]
        assert (found, told.out, len(lines)) == (code, "", 1), told
        assert message in lines[0]
        assert lines[0].startswith("pmtool: ")
        assert code != 3 or REMEDY.search(lines[0]), f"{lines[0]} names no remedy"
        assert sorted(tmp_path.rglob("*")) == before
        assert message in explained, f"docs/errors.md does not explain {message!r}"

    return check


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder that cannot be listed, even by an administrator."""

    def lock_folder(folder: Path) -> None:
        def scandir(path: Any) -> Any:
            if Path(path) == folder:
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        folder.mkdir()
        listed = os.scandir
        monkeypatch.setattr(os, "scandir", scandir)

    return lock_folder
