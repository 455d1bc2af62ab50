"""Choices that the command line offers and the library accepts; quick to import, for ``--help``."""

from __future__ import annotations

from typing import Literal, get_args

BACKENDS = ("torch", "tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime-cpu")
FORMATS = ("nrrd", "nii", "nii.gz", "mha", "mhd")
"""Formats that can be written; `pmtool.images.headers.READERS` has those that can be read."""
GridName = Literal["keep-slices", "ibsi", "corner", "origin"]
GRIDS: tuple[GridName, ...] = get_args(GridName)
Interpolator = Literal["nearest", "linear", "bspline"]
INTERPOLATORS: tuple[Interpolator, ...] = get_args(Interpolator)
MaskInterpolation = Literal["nearest", "linear", "shape"]
Mode = Literal["sample", "median", "mean"]
"""How a pixel is chosen: drawn, or the median or the mean of its distribution."""
Precision = Literal["float32", "float16", "bfloat16"]
"""Type of the factors of matrix products and convolutions; arrays are always float32."""
