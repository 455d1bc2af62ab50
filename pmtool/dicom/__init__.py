"""CT series in DICOM files; see docs/formats.md."""

from __future__ import annotations

from pmtool.system.extras import require


def require_pydicom() -> None:
    """Raise `UsageError` where pydicom is missing, which all but a few modules here import."""
    require("DICOM", ("pydicom",), "pmtool[dicom]")
