"""Edges and texture of the slices that a benchmark makes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtool.benchmark.quality import qualities
from pmtool.benchmark.scene import make_scene
from pmtool.evaluation import texture


def test_quality() -> None:
    """The truth is perfect, and better than the reference by a sure difference."""
    scene = make_scene(None, 3, 96)
    far = [values[::-1].copy() for values in scene.truths]
    found, left_out = qualities({"far": far, "truth": scene.truths}, scene)
    assert not left_out
    assert set(found["far"]) == {"epr", "edge_share"}
    assert found["truth"]["epr"].mean == 1
    assert found["truth"]["edge_share"].interval == (0.5, 0.5)
    assert found["far"]["epr"].difference is None
    assert found["truth"]["epr"].difference == pytest.approx(1 - found["far"]["epr"].mean)
    interval = found["truth"]["epr"].difference_interval
    assert interval is not None
    assert 0 < interval[0] <= interval[1]


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("radiomics", {"texture": texture.MISSING}),
        ("skimage", {"texture": "finding lungs needs skimage: pip install 'pmtool[evaluate]'"}),
        ("none", {"texture": "there are no lungs in these slices"}),
        ("cv2", {"edges": "Canny needs cv2: pip install 'pmtool[evaluate]'"}),
    ],
)
def test_quality_left_out(
    monkeypatch: pytest.MonkeyPatch, missing: str, why: dict[str, str]
) -> None:
    """What cannot be measured of a scan is named, with the reason."""

    def find_spec(name: str) -> object:
        return None if name == missing else name

    monkeypatch.setattr("pmtool.system.extras.find_spec", find_spec)
    monkeypatch.setattr("pmtool.evaluation.texture.find_spec", find_spec)
    scene = make_scene(None, 1, 64)._replace(real=missing != "cv2")
    scene = scene._replace(truths=[np.zeros_like(values) for values in scene.truths])
    found = qualities({"same": scene.truths}, scene)
    assert found.left_out == why
    assert ("epr" in found.by_run["same"]) == (missing != "cv2")


def test_quality_of_texture() -> None:
    pytest.importorskip("radiomics", reason=texture.MISSING)
    scene = make_scene(None, 2, 256)._replace(real=True)
    blurred = [cv2.blur(truth, (5, 5)).astype(np.int16) for truth in scene.truths]
    found, left_out = qualities({"blurred": blurred, "truth": scene.truths}, scene)
    assert not left_out
    assert found["truth"]["texture_nrmse"].mean == 0
    assert found["blurred"]["texture_nrmse"].mean > 0.1
