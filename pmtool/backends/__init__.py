"""Engines that run the graphs of the cached sampler, behind one protocol."""
