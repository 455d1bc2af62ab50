"""Loading and testing engines before the work; if one fails, the next takes its place."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from pmtool.backends.selection import Engine
from pmtool.choices import Mode
from pmtool.errors import (
    MemoryBudgetError,
    OutputError,
    PmtoolError,
    UsageError,
    is_memory_shortage,
)
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import chooser_of
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Backend
from pmtool.models.bundle import Bundle
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.windows import SMALLEST, SUB_PATCH, Window
from pmtool.system.devices import CPU

Loaded = dict[str, Backend]
"""The model on every GPU of an engine, by device; empty for the CPU."""


def start(
    engines: Iterable[Engine], bundle: Bundle, threads: int, mode: Mode = "sample"
) -> tuple[Engine, Loaded]:
    """Return the first engine that generates a window on all its GPUs, or that runs on the CPU.

    Only one mode is tried; another may need graphs that are not tested here.

    Raises
    ------
    UsageError, OutputError
        The error of the first engine, if no engine works.
    MemoryBudgetError
        If a GPU has too little memory for even one window.
    ModelError
        If the bundle lacks what an engine needs.

    Warns
    -----
    UserWarning
        Once, if other engines were tried before, with the reasons why they failed.
    """
    failures: list[tuple[str, PmtoolError]] = []
    for engine in engines:
        for _, error in failures:
            _forget_frames(error)
        try:
            loaded = {
                d: _load(engine, bundle, d, threads, mode) for d in engine.devices if d != CPU
            }
        except (UsageError, OutputError) as error:
            failures.append((engine.backend, error))
        else:
            if failures:
                reasons = " and ".join(f"{name} cannot be used ({why})" for name, why in failures)
                place = f"{engine.backend} on {', '.join(engine.devices)}"
                warnings.warn(f"{reasons}, so that {place} is taken", stacklevel=3)
            return engine, loaded
    raise failures[0][1]


def _load(engine: Engine, bundle: Bundle, device: str, threads: int, mode: Mode) -> Backend:
    """Load the model on a GPU and let it generate a window; raises `PmtoolError`."""
    try:
        backend = engine.load(bundle, device, threads)
        check_generates(backend, Layout(bundle.hyperparameters), mode)
    except Exception as error:  # the libraries' errors have no common base
        presumed = _is_presumed_shortage(error)
        if is_memory_shortage(error) and not presumed:
            raise MemoryBudgetError(
                f"{device} has no memory for the model: end other programs there, or use "
                "--device cpu"
            ) from error
        if isinstance(error, PmtoolError) and not presumed:
            raise
        raise UsageError(
            f"{engine.backend} does not work on {device}, "
            f"{_reason(error.__cause__ if presumed else error)}; use another --backend, or "
            "--device cpu"
        ) from error
    return backend


def _is_presumed_shortage(error: Exception) -> bool:
    """Whether a library did not say that memory has run out, though it often means that.

    With a single window, it is more likely that the library does not work.
    """
    if not isinstance(error, MemoryBudgetError) or error.__cause__ is None:
        return False
    return not is_memory_shortage(error.__cause__)


def _reason(error: BaseException | None) -> str:
    """Kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _forget_frames(error: BaseException) -> None:
    """Drop an error's traceback and causes, whose frames keep a failed engine's memory alive."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


def check_generates(backend: Backend, layout: Layout, mode: Mode) -> None:
    """Run a mode's graphs on a window of zeros, repeatedly because a repetition may be captured.

    Raises
    ------
    UsageError
        If the results are not finite numbers.
    """
    buffers = Buffers(backend.memory, layout, SMALLEST, SMALLEST, 1, backend.windows_per_call)
    lanes = Lanes(backend, buffers, SUB_PATCH, chooser_of(mode))
    zeros = np.zeros((SMALLEST, SMALLEST), np.int16)
    pairs = [SlicePair(zeros, zeros, 1.0, 0)]
    group = PairGroup(layout.hyperparameters, pairs, zeros.shape, backend.memory)
    batch = [(0, Window(0, 0, SMALLEST, SMALLEST, SUB_PATCH, SUB_PATCH))]
    lanes.prepare(group, batch)
    lanes.draw(group.places(batch), 0, mode)
    lanes.generate(group, batch)
    if not np.isfinite(lanes.parameters()).all():
        raise UsageError(
            f"{backend.name} computes no numbers on {backend.device} in {backend.precision}: use "
            "another --precision or --backend"
        )
