"""Running ``pmtool evaluate`` on a case of a cohort."""

from __future__ import annotations

import json

from pmtool.cohort.cases import Case
from pmtool.cohort.request import Request
from pmtool.evaluation import require_packages
from pmtool.sampling.sampler import Sampler

Measures = dict[str, dict[str, float | None]]


def evaluate_case(case: Case, request: Request, sampler: Sampler) -> Measures:
    """Write the evaluation report of a case and return its measures, by method.

    The scores are kept in the report's folder, so that repeating an evaluation only rewrites the
    report.

    Raises
    ------
    PmtoolError
        As raised by `pmtool.evaluation.commands.evaluate`.
    """
    require_packages("pmtool evaluate")  # on the worker's machine
    from pmtool.evaluation.commands import EvaluationOptions, evaluate
    from pmtool.evaluation.folder import JSON

    options, folder = request.case_options(case), request.evaluation(case)
    evaluation_options = EvaluationOptions(
        modes=(options.mode,),
        slices=request.evaluate_slices,
        workers=1,
        model=options.model,
        reading=options,
        sampler=options,
    )
    evaluate([case.path], folder, evaluation_options, lambda label, share: None, sampler)
    measures: Measures = json.loads((folder / JSON).read_text())["summary"]
    return measures
