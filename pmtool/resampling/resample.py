"""`pmtool.resample`: resampling a volume to more slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from pmtool.images.image_file import write_image
from pmtool.images.reading import LENIENT
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.resampling import report, sidecar
from pmtool.resampling.assembly import assemble, uncertainty
from pmtool.resampling.journal import Journal
from pmtool.resampling.options import Outputs, split_options
from pmtool.resampling.preparation import FileRun, Run, prepare, prepare_files
from pmtool.resampling.preview import preview_png
from pmtool.resampling.resumption import resumable
from pmtool.resampling.segmentation import resample_mask
from pmtool.resampling.statistics import statistics
from pmtool.resampling.synthesis import missing_jobs, synthesise
from pmtool.system.files import write_bytes, write_json
from pmtool.system.stages import ProgressOf

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
        For repaired directions, uneven gaps, slices that seem to come from several scans,
        interpolated slices, slices made earlier by pmtool, engines that failed, loops that
        are not compiled, and spacings, slice thicknesses and pixel shapes that the model was not
        trained on.
    """
    chosen, outputs = split_options(output, options)
    if outputs is None:
        return _generate(prepare(image, spacing, chosen), progress)
    return finish(prepare_files(image, spacing, outputs, chosen), progress)


def finish(
    run: FileRun, progress: ProgressOf | None = None, remedy: str = "go on with --resume"
) -> sitk.Image:
    """Make the files of a run that are missing, or all of them, and return its volume.

    Slices are generated only if the volume is to be made. ``remedy`` says how to continue after an
    interruption.
    """
    outputs = run.outputs
    with resumable(run, remedy) as (journal, files):
        if outputs.image in files:
            run.stack = replace(run.stack, generated=journal)
            image = _generate(run, progress)
        else:
            image = load_volume(outputs.image, LENIENT).image
        if files:
            _write(run, journal, image, files)
    return image


def _generate(run: Run, progress: ProgressOf | None) -> sitk.Image:
    """Fill the stack and assemble the output."""
    missing = sum(map(len, missing_jobs(run.stack, run.options.samples)))
    _log.info(report.plan_text(run, missing))
    if text := report.copy_text(run.stack.grid):
        _log.warning(text)
    _log.debug("the model was trained on %s", run.sampler.bundle.manifest.trained_on)
    synthesise(run.stack, run.sampler, run.options.samples, progress)
    return assemble(run.stack)


def _write(run: FileRun, journal: Journal, image: sitk.Image, files: set[Path]) -> None:
    """Write some files of a run and its sidecar, then remove its journal.

    The volume is written last, followed only by the sidecar, which states that all files exist. The
    sidecar of a volume that stays still tells how that was made.
    """
    stack, outputs = run.stack, run.outputs
    files = {*files, outputs.sidecar}
    journal.expect(files)
    if run.mask is not None and outputs.segmentation_out in files:
        labels = resample_mask(run.mask, stack.grid, outputs.segmentation_interpolation)
        write_image(labels, outputs.segmentation_out)
    if outputs.uncertainty in files:
        write_image(uncertainty(stack, run.options.samples), outputs.uncertainty)
    if outputs.preview in files:
        write_bytes(preview_png(stack.volume, image, stack.grid), outputs.preview)
    if outputs.statistics in files:
        write_json(statistics(stack.volume, stack.grid, image), outputs.statistics)
    content = sidecar.read_sidecar(outputs)
    if outputs.image in files:
        content = {**sidecar.content(run), "segmentation": None}
        _write_volume(stack.volume, image, content, outputs)
    if run.mask is not None:
        content["segmentation"] = run.mask_key
    content |= sidecar.digests(outputs, files)
    write_json(content, outputs.sidecar)
    journal.remove()
    if outputs.image in files and (text := sidecar.earlier_text(content)):
        _log.warning(text)
    _log.info("wrote %s", ", ".join(str(path) for path in outputs.files() if path in files))


def _write_volume(
    source: Volume, image: sitk.Image, content: dict[str, Any], outputs: Outputs
) -> None:
    if not outputs.dicom:
        write_image(image, outputs.image)
        return
    from pmtool.dicom.derived import DerivedSeries
    from pmtool.dicom.folder import write_series

    write_series(DerivedSeries(source, image, content), outputs.image)
