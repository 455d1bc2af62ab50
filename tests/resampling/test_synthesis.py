"""Which pairs the sampler is given, and when."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.geometry.grid import make_grid
from pmtool.loading import load_volume
from pmtool.resampling.assembly import DyadicStack
from pmtool.resampling.journal import SliceKey
from pmtool.resampling.synthesis import Job, Pairs, all_jobs, missing_jobs


@pytest.fixture
def stack(ct: sitk.Image) -> DyadicStack:
    return DyadicStack(load_volume(ct), make_grid(5, 2.5, 0.625), {}, (-1024, 3071))


def test_pairs_are_fetched_when_asked_for(stack: DyadicStack, ct: sitk.Image) -> None:
    pairs = Pairs(stack, [Job(2, 0), Job(6, 1), Job(1, 1)])
    voxels: Any = sitk.GetArrayViewFromImage(ct)
    assert len(pairs) == 3
    assert np.array_equal(pairs[1].above, voxels[1])
    assert np.array_equal(pairs[1].below, voxels[2])
    assert pairs[1][2:] == (1.0, (1 << 16) + (1 << 15), 1)
    assert pairs[1:][0].number == pairs[1].number
    with pytest.raises(KeyError):
        pairs[2]
    made = np.ones(voxels.shape[1:], np.int16)
    stack.generated[SliceKey(1 << 15, 1)] = made
    assert pairs[2].below is made
    assert pairs[2].relative_thickness == 2.0
    thin = replace(stack, volume=replace(stack.volume, known_thickness=1.0))
    assert [pair.relative_thickness for pair in Pairs(thin, pairs.jobs)] == [0.4, 0.4, 0.8]


def test_what_is_in_the_store_is_not_made_again(stack: DyadicStack) -> None:
    stack.generated[SliceKey(1 << 15, 0)] = np.zeros((12, 10), np.int16)
    first, second = missing_jobs(stack, samples=2)
    assert [job.node for job in first] == [6, 10, 14, 2, 6, 10, 14]
    assert len(second) == 16
    assert [job.node for job in all_jobs(stack.grid, samples=2)[0]] == 2 * [2, 6, 10, 14]
