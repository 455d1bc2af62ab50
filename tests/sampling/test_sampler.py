"""The cached sampler with the model that ships: exact, and the same however the work is divided."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import torch

from pmtool.arrays import Float32s, Slice
from pmtool.backends.onnxruntime import OnnxRuntimeBackend, load
from pmtool.backends.selection import Engine
from pmtool.errors import MemoryBudgetError, UsageError
from pmtool.interface.buffers import Buffers
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
from pmtool.sampling.plan import Plan, make_gpu_plan, make_plan
from pmtool.sampling.sampler import Sampler
from pmtool.sampling.windows import Window
from pmtool.system.limits import cpu_count

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (100, 132)
"""Six windows of 64, the last ones shifted back to the border."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def make_pairs(shape: tuple[int, int], count: int) -> list[SlicePair]:
    """Blurred noise between air and bone; the same first pairs for every ``count``."""
    pairs = []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.normal(-300, 500, (2, shape[0] // 4 + 1, shape[1] // 4 + 1))
        fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[0], : shape[1]]
        above, below = (fine + rng.normal(0, 40, fine.shape)).clip(-1100, 3200).astype(np.int16)
        pairs.append(SlicePair(above, below, 0.3 + 0.2 * number, number + 5))
    return pairs


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
def expected(bundle: Bundle) -> dict[int, Slice]:
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
    bundle: Bundle, expected: dict[int, Slice], options: dict[str, int]
) -> None:
    assert_same(generate(bundle, make_pairs(SHAPE, 3), window=64, **options), expected)


def test_same_bytes_for_any_company_and_order(bundle: Bundle, expected: dict[int, Slice]) -> None:
    """Two threads for the one pair, in one call of the engine."""
    pairs = make_pairs(SHAPE, 3)
    assert_same(generate(bundle, pairs[2:], window=64, threads=2), expected)
    assert_same(generate(bundle, pairs[1::-1], window=64, threads=1), expected)


def test_same_bytes_for_any_memory(bundle: Bundle, expected: dict[int, Slice]) -> None:
    lane = Buffers.size(Layout(bundle.hyperparameters), 64, 64, 1)
    options: dict[str, Any] = {"window": 64, "threads": 1}
    options["memory"] = psutil.Process().memory_info().rss + (60 << 20) + 8 * lane
    pairs = make_pairs(SHAPE, 3)
    plan = Sampler(bundle, SamplerOptions(**options)).plan(SHAPE, len(pairs))
    assert plan.batch < len(pairs) * 2
    assert plan.memory <= options["memory"]
    assert_same(generate(bundle, pairs, **options), expected)


@pytest.mark.parametrize("shape", [(20, 20), (64, 64), SHAPE])
def test_whole_slices(bundle: Bundle, shape: tuple[int, int]) -> None:
    pairs = make_pairs(shape, 2)
    one = generate(bundle, pairs, window="full", threads=2, batch=1)
    other = generate(bundle, pairs, window="full", threads=1, batch=2)
    assert_same(one, other)
    assert {values.shape for values in one.values()} == {shape}


def test_seed_sample_and_mode(bundle: Bundle) -> None:
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
def test_teacher_forced_logits(bundle: Bundle, known: tuple[int, int]) -> None:
    """ONNX Runtime's parameters while generating are those of the network on the result."""
    height, width, lanes = 64, 72, 2
    layout, k = Layout(bundle.hyperparameters), bundle.hyperparameters.mixtures
    pairs = make_pairs((height, width), 2 * lanes)
    group = PairGroup(bundle.hyperparameters, pairs[:lanes], (height, width))
    rows: list[Float32s] = []
    window = Window(0, 0, height, width, *known)
    neighbours = [group.neighbours(lane, window) for lane in range(lanes)]
    backend = OnnxRuntimeBackend(bundle)
    buffers = Buffers(backend.memory, layout, height, width, lanes)
    batch = Lanes(backend, buffers, window.known_columns, "quantile")
    batch.prepare(neighbours)
    others = [from_hounsfield(pair.above, bundle.hyperparameters) for pair in pairs[lanes:]]
    given = np.stack(others, axis=-1)
    uniforms = np.random.default_rng(3).uniform(1e-6, 1 - 1e-6, given.shape).astype(np.float32)
    batch.take(uniforms)
    pixels = batch.generate(given, window.known_rows, lambda row: rows.append(batch.parameters()))
    found = torch.from_numpy(np.stack(rows)).permute(2, 3, 0, 1)
    outer = (torch.from_numpy(np.stack(x))[:, None] for x in zip(*neighbours, strict=True))
    above, below, thickness = outer
    target = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[:, None]
    forced = load_network(bundle)(above, target, below, thickness)
    parts = [part[:, k : 2 * k, known[0] :, known[1] :] for part in forced]
    torch.testing.assert_close(found, torch.cat(parts, dim=1), rtol=0, atol=1e-4)


def test_a_batch_is_halved_where_memory_is_short(
    bundle: Bundle, expected: dict[int, Slice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as it takes, with the same slices; a single window that does not fit is an error."""
    counts, room, lanes = list[int](), 2, LaneCache.lanes

    def short(cache: LaneCache, count: int, known_columns: int, chooser: str) -> Lanes:
        counts.append(count)
        if count > room:
            raise MemoryBudgetError("out of memory")
        return lanes(cache, count, known_columns, chooser)

    monkeypatch.setattr(LaneCache, "lanes", short)
    assert_same(generate(bundle, make_pairs(SHAPE, 3), window=64, threads=1), expected)
    assert counts[0] == 3
    assert set(counts[1:]) == {1}  # what has failed is not tried again
    room = 0
    with pytest.raises(MemoryBudgetError):
        generate(bundle, make_pairs((20, 20), 3), threads=1)


def test_batches_of_engines_that_keep_their_programs(bundle: Bundle) -> None:
    """They are rounded up, made once, and lie in one memory; spare lanes change nothing."""
    pairs, shape = make_pairs((64, 64), 9), (64, 64)
    window, backend = Window(0, 0, *shape, 60, 0), OnnxRuntimeBackend(bundle)
    found = []
    for backend.keeps_programs in (False, True):
        group = PairGroup(bundle.hyperparameters, pairs, shape)
        cache = LaneCache(backend, bundle.hyperparameters, shape, most=12)
        lots = [[(0, window)], [(pair, window) for pair in range(9)]]
        for lot in (*lots, *lots):
            batch = cache.lanes(len(lot), 0, "quantile")
            batch.prepare([group.neighbours(*lane) for lane in lot])
            batch.draw(group.places(lot), 0, "sample")
            known = np.stack([group.target(*lane) for lane in lot], axis=-1)
            found.append(batch.generate(known, window.known_rows))
        assert batch.buffers.lanes == (10 if backend.keeps_programs else 9)
        assert cache.lanes(len(lots[-1]), 0, "quantile") is batch
        few = cache.lanes(1, 0, "quantile").buffers
        for one, other in zip(few.arrays, batch.buffers.arrays, strict=True):
            assert np.shares_memory(one, other) == backend.keeps_programs
    for plain, kept in zip(found[:4], found[4:], strict=True):
        assert plain.shape == kept.shape
        np.testing.assert_array_equal(plain, kept)


def test_plan_for_gpus(bundle: Bundle) -> None:
    """A worker a GPU, and as large a batch as a share of its memory holds."""
    layout = Layout(bundle.hyperparameters)
    lane = Buffers.size(layout, 64, 64, 1)

    def planned(pairs: int = 10, free: int = 50 * lane, **options: Any) -> Plan:
        asked = SamplerOptions(**options)
        return make_gpu_plan(layout, asked, (512, 512), pairs, gpus=2, free=free)

    assert (planned().workers, planned().batch, max(planned().window)) == (2, 30, 64)
    assert planned(pairs=1).workers == 1
    assert planned(batch=3).batch == 3
    assert planned(window=128).batch == 7
    assert planned(free=0).batch == 1
    assert planned(batch=3).memory == 3 * lane
    few = planned(pairs=3, window="full", free=2**40)  # at most two pairs a worker, of one window
    assert few.batch == 2
    assert few.memory == 2 * Buffers.size(layout, 512, 512, 1)


def test_no_more_threads_than_there_are(bundle: Bundle) -> None:
    asked = SamplerOptions(threads=10**6, device="cpu")
    assert make_plan(bundle, asked, SHAPE, 10**6).threads == cpu_count()


def test_several_devices_share_the_pairs(
    bundle: Bundle, expected: dict[int, Slice], monkeypatch: pytest.MonkeyPatch
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


def test_progress_reaches_the_number_of_slices(bundle: Bundle) -> None:
    told: list[float] = []
    pairs = make_pairs((20, 100), 2)
    slices = list(Sampler(bundle, SamplerOptions(window=64)).generate(pairs, told.append))
    assert len(slices) == 2
    assert told == sorted(told)
    assert told[0] < 0.1
    assert told[-1] == pytest.approx(2)


def test_progress_of_a_batch_that_is_repeated(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out in the middle of a window takes back what was told of it."""
    generate_lanes, failed = Lanes.generate, list[int]()

    def short(lanes: Lanes, known: Any, known_rows: int, on_row: Any) -> Any:
        if not failed:
            failed.append(1)
            on_row(0)
            raise MemoryBudgetError("out of memory")
        return generate_lanes(lanes, known, known_rows, on_row)

    monkeypatch.setattr(Lanes, "generate", short)
    told: list[float] = []
    list(Sampler(bundle, SamplerOptions(threads=1)).generate(make_pairs((20, 20), 2), told.append))
    assert failed
    assert told[-1] == pytest.approx(2)


def test_what_is_finished_comes_before_the_error_of_a_worker(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def group(run: Any, indices: range, _: object) -> None:
        if indices.start:
            raise ArithmeticError("broken")
        run.events.put(sampler._Finished(0, np.zeros((20, 20), np.int16)))

    monkeypatch.setattr(sampler._Run, "_group", group)
    made = Sampler(bundle, SamplerOptions(batch=1, threads=1)).generate(make_pairs((20, 20), 2))
    assert next(made)[0] == 0
    with pytest.raises(ArithmeticError, match="broken"):
        next(made)


def test_error_in_a_worker_is_raised(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ArithmeticError("broken")

    monkeypatch.setattr("pmtool.sampling.pairs.PairGroup.places", broken)
    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="broken"):
        generate(bundle, make_pairs((20, 20), 2), threads=2)
    assert threading.active_count() == before


def test_a_thread_that_cannot_start_ends_the_others(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is not kept back until the first thread has generated everything."""
    submit, slices_of = ThreadPoolExecutor.submit, PairGroup.slices
    started, finished = list[int](), list[int]()

    def submit_once(pool: ThreadPoolExecutor, *work: Any) -> Any:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(1)
        return submit(pool, *work)

    def counted(group: PairGroup) -> list[Slice]:
        finished.append(1)
        return slices_of(group)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_once)
    monkeypatch.setattr(PairGroup, "slices", counted)
    slices = Sampler(bundle, SamplerOptions(threads=2, batch=1)).generate(make_pairs((20, 20), 8))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(slices)
    assert len(finished) < 2


def test_stopping_early_ends_the_workers(bundle: Bundle) -> None:
    before, told = threading.active_count(), list[float]()
    options = SamplerOptions(threads=2, batch=1)
    slices = Sampler(bundle, options).generate(make_pairs((20, 20), 8), told.append)
    next(slices)
    slices.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert told[-1] < 7


def test_error_of_the_consumer_ends_the_workers(bundle: Bundle) -> None:
    before = threading.active_count()

    def progress(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Sampler(bundle, SamplerOptions(threads=2)).generate(make_pairs((20, 20), 4), progress))
    assert threading.active_count() == before


def test_plan(bundle: Bundle) -> None:
    sampler = Sampler(bundle, SamplerOptions(window=64, batch=3, threads=2, memory=2**34))
    plan = sampler.plan((512, 512), 10)
    assert (plan.window, plan.batch, plan.workers) == ((64, 64), 3, 2)
    assert 0 < plan.memory <= 2**34
    assert plan.seconds_per_slice > 0


def test_an_estimate_tells_both_sides_of_a_window(bundle: Bundle) -> None:
    """Two that have one side in common make different slices."""
    found = [
        Sampler(bundle, SamplerOptions(window=window)).plan((512, 300), 1).window
        for window in (None, 272)
    ]
    assert found[0] != found[1]
    assert max(found[0]) == max(found[1])


def test_too_little_memory(bundle: Bundle) -> None:
    sampler = Sampler(bundle, SamplerOptions(memory=1))
    with pytest.raises(MemoryBudgetError, match="more with --memory or take a smaller --window"):
        sampler.plan((512, 512), 10)
    with pytest.raises(MemoryBudgetError):
        next(sampler.generate(make_pairs((20, 20), 1)))


def test_memory_that_a_round_has_used_serves_the_next(
    bundle: Bundle, expected: dict[int, Slice]
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


@pytest.mark.parametrize("window", [1, 32, 66])
def test_impossible_window(bundle: Bundle, window: int) -> None:
    with pytest.raises(UsageError, match=f"a window of {window} pixels"):
        Sampler(bundle, SamplerOptions(window=window)).plan((512, 512), 10)


@pytest.mark.parametrize("name", ["batch", "threads", "memory"])
def test_options_are_positive(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(UsageError, match=f"{name} must be positive"):
        SamplerOptions(**options)
