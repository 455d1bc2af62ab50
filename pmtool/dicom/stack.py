"""Stacking the images of a series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.dicom.decoder import Decoder
from pmtool.dicom.geometry import (
    SAME_PLACE,
    Planes,
    check_straight,
    image_planes,
    is_even,
    unevenness,
)
from pmtool.dicom.pixels import read_images, rescale
from pmtool.dicom.series import DISTINGUISHING, Image, Series
from pmtool.errors import ContentError, GeometryError
from pmtool.images.reading import ReadingOptions
from pmtool.system.tables import listed
from pmtool.system.units import counted

_OF_ONE_SCAN = ("AcquisitionNumber", "ConvolutionKernel", "KVP", "SliceThickness")
"""Attributes that may change along a scan, such as between rotations, but not back and forth."""


class OrderedImages(NamedTuple):
    """Images in order along the normal of their planes, and the planes."""

    images: list[Image]
    planes: Planes

    @property
    def positions(self) -> tuple[float, ...] | None:
        """Positions of the slices, mm after the first one; None if they are even."""
        depths = self.planes.depths
        return None if is_even(depths) else tuple((depths - depths[0]).tolist())

    @property
    def distance(self) -> float:
        """Distance between neighbouring slices, mm: the mean, or the median if they are uneven."""
        depths = self.planes.depths
        return float((np.mean if is_even(depths) else np.median)(np.diff(depths)))


def stack_images(series: Series, name: str, reading: ReadingOptions) -> OrderedImages:
    """Order the images of a series.

    Raises
    ------
    GeometryError
        If they are not parallel, of one size and straight above each other; if they belong to
        several patients or frames of reference; if there are different images at one position;
        or, unless ``reading`` allows it, if the slices' distances differ.
    ContentError
        If only some of them say how to rescale their values.

    Warns
    -----
    UserWarning
        If an image is present more than once, or slices of several scans seem to alternate.
    """
    images = series.images
    planes = image_planes([image.header for image in images], name)
    _check_alike(images, name)
    check_straight(planes, name)
    order = _without_repeats(images, planes, name)
    if len(order) < 2:
        raise GeometryError(
            f"{name} has a single slice; slices can only be made between two others"
        )
    stack = OrderedImages([images[i] for i in order], planes._replace(places=planes.places[order]))
    if not reading.allow_uneven and not is_even(stack.planes.depths):
        remedy = "take slices where they lie by --allow-uneven"
        if "allow_uneven" in reading.unadvised:
            remedy = "give an even stack"
        gaps = unevenness(stack.planes.depths, name)
        raise GeometryError(f"{gaps}; copy missing slices, or {remedy}")
    _warn_of_several_scans(stack.images, name)
    return stack


def _check_alike(images: Sequence[Image], name: str) -> None:
    for keyword, what in (
        ("PatientID", "patients"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        values = {str(image.header.get(keyword) or "") for image in images} - {""}
        if len(values) > 1:
            raise GeometryError(
                f"the slices of {name} are of several {what} ({keyword}); give each in a folder "
                "of its own"
            )
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        listing = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise GeometryError(
            f"the slices of {name} have {listing} pixels; give each size on its own"
        )
    if len({rescale(image.header) is None for image in images}) > 1:
        raise ContentError(
            f"some slices of {name} have no RescaleSlope and RescaleIntercept and others have; "
            "export it again"
        )


def _warn_of_several_scans(images: Sequence[Image], name: str) -> None:
    """Warn if an attribute in `_OF_ONE_SCAN` returns to an earlier value along the stack."""
    for keyword in _OF_ONE_SCAN:
        header_values = (image.header.get(keyword) for image in images)
        values = [str(value) for value in header_values if value not in (None, "")]
        changes = sum(one != other for one, other in pairwise(values))
        if changes >= len(set(values)) > 1:
            warnings.warn(
                f"the slices of {name} change to and fro in {keyword} "
                f"({listed(sorted(set(values)))}), as if they were of several scans; give each in "
                "a folder of its own",
                stacklevel=3,
            )


def _without_repeats(images: Sequence[Image], planes: Planes, name: str) -> NDArray[np.intp]:
    """Indices of the images in order of depth, one per depth."""
    places = _places(planes)
    with Decoder() as decoder:
        for place in places:
            if len(place) > 1:
                depth = float(planes.depths[place[0]])
                _check_equal([images[i] for i in place], depth, name, decoder)
    repeats = len(images) - len(places)
    if repeats:
        repeated = counted(repeats, "image")
        warnings.warn(
            f"{name} repeats {repeated} (same position, same voxels); one is taken", stacklevel=2
        )
    return np.array([place[0] for place in places])


def _places(planes: Planes) -> list[NDArray[np.intp]]:
    """Indices of the images at each depth, in increasing order."""
    order = np.argsort(planes.depths, kind="stable")
    steps = np.diff(planes.depths[order])
    return np.split(order, np.flatnonzero(steps > SAME_PLACE * min(planes.pixel)) + 1)


def _check_equal(images: list[Image], depth: float, name: str, decoder: Decoder) -> None:
    """Raise `GeometryError` for images at one position whose pixels differ."""
    first, *others = (values for values, _ in read_images(images, decoder))
    if all(np.array_equal(first, other) for other in others):
        return
    values = ((key, {str(image.header.get(key)) for image in images}) for key in DISTINGUISHING)
    differing = (f"{key} ({', '.join(sorted(found))})" for key, found in values if len(found) > 1)
    raise GeometryError(
        f"{name} has {len(images)} different images at {depth:.4g} mm, which differ in "
        f"{next(differing, 'their pixels alone')}; give each stack in a folder of its own"
    )
