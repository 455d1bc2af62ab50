"""Distribution of cases over a Dask cluster.

A case is one task. If there are fewer cases than workers, a case is a chain of tasks: one opens the
case's journal, several fill it, round by round, and one assembles the output.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from distributed import CancelledError, Client, Future, KilledWorker, as_completed, get_worker

from pmtool.cohort.cases import Case
from pmtool.cohort.plan import Size, Sizes
from pmtool.cohort.request import Request
from pmtool.cohort.result import Result
from pmtool.cohort.work import TellSlices, generate_part, open_case, resample_case
from pmtool.errors import BatchError, exit_code, sentence

_log = logging.getLogger("pmtool.cohort")


def dispatch(
    client: Client,
    cases: Sequence[Case],
    request: Request,
    sizes: Sizes,
    tell: TellSlices,
) -> Iterator[Result]:
    """Yield the results of one or more cases as they are finished.

    Dask repeats a task whose worker died, and gives up on it if that happens too often. It also
    blames the tasks that were waiting on the same worker. Cases that Dask gave up on are therefore
    tried once more, one by one, and only those that then fail count as failed.

    Parameters
    ----------
    client
        Client of the cluster.
    cases
        The cases, at least one.
    request
        What to do with each case.
    sizes
        Sizes of the cases.
    tell
        Called with the name of a case and the slices generated since the last call.

    Raises
    ------
    BatchError
        If the scheduler is gone.
    """
    topic = f"pmtool-{uuid4()}"
    client.subscribe_topic(topic, lambda event: tell(*event[1]))
    send = partial(client.submit, _on_worker, topic, pure=False)
    workers = sum(client.nthreads().values())
    parts = max(1, math.ceil(workers / len(cases)))
    submit = partial(_submit, send, request)
    suspects = []
    tasks = {submit(case, parts, sizes[case.name]): case for case in _longest_first(cases, sizes)}
    for future, case in _finished(tasks):
        if _died(future):
            suspects.append(case)
        else:
            yield _result(future, case)
    for case in suspects:
        _log.warning("%s is tried by itself, for workers died over it or beside it", case.name)
        for future, _ in _finished({submit(case, 1, None): case}):
            yield _result(future, case)


def _longest_first(cases: Sequence[Case], sizes: Sizes) -> list[Case]:
    """Sort the cases by descending time, so that no long case is left to the end.

    Cases of unknown size may be long and come first.
    """

    def seconds(case: Case) -> float:
        size = sizes[case.name]
        return math.inf if size is None else size.seconds

    return sorted(cases, key=seconds, reverse=True)


def _submit(
    send: Callable[..., Future[Result]],
    request: Request,
    case: Case,
    parts: int,
    size: Size | None,
) -> Future[Result]:
    parts = 1 if size is None else min(parts, size.generated)
    if size is None or parts <= 1:
        return send(resample_case, case, request)
    opened = send(open_case, case, request)
    every, last = [opened], [opened]
    for turn in range(size.rounds):
        last = [send(generate_part, case, request, last, turn, (i, parts)) for i in range(parts)]
        every += last
    return send(resample_case, case, request, every)


def _finished(tasks: dict[Future[Result], Case]) -> Iterator[tuple[Future[Result], Case]]:
    """Yield tasks as they finish, and remove each from ``tasks``."""
    for future in as_completed(list(tasks)):
        case = tasks.pop(future)
        if future.status in ("cancelled", "lost"):
            raise _gone()
        yield future, case


def _died(future: Future[Result]) -> bool:
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _result(future: Future[Result], case: Case) -> Result:
    """Return the worker's result, or a failed result that says why there is none."""
    failed = replace(Result.of(case, "failed"), exit_code=1)
    try:
        return future.result()
    except (CancelledError, OSError) as error:
        raise _gone() from error
    except KilledWorker:
        message = (
            "every worker that had it died, mostly for lack of memory; give workers more of it, or "
            "look whether the file is damaged"
        )
        return replace(failed, error=f"{case.path} was given up: {message}")
    except Exception as error:
        message = f"no worker could take {case.path}: {sentence(error)}"
        return replace(failed, exit_code=exit_code(error), error=message)


def _gone() -> BatchError:
    return BatchError(
        "the scheduler is gone; what is finished stays so: repeat the command to go on"
    )


def _on_worker(topic: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function on a worker, with progress reported to a Dask topic.

    The topic belongs to this cohort alone, because a scheduler may serve several cohorts.
    """

    def tell(name: str, slices: float) -> None:
        get_worker().log_event(topic, [name, slices])

    return function(*arguments, tell=tell)
