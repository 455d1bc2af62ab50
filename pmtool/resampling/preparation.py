"""Checking and preparing a request, so that errors in it are found before the work starts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from pmtool.dicom.files import is_dicom
from pmtool.errors import OutputError, UsageError
from pmtool.geometry.grid import Grid
from pmtool.images.headers import voxel_files
from pmtool.images.made import made_text
from pmtool.images.volume import Volume
from pmtool.loading import load_ct
from pmtool.models.bundle import Bundle
from pmtool.resampling import report
from pmtool.resampling.assembly import DyadicStack
from pmtool.resampling.needs import check_memory_for
from pmtool.resampling.options import Options, Outputs
from pmtool.resampling.segmentation import load_mask
from pmtool.resampling.synthesis import all_jobs
from pmtool.resampling.target import target_grid
from pmtool.sampling.plan import Plan
from pmtool.sampling.sampler import Sampler
from pmtool.sampling.suitability import overlap_text, pixel_text, spacing_text, thickness_text
from pmtool.system.files import resolved
from pmtool.system.versions import own_version


@dataclass
class Run:
    """A checked request and everything needed to carry it out.

    Attributes
    ----------
    key
        Everything that determines the output's voxels and, for a DICOM series, its headers, as
        plain JSON values.
    """

    stack: DyadicStack
    options: Options
    sampler: Sampler
    plan: Plan
    key: dict[str, Any]


@dataclass
class FileRun(Run):
    """A run that writes files.

    Attributes
    ----------
    mask
        Mask to resample as well, if any.
    """

    outputs: Outputs
    mask: Volume | None

    @property
    def mask_key(self) -> dict[str, Any] | None:
        """Everything that determines the mask except the grid; None without a mask."""
        if self.mask is None:
            return None
        interpolation = self.outputs.segmentation_interpolation
        digest = self.mask.digest()
        return {"sha256_of_voxels_and_geometry": digest, "interpolation": interpolation}


def load_sampler(options: Options) -> Sampler:
    """Load the model on its device; it can serve many runs with these options. See `Sampler`."""
    return Sampler(Bundle.load(options.model), options)


def prepare(
    image: str | Path | sitk.Image, spacing: float | Sequence[float] | None, options: Options
) -> Run:
    """Prepare a run that writes no files.

    Parameters and errors are those of `pmtool.resampling.resample.resample`.
    """
    _check_samples(options, uncertainty=False)
    volume = load_ct(image, options)
    grid = target_grid(volume, spacing, options)
    check_memory_for(volume, grid, None, None, options.memory)
    return _run(volume, grid, options, load_sampler(options))


def prepare_files(
    image: str | Path | sitk.Image,
    spacing: float | Sequence[float] | None,
    outputs: Outputs,
    options: Options,
    sampler: Sampler | None = None,
) -> FileRun:
    """Prepare a run that writes files; the sampler is from `load_sampler`, which is called if None.

    Parameters and errors are those of `pmtool.resampling.resample.resample`.
    """
    _check_samples(options, uncertainty=outputs.uncertainty is not None)
    outputs.check_writable(_inputs(image, outputs, options))
    _check_apart(image, outputs, options)
    volume = load_ct(image, options)
    if outputs.dicom:
        from pmtool.dicom.derived import check_derivable

        check_derivable(volume)
    grid = target_grid(volume, spacing, options)
    mask = None
    if outputs.segmentation is not None:
        mask = load_mask(outputs.segmentation, volume, options)
    check_memory_for(volume, grid, mask, outputs, options.memory)
    sampler = load_sampler(options) if sampler is None else sampler
    return _with_files(_run(volume, grid, options, sampler), outputs, mask)


def _run(volume: Volume, grid: Grid, options: Options, sampler: Sampler) -> Run:
    """Plan a run, and warn about what the user should know beforehand."""
    for text in (
        made_text(volume, "resample the original series"),
        report.uneven_text(grid),
        report.interpolation_text(grid),
        pixel_text(volume),
        overlap_text(volume),
        thickness_text(volume, sampler.bundle.manifest.thickness_mm),
        spacing_text(grid, sampler.bundle.manifest.spacing_mm),
    ):
        if text is not None:
            warnings.warn(text, stacklevel=4)
    stack = DyadicStack(volume, grid, {}, sampler.bundle.hyperparameters.hu_window)
    jobs = sum(map(len, all_jobs(grid, options.samples)))
    plan = sampler.plan(volume.shape, max(jobs, 1))
    return Run(stack, options, sampler, plan, _key(volume, grid, options, sampler, plan))


def _with_files(run: Run, outputs: Outputs, mask: Volume | None) -> FileRun:
    """The run with its files."""
    key = run.key
    if outputs.dicom:
        from pmtool.dicom.derived import headers_digest

        key = {**key, "headers": headers_digest(run.stack.volume)}
    return FileRun(run.stack, run.options, run.sampler, run.plan, key, outputs, mask)


def _key(
    volume: Volume,
    grid: Grid,
    options: Options,
    sampler: Sampler,
    plan: Plan,
) -> dict[str, Any]:
    """Everything that determines the output's voxels."""
    return {
        "version": own_version(),
        "input": volume.digest(),
        "thickness": volume.thickness,
        **sampler.identity(plan),
        "grid": grid.name,
        "spacing": grid.spacing,
        "slices": len(grid.slices),
        "first_position": grid.first,
        "interpolator": options.interpolation,
    }


def _inputs(image: str | Path | sitk.Image, outputs: Outputs, options: Options) -> list[Path]:
    sources = (image, options.reference, outputs.segmentation)
    paths = [Path(source) for source in sources if isinstance(source, (str, Path))]
    return paths + voxel_files(paths)


def _check_apart(image: str | Path | sitk.Image, outputs: Outputs, options: Options) -> None:
    """Raise `OutputError` for outputs that would replace or join the files of a DICOM folder."""
    if isinstance(image, sitk.Image) or not Path(image).is_dir():
        return
    for path in outputs.files():
        if resolved(Path(image)) not in resolved(path).parents:
            continue
        if path.is_file() and is_dicom(path):
            raise OutputError(f"{path} is a file of the input; write the output to another file")
        if outputs.dicom and path == outputs.image and options.series_uid is None:
            raise OutputError(
                f"{path} lies in the input, which would then hold two series; name a folder outside"
            )


def _check_samples(options: Options, *, uncertainty: bool) -> None:
    if uncertainty != (options.samples > 1):
        raise UsageError(
            "an uncertainty needs at least two samples (--samples), and samples need an output"
        )
    if uncertainty and options.mode != "sample":
        raise UsageError(f"mode {options.mode} makes equal samples, which have no uncertainty")
