"""Pictures of the report show slices upright."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import SimpleITK as sitk

from pmtool.evaluation.pictures import examples
from pmtool.evaluation.run import Case
from pmtool.evaluation.scan import ThinScan
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.volumes import Volumes
from pmtool.loading import load_volume
from pmtool.phantom.chest import chest_phantom


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_an_image_with_other_signs_gives_the_same_pictures(axes: Sequence[int]) -> None:
    """As NIfTI has them."""
    pytest.importorskip("skimage")
    image = chest_phantom(size=128, slices=5, spacing=(2.8, 2.8, 1.25))
    shown = []
    for scanned in (image, sitk.Flip(image, [axis in axes for axis in range(3)])):
        scan = ThinScan("scan", Volumes({"scan": partial(load_volume, scanned)}))
        shown.append(examples([Case(scan, [1, 3], {REFERENCE: scan.truth})]))
    assert shown[0] == shown[1]
