"""Options and outputs of `pmtool.resample`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from pmtool.choices import GRIDS, INTERPOLATORS, GridName, Interpolator, MaskInterpolation
from pmtool.dicom import require_pydicom
from pmtool.errors import OutputError, UsageError
from pmtool.images.made import sidecar_of
from pmtool.images.names import check_format, image_stem, image_suffix, written_suffix
from pmtool.images.reading import ReadingOptions
from pmtool.sampling.options import SamplerOptions
from pmtool.system.checks import check_choice, check_positive
from pmtool.system.files import resolved
from pmtool.system.outputs import (
    check_distinct_paths,
    check_no_input,
    check_output,
    check_place,
    check_png,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

MOST_SAMPLES = 10_000
"""Largest number of samples; all of them are kept on disk until the output is complete."""
UNCERTAINTY_SAMPLES = 8
"""Samples drawn for an uncertainty if no number is given."""
_PRODUCTS = ("image", "uncertainty", "segmentation_out", "preview", "statistics")
"""Fields that name files to write."""


@dataclass(frozen=True, kw_only=True)
class Options(SamplerOptions, ReadingOptions):
    """Options that determine the slices of the output and how they are made.

    They include those of `SamplerOptions` and `ReadingOptions`.

    Attributes
    ----------
    grid
        Where the output's slices lie: one of `pmtool.choices.GRIDS`.
    reference
        File or image whose slice positions to use instead of a spacing.
    interpolator
        Interpolation of slices that lie between acquired and generated ones: ``nearest``, which
        keeps their texture, ``linear`` or ``bspline``. None stands for ``nearest`` where pixels are
        drawn, and for ``linear`` in the other modes, whose slices have no texture to lose.
    model
        Folder of a bundle; None for the default model.
    samples
        Samples drawn per slice for the uncertainty; the output is the first one.

    Raises
    ------
    UsageError
        If a value is invalid.
    """

    grid: GridName = "keep-slices"
    reference: str | Path | sitk.Image | None = None
    interpolator: Interpolator | None = None
    model: str | Path | None = None
    samples: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("grid", self.grid, GRIDS)
        check_choice("interpolator", self.interpolation, INTERPOLATORS)
        check_positive("samples", self.samples)
        if self.samples > MOST_SAMPLES:
            raise UsageError(f"{self.samples} samples are too many; draw at most {MOST_SAMPLES}")
        if self.reference is not None and self.grid != "keep-slices":
            raise UsageError("a reference image is a grid of its own; give it or --grid, not both")

    @property
    def interpolation(self) -> Interpolator:
        """The interpolator to use."""
        return self.interpolator or ("nearest" if self.mode == "sample" else "linear")


@dataclass(frozen=True)
class Outputs:
    """The files to write; all are checked beforehand, and each appears whole or not at all.

    Attributes
    ----------
    image
        The resampled volume; its suffix names the format. A sidecar ``<image>.json`` accompanies
        it, and a folder ``<image>.partial`` while the work is in progress.
    dicom
        Whether to write a DICOM series, with ``image`` as its folder.
    uncertainty
        Standard deviation over the samples, HU, float32.
    segmentation
        Mask to read, on the input's grid.
    segmentation_out
        File for the mask on the output's grid.
    segmentation_interpolation
        ``nearest``, ``linear`` with threshold 0.5, or ``shape``.
    preview
        PNG of planes before and after, and linearly interpolated.
    statistics
        JSON with the mean, deviation and noise of every slice.
    overwrite
        Replace existing files, and discard an interrupted run unless ``resume`` is given.
    resume
        Continue an interrupted run, or make the files that a complete one lacks.
    """

    image: Path
    dicom: bool = False
    uncertainty: Path | None = None
    segmentation: Path | None = None
    segmentation_out: Path | None = None
    segmentation_interpolation: MaskInterpolation = "nearest"
    preview: Path | None = None
    statistics: Path | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.image.name in ("", ".."):  # others would be named after it
            raise UsageError(f"{self.image} is not a name for an output; give one, as out.nrrd")
        if (self.segmentation is None) != (self.segmentation_out is None):
            raise UsageError("a mask needs both its input (--seg) and its output (--seg-out)")
        interpolations = get_args(MaskInterpolation)
        if self.segmentation is None and self.segmentation_interpolation != interpolations[0]:
            raise UsageError("--seg-interpolation is for a mask: give --seg too, or leave it out")
        check_choice("mask interpolation", self.segmentation_interpolation, interpolations)
        if not self.dicom:
            check_format(self.image, ", or with a slash for a DICOM series")
        for path in (self.uncertainty, self.segmentation_out):
            if path is not None:
                check_format(path)
        check_png(self.preview, "preview")

    @property
    def sidecar(self) -> Path:
        """The JSON file that records what was done."""
        return sidecar_of(self.image)

    @property
    def journal(self) -> Path:
        """The folder of finished slices."""
        return self.image.with_name(f"{self.image.name}.partial")

    def products(self) -> dict[str, Path]:
        """Files to write besides the sidecar, by field."""
        paths = {name: getattr(self, name) for name in _PRODUCTS}
        return {name: path for name, path in paths.items() if path is not None}

    def files(self) -> list[Path]:
        """All files to write."""
        products = self.products().values()
        return [*(file for path in products for file in with_voxels(path)), self.sidecar]

    def check_writable(self, inputs: list[Path]) -> None:
        """Raise `OutputError` for a file that exists, has no folder, or would replace an input.

        When a run is resumed, `resumption` judges existing files: the run's own are allowed.
        """
        files = self.files()
        for path in files:
            if self.dicom and path != self.image and resolved(self.image) in resolved(path).parents:
                raise OutputError(
                    f"{path} would lie in the folder of the DICOM series; give it another folder"
                )
            self.check(path, self.overwrite or self.resume)
            check_no_input(path, inputs)
        check_distinct_paths(files)

    def check(self, path: Path, overwrite: bool) -> None:
        """Raise `OutputError` if one of the files cannot be written or must not be replaced."""
        if not self.dicom or path != self.image:
            check_output(path, overwrite)
            return
        require_pydicom()
        from pmtool.dicom.folder import check_series_folder

        check_place(path)
        check_series_folder(path, overwrite)


def with_voxels(path: Path) -> list[Path]:
    """An output, and the voxel file that ITK writes beside it if it is only a header."""
    return [path, path.with_suffix(".zraw")] if path.suffix.lower() == ".mhd" else [path]


def split_options(
    output: str | Path | None, values: dict[str, Any]
) -> tuple[Options, Outputs | None]:
    """Sort keyword arguments into options and outputs.

    If no file is given for a mask, or for the uncertainty of several samples, it is written to a
    `companion` of the output. An uncertainty without a number of samples uses
    `UNCERTAINTY_SAMPLES`.

    Parameters
    ----------
    output
        File of the resampled volume or, if `names_folder` says so, folder of its DICOM series;
        None to write nothing.
    values
        Fields of `Options` and of `Outputs`; paths may be strings, and numbers may be NumPy's.

    Raises
    ------
    UsageError
        If a value is invalid, or files are asked for without an output.
    TypeError
        If a name is unknown.
    """
    values = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
    if values.get("samples") is None:
        values["samples"] = UNCERTAINTY_SAMPLES if values.get("uncertainty") else 1
    names = {field.name for field in fields(Outputs)}
    option_values = {name: value for name, value in values.items() if name not in names}
    written = {name: value for name, value in values.items() if name in names}
    if output is None:
        if written:
            arguments = ", ".join(sorted(written))
            raise UsageError(
                f"an image is returned and no file is written: {arguments} needs output="
            )
        return Options(**option_values), None
    for name in {"segmentation", *_PRODUCTS} & set(written):
        written[name] = None if written[name] is None else _path(name, written[name])
    options, image = Options(**option_values), _path("output", output)
    written.setdefault("dicom", names_folder(output))
    if written.get("segmentation") and not written.get("segmentation_out"):
        written["segmentation_out"] = companion(image, "mask")
    if options.samples > 1 and not written.get("uncertainty"):
        written["uncertainty"] = companion(image, "uncertainty")
    return options, Outputs(image, **written)


def companion(image: Path, kind: str) -> Path:
    """A file beside an output, ``<name>.<kind>.<suffix>``: in its format, or in NRRD for DICOM."""
    return image.with_name(f"{image_stem(image)}.{kind}{written_suffix(image)}")


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} must be the path of a file, not {type(value).__name__}")
    return Path(value)


def names_folder(output: str | Path) -> bool:
    """Whether an output is a folder: it ends with a slash or exists as one."""
    return str(output).endswith(("/", os.sep)) or os.path.isdir(output)  # noqa: PTH112


def with_format(output: str, name: str | None) -> str:
    """Append the suffix of a format to an output that has none; raises `UsageError`.

    A format may be ``dicom``, whose suffix is a slash.
    """
    suffix = "/" if names_folder(output) else image_suffix(Path(output))
    format_suffix = "/" if name == "dicom" else f".{name}"
    if name is None or suffix == format_suffix:
        return output
    if suffix is not None:
        raise UsageError(
            f"{output} does not end with {format_suffix}, the format asked for; change either"
        )
    return output + format_suffix
