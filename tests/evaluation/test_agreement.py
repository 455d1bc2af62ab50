"""Concordance and scaled errors against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtool.evaluation.agreement import concordance, is_constant, scaled_errors


@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=20, unique=True
    )
)
def test_concordance_by_its_definition(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs).T
    (found,) = concordance(x[:, None], y[:, None])
    # Lin 1989, equation 1: one minus the ratio of squared deviations to those of independence.
    squared = np.mean((x - y) ** 2)
    independent = np.mean((x[:, None] - y) ** 2)
    if is_constant(y[:, None])[0]:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(1 - squared / independent, abs=1e-6)


def test_concordance_of_published_values() -> None:
    # By hand: means 3 and 4, variances 2 and 2, covariance 1.6.
    x = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    y = np.array([[2.0], [4.0], [3.0], [5.0], [6.0]])
    assert concordance(x, y)[0] == pytest.approx(2 * 1.8 / (2 + 2 + 1))


def test_nan_and_constant_features() -> None:
    y = np.array([[1.0, 7.0, np.nan], [2.0, 7.0, np.nan], [4.0, 7.0, 1.0], [np.nan, 7.0, np.nan]])
    x = y + 0.5
    x[2, 0] = np.nan
    found = concordance(x, y)
    assert found[0] == pytest.approx(2 * 0.25 / (0.25 + 0.25 + 0.25))
    assert np.isnan(found[1:]).all()
    assert is_constant(y).tolist() == [False, True, True]


def test_scaled_errors() -> None:
    errors = np.array([[[1.0, 5.0], [2.0, 5.0]], [[3.0, 5.0], [np.nan, 5.0]]])
    found = scaled_errors(errors)
    assert found[..., 0].ravel() == pytest.approx([0, 0.5, 1, math.nan], nan_ok=True)
    assert np.array_equal(found[..., 1], np.zeros((2, 2)))
    assert np.isnan(scaled_errors(np.full((2, 2, 1), np.nan))).all()
