"""PixelMiner's sampling: the specification, and the cached sampler in batches."""
