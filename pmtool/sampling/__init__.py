"""Sampling with PixelMiner: the specification, and the cached, batched sampler."""
