import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from pmtool.choices import INTERPOLATORS, Interpolator
from pmtool.geometry.interpolation import weights


@given(
    nodes=st.integers(2, 40),
    part=st.floats(0, 1),
    interpolator=st.sampled_from(INTERPOLATORS),
)
def test_shares_add_up_to_one(nodes: int, part: float, interpolator: Interpolator) -> None:
    found = weights(part * (nodes - 1), nodes, interpolator)
    assert sum(w.share for w in found) == pytest.approx(1)
    assert all(0 <= w.node < nodes for w in found)


@pytest.mark.parametrize(
    ("interpolator", "method"),
    [
        ("nearest", sitk.sitkNearestNeighbor),
        ("linear", sitk.sitkLinear),
        ("bspline", sitk.sitkBSpline),
    ],
)
@pytest.mark.parametrize("nodes", [5, 30])
def test_agrees_with_itk(interpolator: Interpolator, method: int, nodes: int) -> None:
    values = np.random.default_rng(0).normal(size=nodes)
    image = sitk.GetImageFromArray(np.repeat(values[:, None], 4, axis=1))
    positions = np.linspace(0, nodes - 1, 17)
    expected = sitk.Resample(
        image, (4, 17), sitk.Transform(), method, (0, 0), (1, positions[1]), (1, 0, 0, 1)
    )
    found = [
        sum(w.share * values[w.node] for w in weights(p, nodes, interpolator)) for p in positions
    ]
    assert found[:-1] == pytest.approx(sitk.GetArrayFromImage(expected)[:-1, 0], abs=1e-6)
