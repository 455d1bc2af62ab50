"""Edge maps and the two measures on them."""

from __future__ import annotations

import numpy as np
import pytest

from pmtool.evaluation.edges import edge_map, edge_preservation, edge_share


def test_measures() -> None:
    reference = np.array([True, True, True, True, False, False])
    result = np.array([True, True, False, False, True, False])
    nothing = np.zeros(6, bool)
    assert edge_preservation(result, reference) == 0.5
    assert edge_share(result, reference) == 3 / 7
    assert edge_preservation(nothing, nothing) == 1
    assert edge_share(nothing, nothing) == 0.5
    assert edge_share(reference, reference) == 0.5


def test_edges_of_a_step() -> None:
    pytest.importorskip("cv2")
    values = np.full((32, 32), -2000, np.int16)
    values[:, 16:] = 3000
    found = edge_map(values)
    assert set(np.nonzero(found)[1]) <= {15, 16}
    assert np.all(found.any(axis=1))
    assert not edge_map(np.full((32, 32), 40, np.int16)).any()
