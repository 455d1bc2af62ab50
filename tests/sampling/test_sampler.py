"""The cached sampler with the model that ships: exact, and the same however the work is divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import torch

from pmtool.arrays import Float32s, Slice
from pmtool.backends.onnxruntime import OnnxRuntimeBackend, load
from pmtool.backends.selection import Engine
from pmtool.errors import MemoryBudgetError
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Backend
from pmtool.models.bundle import Bundle
from pmtool.network.inference import load_network
from pmtool.phantom.chest import chest_phantom
from pmtool.pixels.levels import from_hounsfield
from pmtool.sampling import sampler
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.plan import make_gpu_plan, make_plan
from pmtool.sampling.sampler import Sampler
from pmtool.sampling.windows import Window

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (100, 132)
"""Six windows of 64, the last ones shifted back to the border."""
MakePairs = Callable[[tuple[int, int], int], list[SlicePair]]


def generate(bundle: Bundle, pairs: Sequence[SlicePair], **options: Any) -> dict[int, Slice]:
    """Slices by the pair's number."""
    sampler = Sampler(bundle, SamplerOptions(**options))
    slices = dict(sampler.generate(pairs))
    assert sorted(slices) == list(range(len(pairs)))
    return {pairs[index].number: values for index, values in slices.items()}


def assert_same(found: dict[int, Slice], expected: dict[int, Slice]) -> None:
    for number, values in found.items():
        np.testing.assert_array_equal(values, expected[number])


@pytest.fixture(scope="module")
def expected(bundle: Bundle, make_pairs: MakePairs) -> dict[int, Slice]:
    """Three slices in windows of 64, with one thread."""
    return generate(bundle, make_pairs(SHAPE, 3), window=64, threads=1)


def test_the_phantoms_missing_slice(bundle: Bundle) -> None:
    """Nearer to the truth than a neighbour is, and as noisy as the truth."""
    phantom = sitk.GetArrayFromImage(chest_phantom(132, 3, (2.7, 2.7, 1.25))).clip(-1024)
    above, truth, below = phantom
    values = generate(bundle, [SlicePair(above, below, 0.5, 0)], window=64)[0]
    assert values.dtype == np.int16
    assert values.shape == truth.shape
    assert np.corrcoef(values.ravel(), truth.ravel())[0, 1] > 0.995
    assert np.abs(values - truth).mean() < np.abs(above - truth).mean()
    noise = [np.diff(image, axis=1)[truth[:, 1:] > -1024].std() for image in (values, truth)]
    assert noise[0] == pytest.approx(noise[1], rel=0.05)


@pytest.mark.parametrize(
    "options",
    [{"batch": 1, "threads": 2}, {"batch": 2, "threads": 1}],
    ids=["two workers, window by window", "two windows at once"],
)
def test_same_bytes_for_any_batch_and_threads(
    bundle: Bundle, expected: dict[int, Slice], options: dict[str, int], make_pairs: MakePairs
) -> None:
    assert_same(generate(bundle, make_pairs(SHAPE, 3), window=64, **options), expected)


def test_same_bytes_if_workers_have_different_numbers_of_threads(
    bundle: Bundle,
    expected: dict[int, Slice],
    monkeypatch: pytest.MonkeyPatch,
    make_pairs: MakePairs,
) -> None:
    monkeypatch.setattr("pmtool.sampling.options.cpu_count", lambda: 3)
    loaded: list[int] = []

    def count(*asked: Any) -> Backend:
        loaded.append(asked[-1])
        return load(asked[0], "cpu", "float32", asked[-1])

    monkeypatch.setattr(Engine, "load", lambda _, *asked: count(*asked))
    assert_same(generate(bundle, make_pairs(SHAPE, 2), window=64, batch=1), expected)
    assert loaded == [2, 1]


def test_same_bytes_for_any_company_and_order(
    bundle: Bundle, expected: dict[int, Slice], make_pairs: MakePairs
) -> None:
    """Two threads for the one pair, in one call of the engine."""
    pairs = make_pairs(SHAPE, 3)
    assert_same(generate(bundle, pairs[2:], window=64, threads=2), expected)
    assert_same(generate(bundle, pairs[1::-1], window=64, threads=1), expected)


def test_same_bytes_for_any_memory(
    bundle: Bundle, expected: dict[int, Slice], make_pairs: MakePairs
) -> None:
    lane = Buffers.size(Layout(bundle.hyperparameters), 64, 64, 1)
    options: dict[str, Any] = {"window": 64, "threads": 1}
    options["memory"] = psutil.Process().memory_info().rss + (60 << 20) + 8 * lane
    pairs = make_pairs(SHAPE, 3)
    plan = Sampler(bundle, SamplerOptions(**options)).plan(SHAPE, len(pairs))
    assert plan.batch < len(pairs) * 2
    assert plan.memory <= options["memory"]
    assert_same(generate(bundle, pairs, **options), expected)


def test_memory_that_a_round_has_used_serves_the_next(
    bundle: Bundle, expected: dict[int, Slice], make_pairs: MakePairs
) -> None:
    """The process keeps what the first round took, which must not be counted twice."""
    sampler = Sampler(bundle, SamplerOptions(window=64, threads=1))
    pairs = make_pairs(SHAPE, 2)
    first = dict(sampler.generate(pairs))
    sampler.options = SamplerOptions(window=64, threads=1, memory=1)
    assert_same({pairs[i].number: values for i, values in first.items()}, expected)
    assert_same({pairs[0].number: dict(sampler.generate(pairs[:1]))[0]}, expected)
    with pytest.raises(MemoryBudgetError):
        next(sampler.generate(make_pairs((20, 20), 1)))


def test_a_tight_budget_leaves_later_rounds_as_many_workers(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, make_pairs: MakePairs
) -> None:
    """Even after a round with fewer pairs than workers."""
    monkeypatch.setattr("pmtool.sampling.options.cpu_count", lambda: 2)
    monkeypatch.setattr("pmtool.sampling.plan.free_memory", lambda: 2**34)
    made, pairs = Sampler(bundle, SamplerOptions(memory=2**34)), make_pairs((20, 20), 2)
    first = made.plan((20, 20), 2)
    list(made.generate(pairs))
    alone = make_plan(bundle, SamplerOptions(batch=1, memory=2**34), (20, 20), 1)
    made.options = SamplerOptions(memory=alone.memory + 2**20)
    assert make_plan(bundle, made.options, (20, 20), 2).workers < first.workers == 2
    assert made.plan((20, 20), 2) == first
    list(made.generate(pairs[:1]))
    assert [made.plan((20, 20), pairs).workers for pairs in (1, 2)] == [1, 2]


@pytest.mark.parametrize("shape", [(20, 20), (64, 64), SHAPE])
def test_whole_slices(bundle: Bundle, shape: tuple[int, int], make_pairs: MakePairs) -> None:
    pairs = make_pairs(shape, 2)
    one = generate(bundle, pairs, window="full", threads=2, batch=1)
    other = generate(bundle, pairs, window="full", threads=1, batch=2)
    assert_same(one, other)
    assert {values.shape for values in one.values()} == {shape}


def test_seed_sample_and_mode(bundle: Bundle, make_pairs: MakePairs) -> None:
    (pair,) = make_pairs((20, 20), 1)

    def run(sample: int = 0, **options: Any) -> Slice:
        return generate(bundle, [pair._replace(sample=sample)], **options)[pair.number]

    drawn = [run(), run(seed=1), run(sample=1)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (drawn[one] != drawn[other]).mean() > 0.5
    np.testing.assert_array_equal(run(mode="median"), run(mode="median", seed=1, sample=2))
    noise = [values.astype(float).std() for values in (drawn[0], run(mode="mean"))]
    assert noise[1] < noise[0]


@pytest.mark.parametrize("known", [(0, 0), (0, 32), (32, 0), (32, 32), (40, 20)])
@torch.inference_mode()
def test_teacher_forced_logits(
    bundle: Bundle, known: tuple[int, int], make_pairs: MakePairs
) -> None:
    """ONNX Runtime's parameters while generating are those of the network on the result."""
    height, width, lanes = 64, 72, 2
    layout, own = Layout(bundle.hyperparameters), bundle.hyperparameters.target_mixtures
    pairs = make_pairs((height, width), 2 * lanes)
    rows: list[Float32s] = []
    windows = [(lane, Window(0, 0, height, width, *known)) for lane in range(lanes)]
    backend = OnnxRuntimeBackend(bundle)
    group = PairGroup(bundle.hyperparameters, pairs[:lanes], (height, width), backend.memory)
    buffers = Buffers(backend.memory, layout, height, width, lanes)
    batch = Lanes(backend, buffers, known[1], "quantile")
    batch.prepare(group, windows)
    others = [from_hounsfield(pair.above, bundle.hyperparameters) for pair in pairs[lanes:]]
    group.targets[:] = others
    shape = height, width, lanes
    uniforms = np.random.default_rng(3).uniform(1e-6, 1 - 1e-6, shape).astype(np.float32)
    batch.take(uniforms)
    batch.generate(group, windows, lambda row: rows.append(batch.parameters()))
    found = torch.from_numpy(np.stack(rows)).permute(2, 3, 0, 1)
    above, below, thickness = map(torch.from_numpy, group.neighbours(windows))
    target = torch.from_numpy(group.targets)[:, None]
    forced = load_network(bundle)(above, target, below, thickness)
    parts = [part[:, own, known[0] :, known[1] :] for part in forced]
    torch.testing.assert_close(found, torch.cat(parts, dim=1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "error",
    [MemoryBudgetError("out of memory"), MemoryError(), RuntimeError("CUDA out of memory")],
    ids=repr,
)
def test_a_batch_is_halved_where_memory_is_short(
    error: Exception,
    bundle: Bundle,
    expected: dict[int, Slice],
    monkeypatch: pytest.MonkeyPatch,
    make_pairs: MakePairs,
) -> None:
    """As often as it takes, with the same slices; a single window that does not fit is an error."""
    counts, room, lanes = list[int](), 2, LaneCache.lanes

    def short(cache: LaneCache, count: int, known_columns: int, chooser: str) -> Lanes:
        counts.append(count)
        if count > room:
            raise error
        return lanes(cache, count, known_columns, chooser)

    monkeypatch.setattr(LaneCache, "lanes", short)
    assert_same(generate(bundle, make_pairs(SHAPE, 3), window=64, threads=1), expected)
    assert counts[0] == 3
    assert set(counts[1:]) == {1}  # what has failed is not tried again
    room = 0
    with pytest.raises(type(error)):
        generate(bundle, make_pairs((20, 20), 3), threads=1)


def test_batches_of_engines_that_keep_their_programs(bundle: Bundle, make_pairs: MakePairs) -> None:
    """They are rounded up, made once, and lie in one memory; spare lanes change nothing."""
    pairs, shape = make_pairs((64, 64), 9), (64, 64)
    window, backend = Window(0, 0, *shape, 60, 0), OnnxRuntimeBackend(bundle)
    found = []
    for backend.keeps_programs in (False, True):
        group = PairGroup(bundle.hyperparameters, pairs, shape, backend.memory)
        cache = LaneCache(backend, bundle.hyperparameters, shape, most=12)
        lots = [[(0, window)], [(pair, window) for pair in range(9)]]
        for lot in (*lots, *lots):
            batch = cache.lanes(len(lot), 0, "quantile")
            batch.prepare(group, lot)
            batch.draw(group.places(lot), 0, "sample")
            batch.generate(group, lot)
            found.append(np.stack([group.target(*lane) for lane in lot]))
        assert batch.buffers.lanes == (10 if backend.keeps_programs else 9)
        assert cache.lanes(len(lots[-1]), 0, "quantile") is batch
        few = cache.lanes(1, 0, "quantile").buffers
        for one, other in zip(few.arrays, batch.buffers.arrays, strict=True):
            assert np.shares_memory(one, other) == backend.keeps_programs
    for plain, kept in zip(found[:4], found[4:], strict=True):
        assert plain.shape == kept.shape
        np.testing.assert_array_equal(plain, kept)


def test_neighbours_have_a_margin(bundle: Bundle) -> None:
    """With the slice's border pixels repeated beyond the slice, even where it is padded."""
    hyperparameters, size, shape = bundle.hyperparameters, (70, 91), (72, 92)
    margin, rng = hyperparameters.margin, np.random.default_rng(0)
    above, below = rng.integers(-2000, 4000, (2, *size)).astype(np.int16)
    group = PairGroup(hyperparameters, [SlicePair(above, below, 0.5, 0)], shape, HostMemory())
    for window in (Window(0, 0, 64, 64, 0, 0), Window(8, 28, 64, 64, 56, 36)):
        found = group.neighbours([(0, window)])
        rows = np.arange(-margin, 64 + margin) + window.top
        columns = np.arange(-margin, 64 + margin) + window.left
        inside = np.ix_(rows.clip(0, size[0] - 1), columns.clip(0, size[1] - 1))
        for values, pixels in ((above, found.above), (below, found.below)):
            expected = from_hounsfield(values[inside], hyperparameters)
            np.testing.assert_array_equal(pixels, expected[None, None])
        assert found.relative_thickness == 0.5


def test_several_devices_share_the_pairs(
    bundle: Bundle,
    expected: dict[int, Slice],
    monkeypatch: pytest.MonkeyPatch,
    make_pairs: MakePairs,
) -> None:
    """Here two engines on the CPU take the place of GPUs."""
    loaded: list[str] = []

    class TwoDevices(Engine):
        def load(self, bundle: Bundle, device: str, threads: int) -> Backend:
            loaded.append(device)
            return load(bundle, device, "float32", 1)

    engine = TwoDevices("tensorrt", ("cuda:0", "cuda:1"), "float32")
    monkeypatch.setattr(sampler, "working_engines", lambda *_: iter([engine]))
    monkeypatch.setattr(sampler, "free_gpu_memory", {"cuda:0": 2**30, "cuda:1": 2**28}.__getitem__)
    made = Sampler(bundle, SamplerOptions())
    assert made.device == "cuda:0,cuda:1"
    pairs = make_pairs(SHAPE, 3)
    assert (
        made.plan(SHAPE, 3).batch
        == make_gpu_plan(made.layout, made.options, SHAPE, 3, gpus=2, free=2**28).batch
    )
    found = {pairs[index].number: values for index, values in made.generate(pairs)}
    assert loaded == ["cuda:0", "cuda:1"]
    assert_same(found, expected)
