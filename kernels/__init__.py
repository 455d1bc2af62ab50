"""CUDA and C++ sources and their launchers; import it as ``pmtool.kernels``."""
