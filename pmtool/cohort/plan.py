"""Estimate the work of a cohort, and how many workers a machine has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from pmtool.cohort.cases import Case
from pmtool.cohort.request import Request
from pmtool.errors import PmtoolError
from pmtool.geometry.grid import make_grid, spacing_along
from pmtool.sampling.sampler import Planner
from pmtool.system.tables import aligned
from pmtool.system.units import amount, counted, duration

_USED = 0.8
"""Share of the free memory that the workers may use."""
_COPIES = 2
"""Largest number of copies of input and output in a worker: the data and what is made from it."""
_VOXEL_BYTES = 2
_MANY = 64
"""Number of slices to plan memory for; more slices take no more memory."""


class Size(NamedTuple):
    """Size of a case: its output and the work that it requires.

    Attributes
    ----------
    slices
        Number of slices of the output.
    generated
        Number of slices that have to be generated, over all samples.
    rounds
        Number of rounds of generation.
    seconds
        Estimated time on one core in seconds.
    output_bytes
        Size of the output's voxels in bytes.
    """

    slices: int
    generated: int
    rounds: int
    seconds: float
    output_bytes: int


Sizes = Mapping[str, Size | None]
"""Sizes of cases, by their names; None if unknown."""


def size_of(case: Case, request: Request, planner: Planner) -> Size | None:
    """Size of a case; None if its extent is unknown, a single slice, or does not fit the request.

    Parameters
    ----------
    planner
        Planner with one thread.
    """
    extent, options = case.extent, request.options
    if extent is None or extent.slices == 1:
        return None
    try:
        seconds = planner.plan((extent.height, extent.width), 1).seconds_per_slice
        grid = make_grid(
            extent.slices,
            extent.spacing,
            spacing_along(extent.axis, request.spacing, extent.spacing),
            options.grid,
            options.interpolation,
        )
    except PmtoolError:
        return None
    rounds, count = grid.generated_rounds(), len(grid.slices)
    generated = options.samples * sum(map(len, rounds))
    output_bytes = _VOXEL_BYTES * extent.pixels * count
    return Size(count, generated, len(rounds), seconds * generated, output_bytes)


def room(
    cases: Sequence[Case],
    sizes: Sizes,
    planner: Planner,
    free: int,
    cores: int,
    gpus: int,
) -> int:
    """Number of workers that a machine has room for.

    This is one per GPU, or on a CPU as many as cores and memory allow; at least one.

    Parameters
    ----------
    cases, sizes
        The cases and their sizes.
    planner
        Planner with one thread.
    free
        Free memory in bytes.
    cores, gpus
        Number of cores and of GPUs.
    """
    if planner.device.startswith("cuda"):
        return max(gpus, 1)
    pairs = [(case.extent, sizes[case.name]) for case in cases]
    known_sizes = [(extent, size) for extent, size in pairs if extent is not None and size]
    if not known_sizes:
        return cores
    shape = max(e.height for e, _ in known_sizes), max(e.width for e, _ in known_sizes)
    volumes = max(_VOXEL_BYTES * e.voxels + size.output_bytes for e, size in known_sizes)
    needed = planner.plan(shape, _MANY).memory + _COPIES * volumes
    return max(1, min(cores, int(_USED * free) // needed))


def plan_text(cases: Sequence[Case], sizes: Sizes, request: Request, cores: int) -> str:
    """Summary of all cases as text, with the time that they take on ``cores`` cores.

    Existing outputs may be outdated, and count as still to be made.
    """
    known = [size for size in sizes.values() if size is not None]
    generated = sum(size.generated for size in known)
    unknown = len(sizes) - len(known)
    left_out = f" ({unknown} left out, whose headers do not tell or do not fit)" if unknown else ""
    existing = sum(_is_there(case, request) for case in cases) if request.skip_existing else 0
    note = f" Outputs of {counted(existing, 'case')} exist and are kept if they are up to date."
    return (
        f"cases: {len(sizes)}{left_out}; slices: {sum(size.slices for size in known)}, "
        f"{generated} of them to generate; {amount(sum(size.output_bytes for size in known))} "
        f"before compression; about {duration(sum(size.seconds for size in known) / cores)} on "
        f"{counted(cores, 'core')} like these.{note if existing else ''}"
    )


def plan_table(cases: Sequence[Case], sizes: Sizes, request: Request) -> str:
    """Table of the cases as text, one per line.

    The columns are the slices and pixels of the scan, the slices of the output, those to generate,
    core hours, and whether the output exists.
    """
    rows = [("case", "scan", "output", "to generate", "core hours", "there")]
    for case in cases:
        extent, size = case.extent, sizes[case.name]
        scan = f"{extent.slices}x{extent.height}x{extent.width}" if extent else "?"
        work = ("?", "?", "?")
        if size is not None:
            work = str(size.slices), str(size.generated), f"{size.seconds / 3600:.2f}"
        rows.append((case.name, scan, *work, "yes" if _is_there(case, request) else "no"))
    return "\n".join(aligned(rows))


def _is_there(case: Case, request: Request) -> bool:
    """Whether the output of a case exists."""
    outputs = request.planned(case)
    with suppress(OSError):  # a name that is too long
        return outputs is not None and outputs.sidecar.exists()
    return False
