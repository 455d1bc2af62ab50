"""A training run, from folders of scans to a checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch._dynamo.exc import BackendCompilerFailed

from pmtool.backends.torch import emulates_bfloat16
from pmtool.errors import (
    InputError,
    MemoryBudgetError,
    UsageError,
    is_memory_shortage,
)
from pmtool.system.files import folder_lock, remove_leftovers
from pmtool.system.outputs import make_folder
from pmtool.system.processes import check_processes
from pmtool.system.stages import Tell
from pmtool.system.units import counted
from pmtool.training.cache import Cache, CachedScan
from pmtool.training.checkpoint import CHECKPOINT, damaged, load_state, starting_weights
from pmtool.training.folder import CACHE, begin
from pmtool.training.loop import Loop
from pmtool.training.phases import total_steps
from pmtool.training.selection import (
    Split,
    explicit_split,
    split_patients,
    thick_scans_text,
    undivided,
    usable,
)
from pmtool.training.settings import Settings
from pmtool.training.sources import find_sources
from pmtool.training.trainer import Trainer

_log = logging.getLogger("pmtool")

_SLOW_BFLOAT16 = (
    "this CPU has no instructions for bfloat16, which makes training many times slower: give "
    "--set optimiser.precision=32-true and another --out"
)


@dataclass(frozen=True)
class Data:
    """Folders of the scans.

    Attributes
    ----------
    training
        Folders that are searched for scans.
    validation
        Folders of the scans held back; without any, a share of the other folders' patients is held
        back.
    cache
        Folder of the cache, which several runs may share; by default a subfolder of the run's.
    """

    training: Sequence[Path]
    validation: Sequence[Path] = ()
    cache: Path | None = None


@dataclass(frozen=True)
class Machine:
    """The machine that a run uses, in Fabric's terms; it affects only time and rounding.

    Attributes
    ----------
    accelerator
        ``auto``, ``cpu`` or ``cuda``.
    devices
        Devices of every machine: a number, a list such as ``0,2``, or ``auto`` for as many GPUs as
        can share the patches of a step evenly.
    nodes
        Number of machines.
    workers
        Number of processes that draw crops for a device; with 0, crops are drawn between the steps.
        By default 4 for a GPU and 0 for a CPU.
    """

    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    workers: int | None = None


def train(
    data: Data,
    out: Path,
    settings: Settings,
    machine: Machine,
    tell: Tell,
    start: Path | None = None,
) -> None:
    """Train a network, or continue the run in ``out``.

    Parameters
    ----------
    data
        Scans.
    out
        Folder of the run.
    settings
        Settings of the run, see `pmtool.training.folder.agreed_settings`.
    machine
        Machine to run on.
    tell
        Called with the current stage and the share of it that is done.
    start
        A model's folder or a checkpoint with the weights that a new run starts from; None for
        random weights.

    Raises
    ------
    InputError
        If there is no CT, or a file of the run or ``start`` cannot be read.
    ModelError
        If ``start`` is a folder but not a complete and unaltered model.
    ContentError
        If there are images of another modality.
    UsageError
        If the devices are not available, the patients cannot be divided, the run was started with
        other scans, or ``start`` is another network.
    OutputError
        If the run or the cache cannot be written, as when the disk is full, or another process is
        writing the run; existing files are kept.
    MemoryBudgetError
        If a GPU's memory is too small.
    KeyboardInterrupt
        After Ctrl-C, SIGTERM or SIGHUP; the current step is finished and saved.

    Warns
    -----
    UserWarning
        If slices are thick or far apart.
    """
    fabric = _launched(machine, settings)
    if not fabric.is_global_zero:
        tell = _nothing
    workers = machine.workers
    if workers is None:
        workers = 4 if fabric.device.type == "cuda" else 0
    if workers:
        check_processes("give --workers 0")
    make_folder(out)
    with ExitStack() as lock:
        _together(fabric, lambda: lock.enter_context(folder_lock(out)), first=True)
        _train(fabric, data, out, settings, start, workers, tell)


def _train(
    fabric: Fabric,
    data: Data,
    out: Path,
    settings: Settings,
    start: Path | None,
    workers: int,
    tell: Tell,
) -> None:
    """Train in a folder that exists and is locked for this process."""
    if fabric.is_global_zero:
        remove_leftovers(out / CHECKPOINT)
    state = load_state(out)
    fresh = start if state is None else None
    weights = starting_weights(fresh, settings.network) if fresh else None
    split, skipped = _scans(fabric, data, out, settings, tell)
    _together(fabric, lambda: begin(out, settings, split, skipped), first=True)
    trainer, seconds = Trainer(fabric, settings, weights), 0.0
    if state is not None:
        try:
            trainer.restore(state)
            seconds = float(state["seconds"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            if is_memory_shortage(error):
                raise
            raise damaged(out) from error
    if fabric.is_global_zero:
        lines = [*map("skipped: {}".format, skipped), _plan(trainer, split, skipped, out)]
        _log.info("\n".join(lines))
        if settings.optimiser.precision == "bf16-mixed" and emulates_bfloat16(fabric.device.type):
            _log.warning(_SLOW_BFLOAT16)
    try:
        Loop(trainer, split, out, seconds, tell).run(workers)
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryBudgetError(
            "the GPU's memory does not suffice: set a smaller number of patches"
        ) from error
    except BackendCompilerFailed as error:
        raise UsageError(
            f"PyTorch cannot compile the network ({str(error).splitlines()[0]}): install a C++ "
            "compiler and Python's headers, or give --set optimiser.compile=false and another --out"
        ) from error
    if fabric.is_global_zero:
        _log.info("%s is ready", out / CHECKPOINT)


def _together(fabric: Fabric, work: Callable[[], object], *, first: bool = False) -> None:
    """Call ``work`` in all processes, or only the first, and wait; all raise an error of any."""
    failed: Exception | None = None
    if fabric.is_global_zero or not first:
        try:
            work()
        except Exception as error:  # the others would wait for ever
            failed = error
    for rank in range(1 if first else fabric.world_size):
        failure = fabric.broadcast(failed, rank)
        if failure is not None:
            raise failure


def _nothing(label: str, share: float) -> None:
    """Report nothing: only the first process reports progress."""


def _launched(machine: Machine, settings: Settings) -> Fabric:
    shared = {
        "encoder": settings.encoder.patches if settings.network.encoder else 0,
        "optimiser": settings.optimiser.patches,
        "validation": settings.validation.patches,
    }
    try:
        fabric = Fabric(
            accelerator=machine.accelerator,
            devices=_devices(machine, shared.values()),
            num_nodes=machine.nodes,
            precision=settings.optimiser.precision,
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"this machine has no devices {machine.devices} of accelerator "
            f"{machine.accelerator}: give --devices a number or a list such as 0,2, or neither "
            "--devices nor --accelerator"
        ) from error
    fabric.launch()
    for section, number in shared.items():
        if number % fabric.world_size:
            raise UsageError(
                f"{section}.patches: {number} cannot be shared out among {fabric.world_size} "
                "devices: set a multiple, or give another number of --devices"
            )
    return fabric


def _devices(machine: Machine, shared: Collection[int]) -> str:
    """The devices in Fabric's terms; for ``auto``, as many GPUs as can share all evenly."""
    launched = torch.distributed.is_torchelastic_launched()
    if machine.devices != "auto" or machine.accelerator == "cpu" or launched:
        return machine.devices
    counts = range(torch.cuda.device_count(), 1, -1)
    even = (n for n in counts if not any(number % (n * machine.nodes) for number in shared))
    return str(next(even, 1))


def _scans(
    fabric: Fabric, data: Data, out: Path, settings: Settings, tell: Tell
) -> tuple[Split, list[str]]:
    """Read scans that are not cached, shared among the processes, and divide the patients."""
    cache = Cache(data.cache or out / CACHE)
    make_folder(cache.folder)
    parts = [find_sources(folders) for folders in (data.training, data.validation)]
    everything = [source for part in parts for source in part]
    mine = everything[fabric.global_rank :: fabric.world_size]
    _together(fabric, lambda: cache.build(mine, tell))
    loaded = [cache.load(part) for part in parts]
    whole = [undivided(scans) for scans, _ in loaded]
    text = thick_scans_text([scan for scans, _ in whole for scan in scans], settings.crops)
    if text and fabric.is_global_zero:
        warnings.warn(text, stacklevel=2)
    chosen = [usable(scans, settings.crops) for scans, _ in whole]
    (training, validation), reasons = zip(*chosen, strict=True)
    skipped = [[*a[1], *b[1], *c] for a, b, c in zip(loaded, whole, reasons, strict=True)]
    _check_any(training, data.training, skipped[0])
    if not data.validation:
        return split_patients(training, settings.validation.share, settings.seed), skipped[0]
    _check_any(validation, data.validation, skipped[1])
    return explicit_split(training, validation), [*skipped[0], *skipped[1]]


def _check_any(scans: Sequence[CachedScan], folders: Sequence[Path], skipped: list[str]) -> None:
    if scans:
        return
    reason = f" ({len(skipped)} could not be used, such as: {skipped[0]})" if skipped else ""
    raise InputError(
        f"no CT was found in {', '.join(map(str, folders))}{reason}: give folders with CT scans"
    )


def _plan(trainer: Trainer, split: Split, skipped: list[str], out: Path) -> str:
    """Sentence that says what will be trained, on which scans, and into which folder."""
    settings, fabric = trainer.settings, trainer.fabric
    optimiser, size = settings.optimiser, settings.crops.size
    number = sum(p.numel() for p in trainer.network.parameters())
    processes = f" x {fabric.world_size}" if fabric.world_size > 1 else ""
    return (
        f"{_count(split.training)} to train on, {_count(split.validation)} held back, "
        f"{len(skipped)} skipped; a network of {settings.network.channels} channels and "
        f"{number:,} parameters on {fabric.device.type}{processes}, {optimiser.precision}; steps "
        f"{trainer.step} to {total_steps(settings)} on crops of {size}x{size}, into {out}."
    )


def _count(scans: Sequence[CachedScan]) -> str:
    patients = counted(len({scan.patient for scan in scans}), "patient")
    slices = counted(sum(scan.shape[0] for scan in scans), "slice")
    return f"{counted(len(scans), 'scan')} of {patients} with {slices}"
