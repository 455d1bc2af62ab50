"""Options of `pmtool bench`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from pmtool.backends.selection import choose_engine
from pmtool.benchmark.naive import WINDOW
from pmtool.choices import Precision
from pmtool.errors import UsageError
from pmtool.pixels.uniforms import check_seed
from pmtool.sampling.windows import check_window

MOST_SIZE, MOST_PAIRS = 4096, 10_000
WindowSize = int | Literal["full"] | None
"""Size of the windows in pixels, ``full`` for the whole slice, or None for the device's default."""


class Variant(NamedTuple):
    """One way to run the cached sampler; None stands for the sampler's default."""

    backend: str | None
    precision: Precision | None
    batch: int | None

    def __str__(self) -> str:
        batch = None if self.batch is None else f"batch {self.batch}"
        return ", ".join(x for x in (self.backend, self.precision, batch) if x)


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of a benchmark.

    Attributes
    ----------
    model
        Folder of the model; None for the default model.
    source
        A scan from which every second slice is dropped; None for the phantom.
    device
        ``auto``, ``cpu`` or ``cuda[:N]``.
    backends, precisions, batches
        Backends, precisions and batch sizes to compare, in all combinations.
    window
        Size of the windows.
    threads
        Number of CPU threads; None for all.
    memory, seed
        As in `SamplerOptions`.
    size, pairs
        Height and width of the phantom's slices in pixels, and number of slice pairs.
    passes
        Number of forward passes that the naive sampler actually runs, in whole rows of 64 pixels.
    peers
        Also time other samplers in PyTorch.
    scaling
        Measure how the time grows with the scan.
    budget
        Seconds that the measurement of scaling may take.
    """

    model: Path | None = None
    source: Path | None = None
    device: str = "auto"
    backends: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    batches: tuple[int, ...] = ()
    window: WindowSize = None
    threads: int | None = None
    memory: int | None = None
    seed: int = 0
    size: int = 512
    pairs: int = 8
    passes: int = 2048
    peers: bool = False
    scaling: bool = False
    budget: float = 300.0

    def __post_init__(self) -> None:
        if not (WINDOW <= self.size <= MOST_SIZE and 1 <= self.pairs <= MOST_PAIRS):
            raise UsageError(
                f"a benchmark needs slices of {WINDOW} to {MOST_SIZE} pixels and 1 to {MOST_PAIRS} "
                f"pairs, not {self.size} and {self.pairs}"
            )
        if not WINDOW <= self.passes <= WINDOW**2:
            raise UsageError(
                f"the naive passes must lie between {WINDOW} and {WINDOW**2}, not {self.passes}"
            )
        check_seed(self.seed)
        if isinstance(self.window, int):
            check_window(self.window)
        if not 0 < self.budget < math.inf:
            raise UsageError(f"the budget must be positive, not {self.budget:g}")

    def variants(self) -> list[Variant]:
        """All combinations; the reported speed-up is that of the first."""
        backends = dict.fromkeys(self.backends or (None,))
        precisions = dict.fromkeys(self.precisions or (None,))
        batches = dict.fromkeys(self.batches or (None,))
        return [Variant(*chosen) for chosen in product(backends, precisions, batches)]

    @property
    def command(self) -> str:
        """The command that repeats the benchmark, with files named without their folders."""
        return shlex.join(["pmtool", "bench", *self._arguments()])

    def _arguments(self) -> Iterator[str]:
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            for one in value if isinstance(value, tuple) else (value,):
                yield f"--{_OPTIONS.get(field.name, field.name)}"
                if one is not True:
                    yield one.name if isinstance(one, Path) else f"{one}".removesuffix(".0")


def possible_variants(options: BenchmarkOptions) -> tuple[list[Variant], dict[str, str]]:
    """Return the variants that can run here, in order, and the reasons why the others cannot.

    Raises
    ------
    UsageError
        If no variant can run with a backend or a precision that was requested.
    """
    possible, refused = [], {}
    for variant in options.variants():
        try:
            choose_engine(variant.backend, options.device, variant.precision)
            possible.append(variant)
        except UsageError as error:
            refused[variant] = error
    backends = {variant.backend for variant in possible}
    precisions = {variant.precision for variant in possible}
    for variant, why in refused.items():
        if variant.backend not in backends or variant.precision not in precisions:
            raise why
    return possible, {str(variant): str(why) for variant, why in refused.items()}


_OPTIONS = {
    "source": "input",
    "backends": "backend",
    "precisions": "precision",
    "batches": "batch",
}
"""Names of options on the command line that differ from those of `BenchmarkOptions`."""
