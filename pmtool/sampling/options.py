"""What can be asked of the sampler, whatever its slices are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pmtool.backends.protocol import Precision
from pmtool.pixels.mixture import Mode
from pmtool.pixels.uniforms import check_seed
from pmtool.sampling.windows import check_window
from pmtool.system.checks import check_choice, check_positive
from pmtool.system.limits import processors


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """What decides the pixels, and the means to make them.

    Attributes
    ----------
    seed
        Of the random numbers, in [0, 2**64).
    mode
        ``sample`` draws pixels; ``median`` and ``mean`` take those of the distribution.
    device, backend, precision
        See `pmtool.backends.selection.working_engines`.
    window
        Height and width of the windows, or ``full`` for the whole slice; the device's default
        where it is None.
    batch
        Windows at once.
    threads
        Of the processor, at most all; all where it is None.
    memory
        Budget of the whole process, bytes; half of the machine's where it is None, and never more
        than is free.

    Raises
    ------
    UsageError
        If a value is not possible.
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
    def threads_there(self) -> int:
        """The threads that are asked for, as far as the machine has them."""
        there = processors()
        return min(self.threads or there, there)

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_seed(self.seed)
        if isinstance(self.window, int):
            check_window(self.window)
        for name in ("batch", "threads", "memory"):
            check_positive(name, getattr(self, name))
