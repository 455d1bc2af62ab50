"""`pmtool bench`: the cached sampler compared with the naive one, measured in one run."""
