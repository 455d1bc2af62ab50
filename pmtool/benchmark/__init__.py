"""`pmtool bench`: the cached sampler against the naive one, measured in one run."""
