"""CT series in DICOM files; see docs/formats.md."""
