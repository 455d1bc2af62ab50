"""Running a benchmark, from its options to its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from pmtool.benchmark.cached import CachedRun, run_cached
from pmtool.benchmark.comparison import Comparison, compare_with_naive
from pmtool.benchmark.floor import floor, loads
from pmtool.benchmark.naive import WINDOW
from pmtool.benchmark.options import BenchmarkOptions, Variant, WindowSize, possible_variants
from pmtool.benchmark.peaks import Peak, measure_peak
from pmtool.benchmark.quality import qualities
from pmtool.benchmark.report import Report, Run
from pmtool.benchmark.scaling import Point, Scaling, measure_scaling
from pmtool.benchmark.scene import Scene, make_scene
from pmtool.benchmark.timing import torch_device
from pmtool.errors import MemoryBudgetError, UsageError
from pmtool.models.bundle import Bundle
from pmtool.network.inference import load_network
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import SlicePair
from pmtool.sampling.plan import operations
from pmtool.sampling.sampler import Planner
from pmtool.system.stages import Tell, progress_of

Runs = dict[str, CachedRun]
"""Runs by name."""
Peaks = Mapping[tuple[str, str], Peak]
"""Peaks by device and precision."""


class _Job(NamedTuple):
    """The data that all parts of a benchmark share."""

    bundle: Bundle
    options: BenchmarkOptions
    scene: Scene
    tell: Tell

    def generate(
        self,
        variant: Variant,
        window: WindowSize,
        pairs: Sequence[SlicePair],
        label: str,
        *,
        shares: bool = True,
    ) -> CachedRun:
        """Generate slices by the cached sampler, and time it."""
        self.tell(label, 0)
        options = self.sampler_options(variant, window)
        progress = progress_of(self.tell, label, len(pairs))
        run = run_cached(self.bundle, options, pairs, progress, shares=shares)
        torch.cuda.empty_cache()  # so that another engine finds it free
        return run

    def sampler_options(self, variant: Variant, window: WindowSize) -> SamplerOptions:
        """Options of the sampler for a variant."""
        return SamplerOptions(
            window=window,
            batch=variant.batch,
            threads=self.options.threads,
            memory=self.options.memory,
            seed=self.options.seed,
            device=self.options.device,
            backend=variant.backend,
            precision=variant.precision,
        )


def run_benchmark(options: BenchmarkOptions, tell: Tell) -> Report:
    """Run all measurements.

    Raises
    ------
    UsageError
        If no variant can run with what was requested, or the slices are smaller than a window.
    ModelError
        If the model is missing or damaged.
    InputError, GeometryError, ContentError
        If the scan cannot be used, see `make_scene`.
    MemoryBudgetError
        If not even a single window of the first variant fits into the memory.
    """
    (first, *others), refused = possible_variants(options)
    tell("preparing slices", 0)
    bundle = Bundle.load(options.model)
    scene = make_scene(options.source, options.pairs, options.size)
    if min(scene.size) < WINDOW:
        raise UsageError(f"{scene.name} has slices of fewer than {WINDOW} pixels")
    job = _Job(bundle, options, scene, tell)
    main, (more, failed) = _windows(job, first), _variants(job, others)
    runs = main | more
    tell("matrix products", 0)
    peaks, unknown = _peaks(runs.values())
    comparison = _comparison(job, main, runs)
    quality, unscored = qualities({name: run.slices for name, run in runs.items()}, scene)
    reports = {name: _report(name, run, peaks) for name, run in runs.items()}
    cached = list(reports.values())
    return Report(
        command=options.command,
        scene=scene.name,
        model=bundle.manifest.name,
        model_hash=bundle.hash,
        peaks=list(peaks.values()),
        passes=comparison.passes,
        max_logit_difference=comparison.max_logit_difference,
        strip=comparison.strip,
        naive=_naive(job, comparison),
        window_64=cached[0],
        default=cached[len(main) - 1],
        others=cached[len(main) :],
        peers=comparison.peers.runs,
        engines=comparison.engines,
        quality=quality,
        scaling=_scaling(job, first) if options.scaling else None,
        left_out=refused | failed | unknown | unscored | comparison.peers.left_out,
    )


def _windows(job: _Job, variant: Variant) -> Runs:
    """Run one variant at window 64 and at the chosen window, which may be the same."""
    pairs, window = job.scene.pairs, job.options.window
    small = job.generate(variant, WINDOW, pairs, "cached, window 64")
    runs = {f"cached, {WINDOW}": small}
    planner = Planner(job.bundle, job.sampler_options(variant, window), small.engine)
    plan = planner.plan(small.size, len(pairs))
    if plan.window != small.plan.window:
        label = f"cached, {max(plan.window)}"
        runs[label] = job.generate(variant, window, pairs, label)
    return runs


def _variants(job: _Job, variants: Iterable[Variant]) -> tuple[Runs, dict[str, str]]:
    """Run other variants at the chosen window; also return the reasons for those that failed."""
    runs, failed = {}, {}
    for variant in variants:
        label = f"cached, {variant}"
        try:
            run = job.generate(variant, job.options.window, job.scene.pairs, label)
        except (UsageError, MemoryBudgetError) as error:
            failed[str(variant)] = str(error)
        else:
            runs[f"cached, {max(run.plan.window)}, {variant}"] = run
    return runs, failed


def _comparison(job: _Job, main: Runs, runs: Runs) -> Comparison:
    first = list(main.values())
    small, default = first[0], first[-1]
    network = load_network(job.bundle).to(torch_device(small.engine.devices[0]))
    engines: Runs = {}
    for run in runs.values():
        engines.setdefault(f"{run.engine.backend} {run.engine.precision}", run)
    return compare_with_naive(
        network,
        {name: run.backend for name, run in engines.items()},
        sorted({WINDOW, max(default.plan.window)}),
        job.scene,
        small.plan.threads,
        job.options,
        job.tell,
    )


def _scaling(job: _Job, variant: Variant) -> Scaling:
    def generate(pairs: Sequence[SlicePair], point: Point) -> float:
        label = f"{point.pairs} pairs of {point.size}x{point.size}"
        return job.generate(variant, job.options.window, pairs, label, shares=False).seconds

    return measure_scaling(generate, job.options.budget)


def _peaks(runs: Iterable[CachedRun]) -> tuple[dict[tuple[str, str], Peak], dict[str, str]]:
    """Measure the peaks of the runs' devices (of several GPUs, the first), or say why not.

    Float32 is measured in addition to every other precision, because products may be computed in
    float32 where that is faster.
    """
    peaks: dict[tuple[str, str], Peak] = {}
    unknown: dict[str, str] = {}
    for run in runs:
        device = run.engine.devices[0]
        if torch_device(device) != device:
            unknown[f"the floor on {device}"] = (
                "PyTorch is a build without CUDA, so that the naive sampler ran on the CPU"
            )
            continue
        for precision in (run.engine.precision, "float32"):
            if (device, precision) not in peaks:
                peaks[device, precision] = measure_peak(device, precision, run.plan.threads)
    return peaks, unknown


def _report(name: str, run: CachedRun, peaks: Peaks) -> Run:
    return Run(
        name=name,
        backend=run.engine.backend,
        channels=run.sampler.bundle.hyperparameters.channels,
        pairs=len(run.slices),
        size=run.size,
        window=run.plan.window,
        batch=run.plan.batch,
        threads=run.plan.threads,
        seconds=run.seconds,
        gflops=run.operations / run.seconds / 1e9,
        shares=run.shares,
        floor=_floor(run, peaks),
        start=run.start,
        device=run.sampler.device,
        precision=run.engine.precision,
    )


def _floor(run: CachedRun, peaks: Peaks) -> dict[str, float] | None:
    """Least number of seconds for all slices, by graph; None if no peak is known."""
    keys = [(run.engine.devices[0], x) for x in (run.engine.precision, "float32")]
    known_peaks = [peaks[key] for key in keys if key in peaks]
    if not known_peaks:
        return None
    gemm = max(peak.gemm for peak in known_peaks)
    bandwidth = max(peak.bandwidth for peak in known_peaks)
    by_graph = loads(run.sampler.bundle.hyperparameters, run.plan.shape, run.plan.window)
    slices = len(run.slices) / min(len(run.engine.devices), run.plan.workers)
    return {graph: slices * floor(load, gemm, bandwidth) for graph, load in by_graph.items()}


def _naive(job: _Job, comparison: Comparison) -> Run:
    """Run of the naive sampler, extrapolated with one pass per pixel at the lowest cost."""
    cost, hyperparameters = comparison.passes[0], job.bundle.hyperparameters
    return Run(
        name="naive",
        backend="torch",
        channels=hyperparameters.channels,
        pairs=len(job.scene.pairs),
        size=job.scene.size,
        window=(WINDOW, WINDOW),
        batch=cost.batch,
        threads=cost.threads * cost.at_once,
        seconds=cost.seconds * job.scene.pixels,
        gflops=operations(hyperparameters, WINDOW**2) / cost.seconds / 1e9,
        passes=cost.passes,
        device=comparison.device,
    )
