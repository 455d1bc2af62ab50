"""`pmtool evaluate` and `pmtool compare`: the paper's measures of slices against the true ones."""
