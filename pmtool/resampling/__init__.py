"""`pmtool resample`: from a volume to one with more slices."""
