"""A benchmark from its options to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from pmtool.backends import Backend
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.benchmark.cached import CachedRun, run_cached
from pmtool.benchmark.naive import WINDOW, PassCost, TimedNetwork, pass_costs
from pmtool.benchmark.parity import generate_strip, largest_difference
from pmtool.benchmark.peaks import measure_peak
from pmtool.benchmark.report import Report, Run, StripReport
from pmtool.benchmark.scene import Scene, Slice, make_scene
from pmtool.benchmark.timing import torch_threads
from pmtool.bundle import Bundle
from pmtool.errors import UsageError
from pmtool.evaluation.edges import Edges, edge_map, edge_preservation, edge_share
from pmtool.network.inference import ArrayNetwork, load_network
from pmtool.pairs import SlicePair
from pmtool.plan import SamplerOptions, operations

SEED = 0
MARGIN = 40
"""Of the pair in the teacher-forced comparison: beyond a window, and no multiple of 32."""

Tell = Callable[[str, float], None]
"""Told of what is under way and how much of it is done."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What `pmtool bench` may be asked.

    Attributes
    ----------
    source
        A scan, of whose slices every second one is dropped; the phantom if None.
    size, pairs
        Of the phantom's slices in pixels, and of the slice pairs.
    passes
        Forward passes that the naive sampler really does: whole rows of 64 pixels.
    """

    model: Path | None = None
    source: Path | None = None
    window: int | Literal["full"] | None = None
    batch: int | None = None
    threads: int | None = None
    size: int = 512
    pairs: int = 8
    passes: int = 2048

    def __post_init__(self) -> None:
        if self.size < WINDOW or self.pairs < 1:
            raise UsageError(
                f"a benchmark needs slices of {WINDOW} pixels or more and at least one pair, "
                f"not {self.size} and {self.pairs}"
            )
        if not WINDOW <= self.passes <= WINDOW**2:
            raise UsageError(
                f"the naive passes must lie between {WINDOW} and {WINDOW**2}, not {self.passes}"
            )


def run_benchmark(options: BenchmarkOptions, tell: Tell) -> Report:
    """Measure all of it in one run; raises `UsageError`, `ModelError` and `InputError`."""
    tell("preparing slices", 0)
    bundle = Bundle.load(options.model)
    scene = make_scene(options.source, options.pairs, options.size)
    if min(scene.truths[0].shape) < WINDOW:
        raise UsageError(f"{scene.name} has slices of fewer than {WINDOW} pixels")
    small = default = _generate(bundle, options, WINDOW, scene, tell)
    if options.window != WINDOW:
        default = _generate(bundle, options, options.window, scene, tell)
    sizes = sorted({WINDOW, max(default.plan.window)})
    threads, backend = small.plan.threads, OnnxRuntimeBackend(bundle, small.plan.threads)
    tell("matrix products", 0)
    peak = measure_peak("cpu", "float32", threads)
    tell("forward passes", 0)
    network = load_network(bundle)
    costs = pass_costs(network, threads)
    timed = TimedNetwork(network, lambda done: tell("naive sampler", done / options.passes))
    with torch_threads(min(costs, key=lambda cost: (cost.batch, cost.seconds)).threads):
        strip = _strip(backend, timed, scene, options.passes)
        costs = sorted([*costs, timed.cost()], key=lambda cost: cost.seconds)
        tell("teacher forcing", 0)
        plain = ArrayNetwork(network)
        differences = {size: _difference(backend, plain, scene, size) for size in sizes}
    truth = _edge_maps(scene.truths)
    reports = [_cached(bundle, run, scene, truth) for run in (small, default)]
    return Report(
        scene=scene.name,
        model=bundle.manifest.name,
        model_hash=bundle.hash,
        gemm_gflops=peak.gemm / 1e9,
        passes=costs,
        max_logit_difference=differences,
        strip=strip,
        naive=_naive(bundle, costs[0], scene),
        window_64=reports[0],
        default=reports[-1] if default is not small else reports[0],
    )


def _generate(
    bundle: Bundle,
    options: BenchmarkOptions,
    window: int | Literal["full"] | None,
    scene: Scene,
    tell: Tell,
) -> CachedRun:
    asked = SamplerOptions(window, options.batch, options.threads)
    label = f"cached, window {window or 'default'}"
    return run_cached(bundle, asked, scene.pairs, lambda x: tell(label, x / len(scene.pairs)))


def _strip(backend: Backend, network: TimedNetwork, scene: Scene, passes: int) -> StripReport:
    """Both samplers on the last rows of the busiest window."""
    place, rows = scene.busiest(WINDOW), passes // WINDOW
    pair, truth = _crop(scene, place, WINDOW)
    strip = generate_strip(backend, network, pair, truth, rows, SEED)
    new = [_edge_map(x) for x in (strip.truth, strip.naive, strip.cached)]
    reference, *results = [None if edges is None else edges[-rows:] for edges in new]
    measured = [_measures([edges], [reference]) for edges in results]
    epr, share = (
        dict(zip(("naive", "cached"), x, strict=True)) for x in zip(*measured, strict=True)
    )
    return StripReport(place, rows, len(network.seconds), strip.equal, strip.largest, epr, share)


def _difference(backend: Backend, network: ArrayNetwork, scene: Scene, window: int) -> float:
    """Of the parameters, on a part of a slice that has windows of all kinds."""
    pair, _ = _crop(scene, scene.busiest(WINDOW), window + MARGIN)
    return largest_difference(backend, network, pair, window, SEED)


def _crop(scene: Scene, place: tuple[int, int, int], size: int) -> tuple[SlicePair, Slice]:
    """A square of a pair and its truth near a place, or as much as there is."""
    index, *corner = place
    truth = scene.truths[index]
    top, left = (max(0, min(x, n - size)) for x, n in zip(corner, truth.shape, strict=True))
    part = slice(top, top + size), slice(left, left + size)
    pair = scene.pairs[index]
    return pair._replace(above=pair.above[part], below=pair.below[part]), truth[part]


def _cached(bundle: Bundle, run: CachedRun, scene: Scene, truth: list[Edges | None]) -> Run:
    epr, share = _measures(_edge_maps(run.slices), truth)
    height, width = scene.truths[0].shape
    return Run(
        name=f"cached, {max(run.plan.window)}",
        backend=run.backend,
        channels=bundle.hyperparameters.channels,
        pairs=len(scene.pairs),
        size=(height, width),
        window=run.plan.window,
        batch=run.plan.batch,
        threads=run.plan.threads,
        seconds=run.seconds,
        gflops=run.operations / run.seconds / 1e9,
        shares=run.shares,
        epr=epr,
        edge_share=share,
    )


def _naive(bundle: Bundle, cost: PassCost, scene: Scene) -> Run:
    """One pass a pixel."""
    height, width = scene.truths[0].shape
    return Run(
        name="naive",
        backend="torch",
        channels=bundle.hyperparameters.channels,
        pairs=len(scene.pairs),
        size=(height, width),
        window=(WINDOW, WINDOW),
        batch=cost.batch,
        threads=cost.threads,
        seconds=cost.seconds * height * width * len(scene.pairs),
        gflops=operations(bundle.hyperparameters, WINDOW**2) / cost.seconds / 1e9,
        passes=cost.passes,
    )


def _measures(
    results: Sequence[Edges | None], references: Sequence[Edges | None]
) -> tuple[float | None, float | None]:
    """Mean EPR and edge share; None where OpenCV is missing."""
    pairs = [
        (a, b) for a, b in zip(results, references, strict=True) if a is not None and b is not None
    ]
    if not pairs:
        return None, None
    preserved = [edge_preservation(a, b) for a, b in pairs]
    return fmean(preserved), fmean(edge_share(a, b) for a, b in pairs)


def _edge_maps(slices: Sequence[Slice]) -> list[Edges | None]:
    return [_edge_map(values) for values in slices]


def _edge_map(values: Slice) -> Edges | None:
    """None without OpenCV: edges are then left out of the report."""
    try:
        return edge_map(values)
    except UsageError:
        return None
