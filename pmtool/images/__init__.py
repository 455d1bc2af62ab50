"""CT volumes in memory and in files; DICOM has its own package."""
