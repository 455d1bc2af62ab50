"""Options of the sampler, whatever its slices are used for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pmtool.choices import Mode, Precision
from pmtool.pixels.uniforms import check_seed
from pmtool.sampling.windows import check_window
from pmtool.system.checks import check_choice, check_positive
from pmtool.system.limits import cpu_count


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Options that determine the pixels and how they are generated.

    Attributes
    ----------
    seed
        Seed for the random numbers, in [0, 2**64).
    mode
        ``sample`` draws pixels from their distribution; ``median`` and ``mean`` take its median or
        mean.
    device, backend, precision
        Device, engine and precision; see `pmtool.backends.selection.working_engines`.
    window
        Height and width of the windows, or ``full`` for the whole slice; None for the device's
        default.
    batch
        Number of windows to generate at once in each group of CPU threads, or on each GPU; None for
        as many as suit the memory.
    threads
        Number of CPU threads; None for all.
    memory
        Memory budget of the whole process in bytes; None for half of the machine's memory. It never
        exceeds free memory.

    Raises
    ------
    UsageError
        If a value is invalid.
    """

    seed: int = 0
    mode: Mode = "sample"
    device: str = "auto"
    backend: str | None = None
    precision: Precision | None = None
    window: int | Literal["full"] | None = None
    batch: int | None = None
    threads: int | None = None
    memory: int | None = None

    @property
    def thread_count(self) -> int:
        """Number of threads to use: the requested one, but at most that of the machine."""
        available = cpu_count()
        return min(self.threads or available, available)

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_seed(self.seed)
        if self.window != "full":
            check_positive("window", self.window)
            if self.window is not None:
                check_window(self.window)
        for name in ("batch", "threads", "memory"):
            check_positive(name, getattr(self, name))
