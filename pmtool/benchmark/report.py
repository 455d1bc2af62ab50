"""A benchmark's figures and their JSON."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pmtool.backends.selection import DISTRIBUTIONS
from pmtool.benchmark.naive import PassCost
from pmtool.benchmark.peaks import Peak
from pmtool.benchmark.quality import Quality
from pmtool.benchmark.scaling import Scaling
from pmtool.errors import UsageError
from pmtool.system.devices import CPU, find_gpu
from pmtool.system.limits import cpu_count
from pmtool.system.versions import package_version

PACKAGES = ("pmtool", "numpy", *dict.fromkeys(chain(*DISTRIBUTIONS.values())), "pycuda")


@dataclass(frozen=True)
class Run:
    """One way to generate the slices, and how long it took.

    Attributes
    ----------
    seconds
        Seconds for all pairs; for samplers other than the cached one, extrapolated from
        ``passes``.
    passes
        Number of measured forward passes of the naive sampler, or of pixels that a peer generated.
    size
        Height and width of a slice in pixels.
    window, batch
        Height and width of a window in pixels, and number of windows at once.
    shares
        Shares of the time, by graph.
    floor
        Least number of seconds, by graph, see `pmtool.benchmark.floor`.
    gflops
        Operations per second, in units of 1e9, where the operations are those of one pass of the
        plain network over every window, without the encoder's margin.
    start
        Seconds before the first pixel: for the cached sampler, to load the engine (not included in
        ``seconds``); for a peer, to compile or to fill the caches in a forward pass.
    equal_pixels
        Share of the generated pixels of a peer's first window that equal the naive sampler's.
    """

    name: str
    backend: str
    channels: int
    pairs: int
    size: tuple[int, int]
    window: tuple[int, int]
    batch: int
    threads: int
    seconds: float
    gflops: float | None = None
    passes: int | None = None
    shares: dict[str, float] | None = None
    floor: dict[str, float] | None = None
    start: float | None = None
    equal_pixels: float | None = None
    device: str = "cpu"
    precision: str = "float32"

    @property
    def seconds_per_slice(self) -> float:
        """Seconds for one slice pair."""
        return self.seconds / self.pairs

    @property
    def seconds_per_slice_512(self) -> float:
        """Seconds for a 512x512 slice, scaled in proportion from another size."""
        return self.seconds_per_slice * 512**2 / (self.size[0] * self.size[1])

    @property
    def pixels_per_second(self) -> float:
        """Pixels of the slices per second; pixels that windows share count once."""
        return self.pairs * self.size[0] * self.size[1] / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return plain values, including derived ones."""
        return {
            **asdict(self),
            "seconds_per_slice": self.seconds_per_slice,
            "slices_per_second": 1 / self.seconds_per_slice,
            "pixels_per_second": self.pixels_per_second,
        }


@dataclass(frozen=True)
class StripReport:
    """Naive and cached sampler on the last rows of one window, below the true slice's pixels.

    ``place`` is the index of the pair and the window's top and left; ``passes`` is the number of
    passes actually run. ``epr`` is the EPR of both samplers, None without OpenCV.
    """

    place: tuple[int, int, int]
    rows: int
    passes: int
    equal_pixels: float
    largest_difference_hu: int
    epr: dict[str, float | None]


@dataclass(frozen=True)
class Report:
    """All figures of a benchmark.

    Attributes
    ----------
    command
        Command that repeats the benchmark.
    scene
        Name of the scan or the phantom.
    peaks
        Peaks of the runs' devices and precisions; the first run's peak comes first.
    passes
        Cost of a forward pass in each way that was measured, the lowest first.
    max_logit_difference
        Largest difference of logits, means and log-scales, by size of the window.
    strip
        Comparison of the naive and the cached sampler, pixel by pixel.
    engines
        Largest difference, as above, at window 64, by backend and precision.
    naive, window_64, default, others, peers
        Runs of the naive sampler, which evaluates the whole network for every pixel; of the cached
        sampler at window 64, at the chosen window, and with other backends, precisions and batches;
        and of other samplers.
    quality
        Scores by run and measure.
    scaling
        How the time grows with the scan, if that was measured.
    left_out
        What was requested but could not be measured, with the reasons.
    """

    command: str
    scene: str
    model: str
    model_hash: str
    peaks: list[Peak]
    passes: list[PassCost]
    max_logit_difference: dict[int, float]
    strip: StripReport
    naive: Run
    window_64: Run
    default: Run
    others: list[Run] = field(default_factory=list)
    peers: list[Run] = field(default_factory=list)
    engines: dict[str, float] = field(default_factory=dict)
    quality: dict[str, dict[str, Quality]] = field(default_factory=dict)
    scaling: Scaling | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """All runs: the naive sampler first, the peers last."""
        cached = [self.window_64, self.default, *self.others]
        if self.default is self.window_64:
            del cached[0]
        return [self.naive, *cached, *self.peers]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, the JSON of `pmtool bench`."""
        return {
            "speedup": self.naive.seconds / self.default.seconds,
            "speedup_window_64": self.naive.seconds / self.window_64.seconds,
            "seconds_per_slice_512": self.default.seconds_per_slice_512,
            "max_logit_difference": float(np.max([*self.max_logit_difference.values()])),
            "max_logit_difference_by_window": {
                str(size): x for size, x in self.max_logit_difference.items()
            },
            "max_logit_difference_by_engine": self.engines,
            "equal_pixels": self.strip.equal_pixels,
            "command": self.command,
            "strip": asdict(self.strip),
            "scene": self.scene,
            "model": self.model,
            "model_hash": self.model_hash,
            "peaks": [peak.to_json() for peak in self.peaks],
            "passes": [cost._asdict() for cost in self.passes],
            "machine": machine(self.default.device),
            "versions": versions(),
            "runs": [run.to_json() for run in self.runs],
            "quality": {
                name: {measure: quality._asdict() for measure, quality in by_measure.items()}
                for name, by_measure in self.quality.items()
            },
            "scaling": None if self.scaling is None else self.scaling.to_json(),
            "left_out": self.left_out,
        }


def machine(device: str = CPU) -> dict[str, Any]:
    """Describe the machine: processor, system and, on GPUs, name and driver of the first GPU."""
    return {
        "processor": _cpu_info("model name") or platform.processor(),
        "vectors": _vectors(),
        "gpu": None if device == CPU else _gpu(device.partition(",")[0]),
        "load": psutil.getloadavg()[0],
        "cores": cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str | None]:
    """Versions of the packages that determine the speed."""
    return {name: package_version(name) for name in PACKAGES}


def _vectors() -> str | None:
    """The widest instructions of the CPU for products, which determine how fast it computes."""
    flags, widest_first = _cpu_info("flags").split(), ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    return next((name for name in widest_first if name in flags), None)


def _cpu_info(name: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    values = [line.partition(":")[2].strip() for line in lines if line.startswith(name)]
    return values[0] if values else ""


def _gpu(device: str) -> str | None:
    try:
        gpu = find_gpu(device)
    except UsageError:  # not worth losing a benchmark for
        return None
    return f"{gpu.name}, driver {gpu.driver}"
