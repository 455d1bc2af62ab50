"""CT series in DICOM files; see docs/formats.md."""

from __future__ import annotations

from pmtool.system.extras import require


def require_pydicom() -> None:
    """Raise `UsageError` if pydicom, which most modules here import, is missing."""
    require("DICOM", ("pydicom",), "pmtool[dicom]")
