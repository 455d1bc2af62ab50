"""Comparison of the cached sampler with the plain network: their times and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from pmtool.arrays import Slice
from pmtool.backends.torch_threads import torch_threads
from pmtool.benchmark.naive import (
    WINDOW,
    PassCost,
    PlainNetwork,
    TimedNetwork,
    pass_costs,
    threads_for_one,
)
from pmtool.benchmark.options import BenchmarkOptions
from pmtool.benchmark.parity import Strip, generate_strip, largest_difference
from pmtool.benchmark.peer_runs import PeerRuns, time_peers
from pmtool.benchmark.report import StripReport
from pmtool.benchmark.scene import Scene
from pmtool.evaluation.edges import edge_map, edge_preservation
from pmtool.interface.protocol import Backend
from pmtool.network import PixelMiner
from pmtool.network.inference import full_float32
from pmtool.sampling.pairs import SlicePair
from pmtool.system.stages import Tell, progress_of

BEYOND_WINDOW = 40
"""Pixels by which the pair in the teacher-forced comparison is larger than a window; not a multiple
of 32."""


class Comparison(NamedTuple):
    """Figures of a `Report`, and the device of the network."""

    device: str
    passes: list[PassCost]
    strip: StripReport
    max_logit_difference: dict[int, float]
    engines: dict[str, float]
    peers: PeerRuns


def compare_with_naive(
    network: PixelMiner,
    backends: Mapping[str, Backend],
    windows: Sequence[int],
    scene: Scene,
    threads: int,
    options: BenchmarkOptions,
    tell: Tell,
) -> Comparison:
    """Run the plain network, and compare the cached sampler with it.

    Parameters
    ----------
    network
        The plain network.
    backends
        Backends by name; the first one generates the strip and the windows of all sizes.
    windows
        Sizes of windows to compare by teacher forcing.
    scene
        Slices of the benchmark.
    threads
        Number of threads to try in addition to a single one.
    options
        Options of the benchmark; only passes, seed and peers are used.
    tell
        Called with the current stage and its progress.
    """
    (first, *_), seed = backends.values(), options.seed
    rows = options.passes // WINDOW
    tell("forward passes", 0)
    costs = pass_costs(network, threads, len(scene.pairs))
    timed = TimedNetwork(network, progress_of(tell, "naive sampler", rows * WINDOW))
    with torch_threads(threads_for_one(costs)):
        strip, report = _strip(first, timed, scene, rows, seed)
        costs = sorted([*costs, timed.cost()], key=lambda cost: cost.seconds)
        tell("teacher forcing", 0)
        plain = PlainNetwork(network)
        differences = {size: _difference(first, plain, scene, size, seed) for size in windows}
        engines = {
            name: differences[WINDOW] if x is first else _difference(x, plain, scene, WINDOW, seed)
            for name, x in backends.items()
        }
        peer_runs = PeerRuns([], {})
        if options.peers:
            with full_float32():
                peer_runs = time_peers(network, strip, scene, seed, tell)
    return Comparison(str(network.device), costs, report, differences, engines, peer_runs)


def _strip(
    backend: Backend, network: TimedNetwork, scene: Scene, rows: int, seed: int
) -> tuple[Strip, StripReport]:
    """Run both samplers on the last rows of the busiest window."""
    place = scene.busiest(WINDOW)
    pair, truth = _crop(scene, place, WINDOW)
    strip = generate_strip(backend, network, pair, truth, rows, seed)
    figures = (strip.equal, strip.largest, _epr(strip, rows))
    return strip, StripReport(place, rows, len(network.seconds), *figures)


def _epr(strip: Strip, rows: int) -> dict[str, float | None]:
    """EPR of the strip for both samplers; None without OpenCV."""
    if find_spec("cv2") is None:
        return dict.fromkeys(("naive", "cached"))
    truth = edge_map(strip.truth)[-rows:]
    slices = {"naive": strip.naive, "cached": strip.cached}
    return {name: edge_preservation(edge_map(x)[-rows:], truth) for name, x in slices.items()}


def _difference(
    backend: Backend, network: PlainNetwork, scene: Scene, window: int, seed: int
) -> float:
    """Largest difference of the parameters, on part of a slice that has windows of all kinds."""
    pair, _ = _crop(scene, scene.busiest(WINDOW), window + BEYOND_WINDOW)
    return largest_difference(backend, network, pair, window, seed)


def _crop(scene: Scene, place: tuple[int, int, int], size: int) -> tuple[SlicePair, Slice]:
    """Crop a square of a pair and its truth near a place, as large as the slice allows."""
    index, *corner = place
    truth = scene.truths[index]
    top, left = (max(0, min(x, n - size)) for x, n in zip(corner, truth.shape, strict=True))
    part = slice(top, top + size), slice(left, left + size)
    pair = scene.pairs[index]
    return pair._replace(above=pair.above[part], below=pair.below[part]), truth[part]
