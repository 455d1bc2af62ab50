"""`pmtool trial prepare`: draws slices, makes them by every method, and plans who sees which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pmtool.errors import OutputError
from pmtool.evaluation.folder import CACHE
from pmtool.evaluation.method_options import MethodOptions, chosen_methods
from pmtool.evaluation.methods import PIXELMINER, Method, described, makers
from pmtool.evaluation.run import choose_slices
from pmtool.evaluation.scan import ScanSlice, ThinScan, thin_scans
from pmtool.images.display import upright_slice
from pmtool.images.hounsfield import CT_RANGE, padding
from pmtool.system.array_file import write_array
from pmtool.system.files import remove_leftovers
from pmtool.system.outputs import make_folder, names_in
from pmtool.system.stages import Tell
from pmtool.system.units import counted
from pmtool.system.versions import own_version
from pmtool.trial.design import ITEMS, make_plans
from pmtool.trial.folder import IMAGES, SECRETS, TRIAL, Trial


def prepare(
    paths: Sequence[Path],
    folder: Path,
    options: MethodOptions,
    tell: Tell,
    *,
    participants: int,
    slices: int,
    cache: Path | None = None,
) -> str:
    """Prepare a trial from thin scans in a folder and return a sentence about it.

    Parameters
    ----------
    paths
        Files or folders of the scans.
    folder
        Folder of the trial.
    options
        Options of methods and of PixelMiner's sampler, as for an evaluation.
    tell
        Called with the current stage and its progress.
    participants
        Number of participants to plan for.
    slices
        Number of slices, drawn at random in equal parts from all scans.
    cache
        Cache of an evaluation with slices to reuse; None for a cache in the folder.

    Raises
    ------
    PmtoolError
        One of the errors of `pmtool.errors`.
    """
    remove_leftovers(folder / TRIAL)
    check_trial_folder(folder)
    tell("reading", 0)
    scans = thin_scans(paths, options.reading)
    seed = options.sampler.seed
    pool = draw_pool(scans, slices, seed)
    cache = cache or folder / CACHE
    methods = chosen_methods(scans, cache, options)
    others = [method.name for method in methods if method.name != PIXELMINER]
    plans = make_plans(len(pool), others, participants, seed)
    for needed in (folder / IMAGES, cache):
        make_folder(needed)
    trial = Trial(folder, others, pool, plans, _provenance(scans, methods, seed))
    _write_images(trial, scans, methods, tell)
    trial.save()
    return (
        f"planned for {counted(len(plans), 'participant')}: {ITEMS} of {len(pool)} slices each, "
        f"PixelMiner beside {', '.join(others)}; go on with: pmtool trial serve {folder}"
    )


def draw_pool(scans: Sequence[ThinScan], slices: int, seed: int) -> list[ScanSlice]:
    """Draw slices that can be dropped, equally many from every scan as far as possible."""
    share, left = divmod(slices, len(scans))
    parts = [share + (number < left) for number in range(len(scans))]
    chosen = zip(scans, parts, strict=True)
    return [ScanSlice(x.name, i) for x, part in chosen for i in choose_slices(x, part, seed)]


def check_trial_folder(folder: Path) -> None:
    """Raise `OutputError` if a folder holds a trial, whose answers must be kept, or other files."""
    others = [name for name in names_in(folder) if name not in (IMAGES, CACHE, SECRETS)]
    if TRIAL in others:
        raise OutputError(f"{folder} holds a trial: give another --out")
    if others:
        raise OutputError(f"{folder} holds {others[0]}, which is not a trial: give another --out")


def _write_images(
    trial: Trial, scans: Sequence[ThinScan], methods: Sequence[Method], tell: Tell
) -> None:
    for scan in scans:
        numbers = {x.number: i for i, x in enumerate(trial.slices) if x.scan == scan.name}
        makers_by_name = makers(scan, [(method, list(numbers)) for method in methods], tell)
        for index, number in numbers.items():
            outside = padding(scan.truth(index), CT_RANGE[0])  # noise in it would reveal the method
            for name, make in makers_by_name.items():
                values = make(index).clip(*CT_RANGE)
                values[outside] = CT_RANGE[0]
                path = trial.image_path(number, name)
                remove_leftovers(path)
                write_array(upright_slice(values, scan.geometry), path)


def _provenance(
    scans: Sequence[ThinScan], methods: Sequence[Method], seed: int
) -> dict[str, object]:
    return {
        "pmtool": own_version(),
        "seed": seed,
        "scans": [
            {"name": scan.name, "sha256_of_voxels_and_geometry": scan.digest} for scan in scans
        ],
        "methods": [described(method, scan) for scan in scans for method in methods],
    }
