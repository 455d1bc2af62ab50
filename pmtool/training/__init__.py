"""Training of PixelMiner networks."""
