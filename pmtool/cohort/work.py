"""A worker's work on a case. A failure is returned as a result, so that the cohort goes on."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from pmtool.cohort.cases import Case
from pmtool.cohort.evaluation import evaluate_case
from pmtool.cohort.existing import check_own
from pmtool.cohort.request import Request
from pmtool.cohort.result import Result
from pmtool.errors import UsageError, exit_code, sentence
from pmtool.resampling.journal import Journal, SliceStore
from pmtool.resampling.options import Options
from pmtool.resampling.preparation import FileRun, load_sampler, prepare_files
from pmtool.resampling.resample import finish
from pmtool.resampling.resumption import files_to_make, resumable
from pmtool.resampling.synthesis import all_jobs, generate, missing_jobs
from pmtool.sampling.sampler import Sampler
from pmtool.system.files import folder_lock
from pmtool.system.outputs import make_folder
from pmtool.system.stages import Progress

TellSlices = Callable[[str, float], None]
"""Called with the name of a case and the number of slices generated since the last call."""
_EVERY = 1.0
"""Least number of seconds between two progress reports."""
_REMEDY = "repeat the command to go on"


def resample_case(
    case: Case, request: Request, before: Sequence[Result] = (), *, tell: TellSlices
) -> Result:
    """Write the missing outputs of a case.

    Parameters
    ----------
    case
        The case.
    request
        The request.
    before
        Results of `open_case` and `generate_part`, if they did part of the work.
    tell
        Called with the progress.
    """
    result = _result(case, request, before, lambda run: _complete(run, case, request, tell))
    return replace(
        result,
        generated=result.generated + sum(step.generated for step in before),
        seconds=round(result.seconds + sum(step.seconds for step in before), 3),
    )


def open_case(case: Case, request: Request, *, tell: TellSlices) -> Result:
    """Start a case's journal, which other workers fill, if the volume is still to be made.

    Otherwise, complete the case.
    """

    def open_journal(run: FileRun) -> Result:
        outputs = run.outputs
        if request.skip_existing and outputs.image not in files_to_make(run):
            return _complete(run, case, request, tell)
        with resumable(run, _REMEDY):
            return Result.of(case, "open")

    return _result(case, request, (), open_journal)


def generate_part(
    case: Case,
    request: Request,
    before: Sequence[Result],
    turn: int,
    part: tuple[int, int],
    *,
    tell: TellSlices,
) -> Result:
    """Generate some slices of an opened case and store them in its journal.

    Parameters
    ----------
    case
        The case.
    request
        The request.
    before
        Results of the preceding steps.
    turn
        Index of the round of generation.
    part
        Index of the part of the round to generate, and the number of parts.
    tell
        Called with the progress.
    """

    def fill(run: FileRun) -> Result:
        journal = Journal(run.outputs.journal)
        with folder_lock(journal.folder, shared=True):
            if journal.matches(run.key):
                generated = _fill(run, journal, turn, part, _increments(case, tell))
            elif run.outputs.image in files_to_make(run):
                raise UsageError(
                    f"{journal.folder} was begun by a worker with another backend, precision or "
                    "window, or by another command: name --device, --backend, --precision and "
                    "--window, and run one command at a time"
                )
            else:
                generated = 0  # the case was completed by a worker that died right afterwards
        return replace(Result.of(case, "open"), generated=generated)

    return _result(case, request, before, fill)


def _fill(
    run: FileRun, journal: Journal, turn: int, part: tuple[int, int], progress: Progress
) -> int:
    """Generate the slices of a part that a journal lacks, and return their number."""
    index, count = part
    stack = replace(run.stack, generated=journal)
    rounds = all_jobs(run.stack.grid, run.options.samples)
    every = rounds[turn] if turn < len(rounds) else []
    # Parts are cut from all jobs: the missing ones change as other workers fill the journal.
    jobs = [job for job in every[index::count] if stack.key(*job) not in journal]
    generate(stack, run.sampler, jobs, progress)
    return len(jobs)


def _complete(run: FileRun, case: Case, request: Request, tell: TellSlices) -> Result:
    """Write the missing outputs, and evaluate if the request asks for it."""
    outputs, generated = run.outputs, 0
    missing = files_to_make(run) if request.skip_existing else set(outputs.files())
    if outputs.image in missing:
        store: SliceStore = Journal(outputs.journal) if outputs.resume else {}
        stack = replace(run.stack, generated=store)
        generated = sum(map(len, missing_jobs(stack, run.options.samples)))
    elif missing:
        run.outputs = replace(outputs, resume=True)  # the volume stays
    if missing:
        progress = _increments(case, tell)
        finish(run, lambda done, total: progress(done), _REMEDY)
    elif outputs.journal.exists():  # left by a run that was killed when all was done
        with folder_lock(outputs.journal):
            Journal(outputs.journal).remove()
    result = Result.of(case, "done" if missing else "present")
    result = replace(result, output=str(outputs.image), generated=generated)
    if not request.evaluate:
        return result
    try:
        return replace(result, evaluation=evaluate_case(case, request, run.sampler))
    except Exception as error:
        return _failed(result, error)


def _result(
    case: Case, request: Request, before: Sequence[Result], work: Callable[[FileRun], Result]
) -> Result:
    """Do some work on a case and return the result.

    If an earlier step has ended the case, no work is done, and that step's result is returned with
    the work that it counts set to zero.
    """
    ended = [result for result in before if result.status != "open"]
    if ended:
        return replace(ended[0], generated=0, seconds=0.0)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            result = work(_prepared(case, request))
        except Exception as error:
            result = _failed(Result.of(case, "failed"), error)
    texts = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    return replace(
        result,
        warnings=tuple(texts),
        seconds=round(time.perf_counter() - start, 3),
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )


def _failed(result: Result, error: Exception) -> Result:
    return replace(result, status="failed", exit_code=exit_code(error), error=sentence(error))


def _prepared(case: Case, request: Request) -> FileRun:
    """Prepare a checked run, which continues its journal if there is one with the same key."""
    outputs = request.outputs(case)
    make_folder(outputs.image.parent)
    check_own(outputs)
    sampler = _sampler(request.options)
    run = prepare_files(case.path, request.spacing, outputs, request.case_options(case), sampler)
    run.outputs = replace(outputs, resume=Journal(outputs.journal).matches(run.key))
    return run


@lru_cache(maxsize=1)
def _sampler(options: Options) -> Sampler:
    """Load the sampler, once per process."""
    return load_sampler(options)


def _increments(case: Case, tell: TellSlices) -> Progress:
    """Return a progress callback that regularly reports the slices since the last report."""
    reported: float | None = None  # slices of an earlier run are not counted
    when = 0.0

    def progress(done: float) -> None:
        nonlocal reported, when
        reported = done if reported is None else reported
        if time.monotonic() - when > _EVERY:
            tell(case.name, done - reported)
            reported, when = done, time.monotonic()

    return progress
