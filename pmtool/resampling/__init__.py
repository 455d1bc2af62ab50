"""`pmtool resample`: resampling a volume to more slices."""
