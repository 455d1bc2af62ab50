"""`pmtool.resample`: resampling a volume to more slices."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from pmtool.errors import UsageError
from pmtool.geometry.grid import Grid
from pmtool.images.headers import voxel_files
from pmtool.images.hounsfield import check_hounsfield
from pmtool.images.image_file import write_image
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.models.bundle import Bundle
from pmtool.resampling import report, sidecar
from pmtool.resampling.assembly import DyadicStack, assemble, uncertainty
from pmtool.resampling.journal import Journal
from pmtool.resampling.needs import check_disk_for, check_memory_for
from pmtool.resampling.options import Options, Outputs, split_options
from pmtool.resampling.preview import preview_png
from pmtool.resampling.resumption import resumable
from pmtool.resampling.segmentation import load_mask, resample_mask
from pmtool.resampling.synthesis import missing_jobs, synthesise
from pmtool.resampling.target import target_grid
from pmtool.sampling.plan import Plan
from pmtool.sampling.sampler import Sampler
from pmtool.system.files import write_bytes, write_json
from pmtool.system.stages import ProgressOf
from pmtool.system.versions import own_version

_log = logging.getLogger("pmtool")


def resample(
    image: str | Path | sitk.Image,
    spacing: float | Sequence[float] | None = None,
    output: str | Path | None = None,
    *,
    progress: ProgressOf | None = None,
    **options: Any,
) -> sitk.Image:
    """Resample a CT to a finer slice spacing, generating new slices with PixelMiner.

    Parameters
    ----------
    image
        A CT in HU: a file (NRRD, NIfTI, MetaImage), a DICOM series as a folder, a zip or an
        enhanced file, or an image.
    spacing
        Wanted slice spacing, mm: one number, or x, y, z with 0 for "keep". Omit it if a
        reference image is given.
    output
        File to write or, ending with a slash, folder for a DICOM series; a sidecar is written too.
        Finished slices are kept beside it until it is complete, so that an interrupted run can be
        resumed.
    progress
        Called with the number of slices generated so far (a float) and their total.
    **options
        Fields of `Options` and, with an output, of `Outputs`.

    Returns
    -------
    SimpleITK.Image
        The volume, with the voxel type, in-plane grid and direction of the input. Acquired slices
        that lie on its grid are kept bit for bit: all of them at a half, a quarter, ... of the
        spacing.

    Raises
    ------
    PmtoolError
        One of the errors in `pmtool.errors`; its class says what is wrong.

    Warns
    -----
    UserWarning
        For repaired directions, uneven gaps, interpolated slices, slices made earlier by pmtool,
        spacings the model was not trained on, and engines that failed.
    """
    chosen, outputs = split_options(output, options)
    run = prepare(image, spacing, outputs, chosen)
    return finish(run, progress)


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
    outputs: Outputs | None
    sampler: Sampler
    mask: Volume | None
    plan: Plan
    key: dict[str, Any]

    @property
    def mask_key(self) -> dict[str, Any] | None:
        """Everything except the grid that determines the mask; None without a mask."""
        if self.mask is None or self.outputs is None:
            return None
        interpolation = self.outputs.segmentation_interpolation
        digest = self.mask.digest()
        return {"sha256_of_voxels_and_geometry": digest, "interpolation": interpolation}


def load_sampler(options: Options, *, started: bool = True) -> Sampler:
    """Load the model on its device; it can serve many runs with these options. See `Sampler`."""
    bundle = Bundle.load(options.model)
    return Sampler(bundle, options, started=started)


def prepare(
    image: str | Path | sitk.Image,
    spacing: float | Sequence[float] | None,
    outputs: Outputs | None,
    options: Options,
    sampler: Sampler | None = None,
) -> Run:
    """Prepare a run, finding everything that can be wrong with the request before the work.

    Parameters and errors are those of `resample`; the sampler is from `load_sampler`.
    """
    _check_samples(outputs, options)
    if outputs is not None:
        outputs.check_writable(_inputs(image, outputs, options))
    volume = _load(image, outputs, options)
    grid = target_grid(volume, spacing, options)
    mask = None
    if outputs is not None and outputs.segmentation is not None:
        mask = load_mask(outputs.segmentation, volume, options.allow_large)
    check_memory_for(volume, grid, options.memory, journal=outputs is not None)
    sampler = load_sampler(options) if sampler is None else sampler
    for text in (
        report.made_text(volume),
        report.uneven_text(grid),
        report.interpolation_text(grid),
        report.spacing_text(grid, sampler.bundle.manifest.spacing_mm),
    ):
        if text is not None:
            warnings.warn(text, stacklevel=3)
    stack = DyadicStack(volume, grid, {}, sampler.bundle.hyperparameters.hu_window)
    jobs = sum(map(len, missing_jobs(stack, options.samples)))
    plan = sampler.plan(volume.shape, max(jobs, 1))
    key = _key(volume, grid, options, sampler, plan)
    if outputs is not None and outputs.dicom:
        from pmtool.dicom.derived import headers_digest

        key["headers"] = headers_digest(volume)
    if outputs is not None:
        journal = Journal(outputs.journal)
        kept = replace(stack, generated=journal if journal.matches(key) else {})
        lacking = sum(map(len, missing_jobs(kept, options.samples)))
        check_disk_for(volume, grid, mask, outputs, lacking)
    return Run(stack, options, outputs, sampler, mask, plan, key)


def _load(image: str | Path | sitk.Image, outputs: Outputs | None, options: Options) -> Volume:
    """Load the input and check that it is a CT from which the output can be made."""
    volume = load_volume(image, options.series_uid, options.allow_uneven, options.allow_large)
    if outputs is not None and outputs.dicom:
        from pmtool.dicom.derived import check_derivable

        check_derivable(volume)
    check_hounsfield(volume, options.assume_hu)
    return volume


def finish(
    run: Run, progress: ProgressOf | None = None, remedy: str = "go on with --resume"
) -> sitk.Image:
    """Generate the missing slices of a run, assemble its output and write its files.

    ``remedy`` says how to continue after an interruption.
    """
    if run.outputs is None:
        return _generate(run, progress)
    with resumable(run, remedy) as journal:
        if journal is None:
            return load_volume(run.outputs.image, allow_uneven=True, allow_large=True).image
        run.stack = replace(run.stack, generated=journal)
        image = _generate(run, progress)
        write(run, journal, image)
    return image


def _generate(run: Run, progress: ProgressOf | None) -> sitk.Image:
    """Fill the stack and assemble the output."""
    missing = sum(map(len, missing_jobs(run.stack, run.options.samples)))
    bundle, sampler = run.sampler.bundle, run.sampler
    volume, grid = run.stack.volume, run.stack.grid
    _log.info(report.plan_text(volume, grid, bundle, sampler, run.plan, missing))
    _log.debug("the model was trained on %s", bundle.manifest.trained_on)
    synthesise(run.stack, sampler, run.options.samples, progress)
    return assemble(run.stack)


def write(
    run: Run, journal: Journal, image: sitk.Image, files: Iterable[Path] | None = None
) -> None:
    """Write all or some files of a run and its sidecar, then remove its journal.

    The volume is written last except for the sidecar, which states that all files are there.
    """
    stack, outputs = run.stack, run.outputs
    assert outputs is not None
    journal.expect(outputs.files())
    wanted = set(outputs.files() if files is None else files)
    if run.mask is not None and outputs.segmentation_out in wanted:
        labels = resample_mask(run.mask, stack.grid, outputs.segmentation_interpolation)
        write_image(labels, outputs.segmentation_out)
    if outputs.uncertainty in wanted:
        write_image(uncertainty(stack, run.options.samples), outputs.uncertainty)
    if outputs.preview in wanted:
        write_bytes(preview_png(stack.volume, image), outputs.preview)
    if outputs.statistics in wanted:
        write_json(report.statistics(stack.volume, stack.grid, image), outputs.statistics)
    told = sidecar.content(stack.volume, stack.grid, run.options, run.key, run.sampler)
    if outputs.image in wanted:
        _write_volume(stack.volume, image, told, outputs)
    told = {**told, "segmentation": run.mask_key, **sidecar.digests(outputs, wanted)}
    write_json(told, outputs.sidecar)
    journal.remove()


def _write_volume(
    source: Volume, image: sitk.Image, told: dict[str, Any], outputs: Outputs
) -> None:
    if not outputs.dicom:
        write_image(image, outputs.image)
        return
    from pmtool.dicom.derived import DerivedSeries
    from pmtool.dicom.folder import write_series

    write_series(DerivedSeries(source, image, told), outputs.image)


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
        "model": sampler.bundle.hash,
        "backend": sampler.backend,
        "precision": sampler.precision,
        "pixels": sampler.pixels,
        "window": list(plan.window),
        "seed": options.seed,
        "mode": options.mode,
        "grid": grid.name,
        "spacing": grid.spacing,
        "slices": len(grid.slices),
        "first_position": grid.first,
        "interpolator": options.interpolator,
    }


def _inputs(image: str | Path | sitk.Image, outputs: Outputs, options: Options) -> list[Path]:
    named = (image, options.reference, outputs.segmentation)
    paths = [Path(source) for source in named if isinstance(source, (str, Path))]
    return paths + voxel_files(paths)


def _check_samples(outputs: Outputs | None, options: Options) -> None:
    wanted = outputs is not None and outputs.uncertainty is not None
    if wanted != (options.samples > 1):
        raise UsageError("an uncertainty needs both its file and at least two samples")
    if wanted and options.mode != "sample":
        raise UsageError(f"mode {options.mode} makes equal samples, which have no uncertainty")
