"""Running a cohort, from the first case to the summary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pmtool.cohort.cases import Case
from pmtool.cohort.plan import Sizes, plan_table, plan_text, room, size_of
from pmtool.cohort.progress import Tally
from pmtool.cohort.request import Request
from pmtool.cohort.result import FILES, Result, write_summary
from pmtool.cohort.work import TellSlices, resample_case
from pmtool.errors import UsageError
from pmtool.models.bundle import Bundle
from pmtool.sampling.sampler import Planner
from pmtool.system.devices import CPU, gpu_index, gpus
from pmtool.system.files import resolved
from pmtool.system.limits import cpu_count, free_memory, total_memory
from pmtool.system.outputs import check_report, make_folder, remove_empty

_log = logging.getLogger("pmtool.cohort")

Watch = Callable[[Tally], None]
"""Called with the tally whenever there is progress."""


@dataclass(frozen=True)
class Workers:
    """The processes that do the work.

    Attributes
    ----------
    processes
        Number of processes on this machine; 0 for the calling process, None for as many as fit.
    scheduler
        Address of a Dask cluster to use instead.
    """

    processes: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.processes is not None and self.scheduler is not None:
            raise UsageError("a scheduler has workers of its own; give it or --workers, not both")


def run_cohort(
    cases: Sequence[Case],
    request: Request,
    workers: Workers,
    watch: Watch = lambda progress: None,
) -> list[Result]:
    """Resample the cases of a cohort and write the summary of the results.

    By default, existing outputs made from the same voxels by the same model and options are kept. A
    failed case does not stop the others.

    Returns
    -------
    list of Result
        Results in the order of the cases.

    Raises
    ------
    UsageError
        If the scheduler cannot be reached, or two cases have the same output.
    ModelError
        If the model cannot be read.
    OutputError
        If the folder cannot be written.
    BatchError
        If the cluster is gone; finished cases stay finished.
    """
    check_report(request.folder, FILES)
    request = _with_absolute_paths(request)
    request.check_names(cases)
    planner = _estimator(request, workers)
    sizes = {case.name: size_of(case, request, planner) for case in cases}
    make_folder(request.folder)
    progress = Tally(sizes)

    def tell(name: str, slices: float) -> None:
        progress.tell(name, slices)
        watch(progress)

    results = {case.name: Result.of(case, "open") for case in cases}
    with _finished(cases, request, workers, planner, sizes, tell) as finished:
        try:
            for result in finished:
                results[result.name] = result
                progress.finish(result)
                _report(result, progress)
                watch(progress)
        finally:
            write_summary(list(results.values()), _plain(request), request.folder)
    remove_empty({request.folder / case.name for case in cases}, request.folder)
    return list(results.values())


def dry_run_text(cases: Sequence[Case], request: Request, workers: Workers) -> str:
    """Describe what `run_cohort` would do; raises `UsageError` and `ModelError` as it does.

    Missing scans and masks are logged as warnings.
    """
    request.check_names(cases)
    check_report(request.folder, FILES)
    _report_missing(cases)
    planner = _estimator(request, workers)
    sizes = {case.name: size_of(case, request, planner) for case in cases}
    on_cluster = workers.scheduler is not None
    cores = 1 if on_cluster else max(1, _processes(cases, workers, planner, sizes))
    return f"{plan_table(cases, sizes, request)}\n\n{plan_text(cases, sizes, request, cores)}"


@contextmanager
def _finished(
    cases: Sequence[Case],
    request: Request,
    workers: Workers,
    planner: Planner,
    sizes: Sizes,
    tell: TellSlices,
) -> Iterator[Iterator[Result]]:
    """Start the workers and provide the results of the cases as they come."""
    if workers.processes == 0:
        _log.info(plan_text(cases, sizes, request, 1))
        yield (resample_case(case, request, tell=tell) for case in cases)
        return
    from pmtool.cohort.cluster import joined_cluster, local_cluster
    from pmtool.cohort.dispatch import dispatch

    if workers.scheduler is not None:
        cluster = joined_cluster(workers.scheduler)
        request = _with(request, threads=request.options.threads or 1)
    else:
        seen = _gpus_of(planner)
        device = request.options.device  # a worker sees only its own GPUs
        processes = _processes(cases, workers, planner, sizes)
        memory = total_memory() // processes
        request = _with(
            request,
            device="cuda" if seen and device != "auto" else device,
            threads=request.options.threads or max(1, cpu_count() // processes),
            memory=request.options.memory or memory // 2,
        )
        cluster = local_cluster(processes, memory, seen)
    with cluster as client:
        cores = max(1, sum(client.nthreads().values()))
        _log.info(plan_text(cases, sizes, request, cores))
        _log.info("dashboard: %s", client.dashboard_link)
        yield dispatch(client, cases, request, sizes, tell)


def _processes(cases: Sequence[Case], workers: Workers, planner: Planner, sizes: Sizes) -> int:
    """Number of worker processes on this machine: as many as requested, or as many as fit."""
    if workers.processes is not None:
        return workers.processes
    seen = _gpus_of(planner)
    return room(cases, sizes, planner, free_memory(), cpu_count(), len(seen))


def _gpus_of(planner: Planner) -> list[str]:
    """CUDA's names of the GPUs that a planner uses; none on a CPU."""
    available = gpus()
    return [available[gpu_index(name)] for name in planner.engine.devices if name != CPU]


def _report_missing(cases: Sequence[Case]) -> None:
    for case in cases:
        for path in filter(None, (case.path, case.mask)):
            try:
                path.stat()
            except OSError as error:
                arguments = (case.name, path, error.strerror)
                _log.warning("%s will fail: %s cannot be read (%s)", *arguments)


def _report(result: Result, progress: Tally) -> None:
    fields = {"event": "case", **asdict(result), "progress": progress.state()}
    where = f"{progress.finished}/{progress.total} {result.name}"
    if result.status == "failed":
        _log.warning("%s failed: %s", where, result.error, extra={"fields": fields})
    elif result.status == "present":
        _log.info("%s is there already", where, extra={"fields": fields})
    else:
        summary = f"{result.generated} slices in {result.seconds:.0f} s"
        _log.info("%s is done: %s", where, summary, extra={"fields": fields})


def _with_absolute_paths(request: Request) -> Request:
    """Return the request with absolute paths, which are valid in any working folder."""
    model = request.options.model
    request = replace(request, folder=resolved(request.folder))
    return request if model is None else _with(request, model=resolved(Path(model)))


def _with(request: Request, **options: Any) -> Request:
    return replace(request, options=replace(request.options, **options))


def _estimator(request: Request, workers: Workers) -> Planner:
    """Return a planner to estimate the speed of one core.

    With a scheduler, a requested device is that of its workers and may not exist here; the planner
    then assumes a CPU.
    """
    options = replace(request.options, threads=1)
    if workers.scheduler is not None:
        options = replace(options, device="cpu", backend=None, precision=None)
    return Planner(Bundle.load(options.model), options)


def _plain(request: Request) -> dict[str, Any]:
    values = asdict(request)
    options = {name: _text(value) for name, value in values.pop("options").items()}
    return {**{name: _text(value) for name, value in values.items()}, "options": options}


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
