"""The provenance of the figures: scans, slices and versions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from pmtool.evaluation.run import Case
from pmtool.evaluation.scoring import MEASURED_BY
from pmtool.system.versions import package_version

VERSIONS = ("pmtool", "numpy", *MEASURED_BY, "SimpleITK")
"""Packages whose versions are recorded."""


def provenance(cases: Sequence[Case]) -> dict[str, Any]:
    """Scans, slices and versions as plain JSON values."""
    return {
        "scans": [
            {
                "name": case.scan.name,
                "sha256_of_voxels_and_geometry": case.scan.digest,
                "mask": case.scan.mask_digest,
                "slices": case.indices,
                "spacing_mm": list(case.scan.geometry.image.GetSpacing()),
            }
            for case in cases
        ],
        "versions": {"python": platform.python_version()}
        | {x: package_version(x) for x in VERSIONS},
    }
