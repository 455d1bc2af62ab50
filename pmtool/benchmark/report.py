"""A benchmark's figures, as JSON and as a table."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pmtool.benchmark.naive import PassCost
from pmtool.errors import OutputError

PACKAGES = ("pmtool", "numpy", "onnxruntime", "torch")


@dataclass(frozen=True)
class Run:
    """One way to generate the slices, and how long it took.

    Attributes
    ----------
    seconds
        For all pairs; of the naive sampler extrapolated from ``passes`` timed ones.
    size
        Height and width of a slice.
    window, batch
        Height and width of a window, windows at once.
    shares
        Of the time, by graph.
    gflops
        Operations of the plain network's pass over every window, a second, in units of 1e9.
    epr, edge_share
        Against the true slices, the mean of all; None without OpenCV.
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
    gflops: float
    passes: int | None = None
    shares: dict[str, float] | None = None
    epr: float | None = None
    edge_share: float | None = None
    device: str = "cpu"
    precision: str = "float32"

    @property
    def seconds_per_slice(self) -> float:
        """For one slice pair."""
        return self.seconds / self.pairs

    @property
    def seconds_per_slice_512(self) -> float:
        """For a slice of 512x512 pixels, in proportion where it was another size."""
        return self.seconds_per_slice * 512**2 / (self.size[0] * self.size[1])


@dataclass(frozen=True)
class StripReport:
    """Naive and cached on the last rows of one window, below the true slice's pixels.

    ``place`` is the pair and the window's top and left; ``passes`` were really run.
    """

    place: tuple[int, int, int]
    rows: int
    passes: int
    equal_pixels: float
    largest_difference_hu: int
    epr: dict[str, float | None]
    edge_share: dict[str, float | None]


@dataclass(frozen=True)
class Report:
    """All of a benchmark.

    Attributes
    ----------
    passes
        Cost of a forward pass in each way that was measured, the lowest first.
    max_logit_difference
        Largest difference of logits, means and log-scales, by the window's size.
    """

    scene: str
    model: str
    model_hash: str
    gemm_gflops: float
    passes: list[PassCost]
    max_logit_difference: dict[int, float]
    strip: StripReport
    naive: Run
    window_64: Run
    default: Run

    @property
    def runs(self) -> list[Run]:
        """The naive sampler first."""
        cached = (
            [self.window_64] if self.default is self.window_64 else [self.window_64, self.default]
        )
        return [self.naive, *cached]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the form that all files of benchmarks/results have."""
        return {
            "speedup": self.naive.seconds / self.default.seconds,
            "speedup_window_64": self.naive.seconds / self.window_64.seconds,
            "seconds_per_slice_512": self.default.seconds_per_slice_512,
            "max_logit_difference": max(self.max_logit_difference.values()),
            "max_logit_difference_by_window": self.max_logit_difference,
            "equal_pixels": self.strip.equal_pixels,
            "strip": asdict(self.strip),
            "scene": self.scene,
            "model": self.model,
            "model_hash": self.model_hash,
            "gemm_gflops": self.gemm_gflops,
            "passes": [cost._asdict() for cost in self.passes],
            "machine": machine(),
            "versions": versions(),
            "runs": [asdict(run) for run in self.runs],
        }


def machine() -> dict[str, Any]:
    """Processor and system."""
    return {
        "processor": _processor(),
        "load": os.getloadavg()[0],
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str | None]:
    """Of the packages that decide the speed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_report(report: Report, path: Path) -> None:
    """Write the JSON; raises `OutputError` if that fails."""
    try:
        path.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def table(report: Report) -> str:
    """The figures for people."""
    values, strip = report.to_json(), report.strip
    passes = ", ".join(
        f"{1000 * x.seconds:.1f} ms ({x.passes} passes, batches of {x.batch}, threads {x.threads})"
        for x in report.passes
    )
    lines = [
        f"{report.scene}, {report.naive.pairs} pairs, model {report.model}, "
        f"{report.naive.channels} channels, {report.default.threads} threads",
        "",
        *_runs(report),
        "",
        f"speed-up {values['speedup']:,.0f}, at window 64 {values['speedup_window_64']:,.0f}; "
        f"{values['seconds_per_slice_512']:.1f} s a 512x512 slice",
        f"naive: a pass of a 64x64 window takes {passes}; medians, the lowest is extrapolated to "
        "one pass a pixel",
        f"largest difference of parameters, teacher-forced: {values['max_logit_difference']:.1e}",
        f"naive and cached on a strip of {strip.rows}x64 pixels: {strip.equal_pixels:.2%} equal, "
        f"largest difference {strip.largest_difference_hu} HU{_edges(strip)}",
        f"GEMM peak {report.gemm_gflops:.0f} GFLOPS",
    ]
    if report.default.epr is None:
        lines.append("no edges: OpenCV is not installed (pip install 'pmtool[evaluate]')")
    return "\n".join(lines)


def _runs(report: Report) -> list[str]:
    header = f"{'':16}{'s/slice':>12}{'GFLOPS':>9}{'of peak':>9}{'window':>9}{'row':>6}{'pixel':>7}"
    lines = [f"{header}{'driver':>8}{'EPR':>7}{'edges':>7}"]
    for run in report.runs:
        shares = run.shares or {}
        parts = [shares.get(kind) for kind in ("window", "row", "pixel", "driver")]
        cells = [f"{run.name:16}", f"{run.seconds_per_slice:>12,.1f}", f"{run.gflops:>9.0f}"]
        cells.append(f"{run.gflops / report.gemm_gflops:>9.0%}")
        cells += [_cell(x, width, ".0%") for x, width in zip(parts, (9, 6, 7, 8), strict=True)]
        cells += [_cell(run.epr, 7, ".3f"), _cell(run.edge_share, 7, ".3f")]
        lines.append("".join(cells))
    return lines


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"


def _edges(strip: StripReport) -> str:
    told = [f"{name} {epr:.3f}" for name, epr in strip.epr.items() if epr is not None]
    return "; EPR " + ", ".join(told) if told else ""
