"""Reading pixels of DICOM files as HU."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ImplicitVRLittleEndian

from pmtool.dicom.decoder import Decoder
from pmtool.dicom.headers import damaged, image_headers, number, read_dataset
from pmtool.dicom.series import Image
from pmtool.errors import ContentError, PmtoolError, is_memory_shortage, is_unwritable
from pmtool.images.hounsfield import CT_RANGE

PADDING = -2048
"""HU given to padding that is stored as a value above all HU of a CT, such as 63536, unsigned."""
RESCALE_MAX = 1e6
"""Larger slopes and intercepts cannot lead to HU."""


def read_images(images: Sequence[Image], decoder: Decoder) -> list[tuple[NDArray[Any], Dataset]]:
    """HU ``(H, W)`` and the full header of every image; each file is read once.

    Raises
    ------
    InputError
        If a file is truncated or damaged.
    ContentError
        If it is in colour, or its rescale does not lead to HU.
    """
    read: dict[tuple[Path, int], tuple[NDArray[Any], Dataset]] = {}
    frames: dict[Path, list[int]] = defaultdict(list)
    for image in images:
        frames[image.file].append(image.frame)
    for file, requested in frames.items():
        dataset = read_dataset(file, pixels=True)
        stored, headers = stored_values(dataset, file, decoder), image_headers(dataset)
        declared = number(dataset, "NumberOfFrames") or len(stored)
        for frame in requested:
            if not frame < len(stored) == len(headers) == declared:
                raise damaged(file)
            check_rescale(headers[frame], file)
            read[file, frame] = to_hounsfield(stored[frame], headers[frame]), headers[frame]
    return [read[image.file, image.frame] for image in images]


def stored_values(dataset: Dataset, file: Path, decoder: Decoder) -> NDArray[Any]:
    """Pixels of a file as stored, ``(frames, H, W)``.

    pydicom reads uncompressed pixels, the decoder compressed ones.

    Raises
    ------
    InputError
        If they are truncated or damaged.
    ContentError
        If there are several values per pixel, or its bits are not the lowest ones.
    """
    if number(dataset, "SamplesPerPixel") not in (None, 1):
        raise ContentError(f"{file} is in colour; a CT has one value a pixel")
    bits, highest = number(dataset, "BitsStored"), number(dataset, "HighBit")
    if bits is not None and highest is not None and highest != bits - 1:
        raise ContentError(
            f"{file} has its {bits:g} bits a pixel at another place than the lowest (HighBit "
            f"{highest:g}); export it again"
        )
    dataset.file_meta.setdefault("TransferSyntaxUID", ImplicitVRLittleEndian)
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if syntax.is_encapsulated:
                values = decoder.decode(dataset)
            else:
                values = pixel_array(dataset, raw=True)
    except Exception as error:  # pydicom may raise any exception
        if isinstance(error, PmtoolError) or is_memory_shortage(error) or is_unwritable(error):
            raise  # it is the decoder's
        raise damaged(file) from error
    return values.reshape(-1, *values.shape[-2:])


def rescale(header: Dataset) -> tuple[float, float] | None:
    """Slope and intercept of an image; None if its header has none."""
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    return None if slope is None or intercept is None else (slope, intercept)


def check_rescale(header: Dataset, file: Path) -> None:
    """Raise `ContentError` if the header has a rescale that does not lead to HU, or half of one."""
    keywords = "RescaleSlope", "RescaleIntercept"
    for keyword, other in (keywords, keywords[::-1]):
        if header.get(keyword) is None and header.get(other) is not None:
            raise ContentError(
                f"{file} has a {other} but no {keyword}, so that its HU are not known; correct it"
            )
    for keyword in keywords:
        value = number(header, keyword)
        flat = value == 0 and keyword == "RescaleSlope"
        if header.get(keyword) is not None and (value is None or abs(value) > RESCALE_MAX or flat):
            raise ContentError(
                f"{file} has a {keyword} of {header.get(keyword)}, which leads to no HU; correct it"
            )


def high_padding(header: Dataset) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding above all HU; None if there is none.

    The header may have a number with another sign than the pixels: 63488 for -2048 of 16 bits.
    """
    values = (number(header, key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    count = 1 << int(number(header, "BitsAllocated") or 16)
    lowest = -count // 2 if header.get("PixelRepresentation") == 1 else 0
    ends = sorted((int(end) - lowest) % count + lowest for end in values if end is not None)
    slope, intercept = rescale(header) or (1.0, 0.0)
    if not ends or any(slope * end + intercept <= CT_RANGE[1] for end in ends):
        return None
    return ends[0], ends[-1]


def to_hounsfield(stored: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """An image's rescaled values ``(H, W)``, with high padding mapped to `PADDING` and below.

    For an integer slope and intercept the type is int16 or, if needed, int32; otherwise float32.
    """
    slope, intercept = rescale(header) or (1.0, 0.0)
    stored = stored.astype(np.int64)
    whole = slope.is_integer() and intercept.is_integer()
    values = stored * int(slope) + int(intercept) if whole else stored * slope + intercept
    if padding := high_padding(header):
        outside = (stored >= padding[0]) & (stored <= padding[1])
        values[outside] = PADDING + padding[0] - stored[outside]
    for dtype in (np.int16, np.int32) if whole else ():
        limits = np.iinfo(dtype)
        if limits.min <= values.min() and values.max() <= limits.max:
            return values.astype(dtype)
    return values.astype(np.float32)


def common_type(images: Sequence[NDArray[Any]]) -> np.dtype[Any]:
    """The voxel type that can hold all images."""
    types = {image.dtype for image in images}
    widest = (np.float32, np.int32, np.int16)
    return next(np.dtype(dtype) for dtype in widest if np.dtype(dtype) in types)
