"""CUDA sources and what launches them; import it as ``pmtool.kernels``."""
