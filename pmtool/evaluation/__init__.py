"""The paper's measures of a result against the slices that were dropped."""
