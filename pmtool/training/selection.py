"""Selecting the scans to train on and the patients to hold back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pmtool.errors import UsageError
from pmtool.system.hashes import bytes_hash
from pmtool.system.units import counted
from pmtool.training.cache import CachedScan
from pmtool.training.settings import CropSettings

_ONE_ID = "; if several patients have the same PatientID, write their scans as image files"
_ROUNDING = 1.001


class Split(NamedTuple):
    """Scans for training and for validation, of different patients."""

    training: list[CachedScan]
    validation: list[CachedScan]

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Describe the scans of both sides, with all that affects what is learnt from them."""
        return {
            side: [
                {
                    "name": scan.name,
                    "spacing_mm": scan.spacing,
                    "thickness_mm": scan.thickness,
                    "sha256": scan.sha256,
                }
                for scan in scans
            ]
            for side, scans in self._asdict().items()
        }


def strides(scan: CachedScan, settings: CropSettings) -> list[int]:
    """Possible distances, in slices, of a scan's targets to their neighbours."""
    return [
        stride
        for stride, probability in enumerate(settings.strides, 1)
        if probability > 0
        and stride * scan.spacing <= settings.max_spacing_mm * _ROUNDING
        and 2 * stride < scan.shape[0]
    ]


def target_spacings(scans: Sequence[CachedScan], settings: CropSettings) -> tuple[float, float]:
    """Smallest and largest distance of a target to its neighbours, in mm."""
    distances = [stride * scan.spacing for scan in scans for stride in strides(scan, settings)]
    return min(distances), max(distances)


def most_averaged(scan: CachedScan, stride: int) -> int:
    """Largest number of adjacent slices that are averaged into a thick one."""
    return min(2 * stride, scan.shape[0] - 2 * stride)


def largest_thickness(scans: Sequence[CachedScan], settings: CropSettings) -> float:
    """Largest thickness of a slice in training, in mm."""
    return max(
        scan.thickness_of_mean(averaged)
        for scan in scans
        for stride in strides(scan, settings)
        for averaged in (1, most_averaged(scan, stride) if settings.thick else 1)
    )


def usable(
    scans: Sequence[CachedScan], settings: CropSettings
) -> tuple[list[CachedScan], list[str]]:
    """Return the scans from which crops can be drawn, and sentences on the others."""
    suitable, skipped = [], []
    for scan in scans:
        _, height, width = scan.shape
        if not strides(scan, settings):
            skipped.append(
                f"{scan.name} has slices {scan.spacing:g} mm apart, more than the "
                f"{settings.max_spacing_mm:g} mm of crops.max_spacing_mm"
            )
        elif min(height, width) < settings.size:
            skipped.append(f"{scan.name} has slices of {width}x{height}, less than a crop")
        else:
            suitable.append(scan)
    return suitable, skipped


def undivided(scans: Sequence[CachedScan]) -> tuple[list[CachedScan], list[str]]:
    """Return the scans that are whole series, without copies, and sentences on partial series."""
    unlike: dict[str, CachedScan] = {}
    groups: dict[tuple[str, str], list[CachedScan]] = {}
    for scan in scans:
        unlike.setdefault(scan.sha256, scan)
    for scan in unlike.values():
        groups.setdefault((scan.patient, scan.series or str(scan.file)), []).append(scan)
    whole, skipped = [], []
    for group in groups.values():
        if len(group) == 1:
            whole.append(group[0])
            continue
        reason = f"is a part of a series that lies in {len(group)} folders: put it into one folder"
        skipped += [f"{scan.name} {reason}" for scan in group]
    return whole, skipped


def thick_scans_text(scans: Sequence[CachedScan], settings: CropSettings) -> str | None:
    """Sentence on slices that are thick or far apart; None if there are none."""
    limit = settings.max_spacing_mm
    thick = [scan for scan in scans if max(scan.thickness, scan.spacing) > limit * _ROUNDING]
    if not thick:
        return None
    return (
        f"slices are thicker or further apart than {limit:g} mm in {counted(len(thick), 'scan')}, "
        f"such as {thick[0].name} ({thick[0].thickness:g} mm, {thick[0].spacing:g} mm apart): thin "
        "slices are what a model has to learn"
    )


def split_patients(scans: Sequence[CachedScan], share: float, seed: int) -> Split:
    """Hold back a share of the patients, at least one; raises `UsageError` for a single patient.

    Which patients are held back depends only on their names and the seed.
    """
    patients = sorted(
        {scan.patient for scan in scans}, key=lambda name: bytes_hash(f"{seed} {name}".encode())
    )
    if len(patients) < 2:
        raise UsageError(
            f"all scans are of one patient ({patients[0]}), so that none can be held back: give "
            f"scans of another with --validation{_ONE_ID}"
        )
    held = set(patients[: min(max(round(share * len(patients)), 1), len(patients) - 1)])
    training = [scan for scan in scans if scan.patient not in held]
    return Split(training, [scan for scan in scans if scan.patient in held])


def explicit_split(training: list[CachedScan], validation: list[CachedScan]) -> Split:
    """Split as the user divides the scans.

    Raises
    ------
    UsageError
        If a patient, or the same voxels under any name, are on both sides.
    """
    both = {scan.patient for scan in training} & {scan.patient for scan in validation}
    if both:
        raise UsageError(
            f"patient {min(both)} is in both the training and the validation data: take either "
            f"out{_ONE_ID}"
        )
    by_hash = {scan.sha256: scan.name for scan in training}
    for scan in validation:
        if scan.sha256 in by_hash:
            raise UsageError(
                f"{scan.name} of the validation data is a copy of {by_hash[scan.sha256]}, which is "
                "trained on: take either out"
            )
    return Split(training, validation)
