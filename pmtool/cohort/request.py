"""What to do with every case of a cohort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pmtool.choices import MaskInterpolation
from pmtool.cohort.cases import Case
from pmtool.cohort.result import summary_files
from pmtool.errors import UsageError
from pmtool.geometry.grid import check_spacing
from pmtool.images.headers import voxel_files
from pmtool.images.names import written_suffix
from pmtool.resampling.options import Options, Outputs, companion
from pmtool.system.files import resolved


@dataclass(frozen=True)
class Request:
    """How to resample the cases, and what to write.

    Attributes
    ----------
    folder
        Folder of the outputs.
    spacing
        Slice spacing in mm; or the spacing along x, y and z, where 0 keeps the scan's own.
    options
        Options of resampling.
    file_format
        Format of the volumes: ``dicom`` or a suffix without its dot. None for the scan's own
        format, or NRRD if the scan is DICOM.
    mask_interpolation
        See `Outputs.segmentation_interpolation`.
    preview, statistics
        Also write a preview or the statistics beside every volume.
    evaluate, evaluate_slices
        Also run ``pmtool evaluate`` on every scan, on ``evaluate_slices`` slices or, if that is
        None, on all. Not possible for scans with uneven spacing.
    skip_existing
        Keep existing outputs that were made from the same voxels by the same model and options.
    """

    folder: Path
    spacing: tuple[float, ...]
    options: Options = field(default_factory=Options)
    file_format: str | None = None
    mask_interpolation: MaskInterpolation = "nearest"
    preview: bool = False
    statistics: bool = False
    evaluate: bool = False
    evaluate_slices: int | None = None
    skip_existing: bool = True

    def __post_init__(self) -> None:
        check_spacing(self.spacing)
        if self.evaluate and self.options.allow_uneven:
            raise UsageError("--evaluate does not take --allow-uneven; leave one of them out")
        if self.evaluate_slices is not None and not self.evaluate:
            raise UsageError("--evaluate-slices is for --evaluate: give that too, or leave it out")

    def outputs(self, case: Case) -> Outputs:
        """Output files of a case; they replace existing ones."""
        dicom = self.file_format == "dicom"
        suffix = f".{self.file_format}" if self.file_format else written_suffix(case.path)
        image = self.folder / (case.name if dicom else f"{case.name}{suffix}")
        return Outputs(
            image,
            dicom,
            uncertainty=companion(image, "uncertainty") if self.options.samples > 1 else None,
            segmentation=case.mask,
            segmentation_out=companion(image, "mask") if case.mask else None,
            segmentation_interpolation=self.mask_interpolation if case.mask else "nearest",
            preview=self.folder / f"{case.name}.png" if self.preview else None,
            statistics=self.folder / f"{case.name}.statistics.json" if self.statistics else None,
            overwrite=True,
        )

    def planned(self, case: Case) -> Outputs | None:
        """Output files of a case; None if they cannot be named, as its worker will report."""
        try:
            return self.outputs(case)
        except UsageError:
            return None

    def case_options(self, case: Case) -> Options:
        """Options of resampling with the case's own series and thickness."""
        return replace(
            self.options,
            series_uid=case.series_uid,
            subfolders=case.subfolders,
            thickness=case.thickness or self.options.thickness,
        )

    def evaluation(self, case: Case) -> Path:
        """Folder of a case's evaluation."""
        return self.folder / f"{case.name}.evaluation"

    def check_names(self, cases: Sequence[Case]) -> None:
        """Raise `UsageError` if outputs collide.

        Outputs collide if two cases would write the same output, if one would write into the DICOM
        series of another, or if an output would replace a scan, a mask or the summary.
        """
        owners: dict[str | Path, Case] = {}
        planned = [(case, self.planned(case)) for case in cases]
        series = {outputs.image: case for case, outputs in planned if outputs and outputs.dicom}
        inputs, summaries = _inputs(cases), summary_files(self.folder)
        for case, outputs in planned:
            files = outputs.files() if outputs else []
            things: list[str | Path] = [case.name, *files]
            for thing in things:
                other = owners.setdefault(thing, case)
                if other is not case:
                    raise UsageError(
                        f"{other.path} and {case.path} would both become {thing}; tell them apart "
                        "by --name"
                    )
            for path in files:
                for folder in series.keys() & set(path.parents):
                    raise UsageError(
                        f"{case.path} would be written into {folder}, the series of "
                        f"{series[folder].path}; keep them apart by --name, as by "
                        "--name '{number}'"
                    )
                if resolved(path) in inputs:
                    raise UsageError(
                        f"{case.path} would become {path}, which is an input or holds one; give "
                        "another folder or --name"
                    )
                if path in summaries:
                    raise UsageError(
                        f"{case.path} would become {path}, which is the cohort's summary; give "
                        "another --name"
                    )


def _inputs(cases: Iterable[Case]) -> set[Path]:
    """All files and folders that are read, and the folders above them."""
    paths = {path for case in cases for path in (case.path, case.mask) if path is not None}
    every = {resolved(path) for path in (*paths, *voxel_files(paths))}
    return every | {folder for path in every for folder in path.parents}
