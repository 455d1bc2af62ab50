"""CT series in DICOM files; see docs/formats.md."""

from __future__ import annotations

from importlib.util import find_spec

from pmtool.errors import UsageError


def require_pydicom() -> None:
    """Raise `UsageError` where pydicom is missing, which all but a few modules here import."""
    if find_spec("pydicom") is None:
        raise UsageError("DICOM needs pydicom: pip install 'pmtool[dicom]'")
