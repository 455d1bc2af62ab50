"""The work of `pmtool bench`: checks before the run, files and a text to print after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmtool.system.extras import require
from pmtool.system.stages import Tell

PACKAGES = ("torch", "safetensors")
EXTRAS = "pmtool[cpu,torch]"


def bench(
    outputs: Mapping[str, Path | None],
    overwrite: bool,
    tell: Tell,
    **options: Any,
) -> str:
    """Run a benchmark with the options of `BenchmarkOptions` and return its page.

    Parameters
    ----------
    outputs
        Paths of the files to write, by ``json``, ``page`` and ``picture``; None for no file.
    overwrite
        Whether to replace existing files.
    tell
        Called with the current stage and its progress.
    """
    require("pmtool bench", PACKAGES, EXTRAS)
    if outputs["picture"] is not None:
        require("pmtool bench --picture", ("matplotlib",), "pmtool[evaluate]")
    from pmtool.benchmark.options import BenchmarkOptions
    from pmtool.benchmark.outputs import check_outputs, write_outputs
    from pmtool.benchmark.page import page
    from pmtool.benchmark.run import run_benchmark

    check_outputs(outputs, options["source"], overwrite)
    report = run_benchmark(BenchmarkOptions(**options), tell)
    values = report.to_json()  # once, because it contains the current load
    write_outputs(outputs, report, values)
    return page(values)
