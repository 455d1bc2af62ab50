"""Measure how much faster a cohort is on two worker processes than on one, one thread each.

    python benchmarks/cohort_throughput.py [--cases 20] [--size 96] [--slices 5] [--workers 2]
                                           [--repeats 3]

Run it on an idle machine with at least as many cores as workers. Time counts from when a worker
begins its first case until the last case is finished, so that it includes loading the model but not
starting the processes. What the machine itself allows is measured just before in the same way: the
throughput of as many `pmtool resample` processes side by side, relative to a single one. Core
speeds vary from minute to minute by more than the effect of interest. Measurements are therefore
paired, every second pair begins with several workers, and the median is reported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

from pmtool.images.image_file import write_image
from pmtool.phantom.chest import chest_phantom

_PLAIN = 4
"""Number of slices in the scan for plain processes, as a multiple of a case's; with more slices,
the start of the processes matters less."""


class Pair(NamedTuple):
    """Measurements with one worker and with several, one right after the other.

    Attributes
    ----------
    slices_a_second
        Slices per second of one worker.
    times
        Speed of several workers, as a multiple of the speed of one.
    ceiling
        The same ratio for plain processes.
    """

    slices_a_second: float
    times: float
    ceiling: float


def measure(cases: int, size: int, slices: int, workers: int, repeats: int) -> Iterator[Pair]:
    """Yield pairs of measurements on phantoms of ``slices`` slices of ``size`` pixels a side."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scans").mkdir()
        for number in range(cases):
            image = chest_phantom(size=size, slices=slices, seed=number)
            write_image(image, folder / "scans" / f"{number}.nrrd")
        scan = folder / "plain.nrrd"
        write_image(chest_phantom(size=size, slices=_PLAIN * slices), scan)
        for number in range(repeats):
            order = (workers, 1) if number % 2 else (1, workers)
            plain = {count: plain_seconds(scan, count) for count in order}
            out = folder / str(number)
            speed = {n: slices_a_second(folder / "scans", out / str(n), n) for n in order}
            yield Pair(speed[1], speed[workers] / speed[1], workers * plain[1] / plain[workers])


def plain_seconds(scan: Path, count: int) -> float:
    """Seconds that ``count`` processes of ``pmtool resample`` take side by side."""
    arguments = ["resample", "--spacing=1.25", "--threads=1", "-q", "--overwrite", str(scan)]
    start = time.perf_counter()
    processes = [
        subprocess.Popen([*_pmtool(), *arguments, str(scan.with_name(f"plain-{number}.nrrd"))])
        for number in range(count)
    ]
    codes = [process.wait() for process in processes]
    assert not any(codes)
    return time.perf_counter() - start


def slices_a_second(scans: Path, out: Path, workers: int) -> float:
    """Slices per second of ``pmtool cohort`` on a number of workers."""
    out.mkdir(parents=True)
    log = out.with_suffix(".jsonl")
    arguments = [
        "cohort",
        scans,
        out,
        "--spacing=1.25",
        f"--workers={workers}",
        "--threads=1",
        "-q",
    ]
    command = [*_pmtool(), *map(str, arguments), f"--log-json={log}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    begin = next(t for t, line in zip(times, lines, strict=True) if "dashboard" in line["message"])
    generated = sum(line["generated"] for line in lines if line.get("event") == "case")
    return float(generated / (times[-1] - begin).total_seconds())


def _pmtool() -> list[str]:
    return [sys.executable, "-m", "pmtool"]


def main() -> None:
    """Print every pair, their medians and the machine's load."""
    parser = argparse.ArgumentParser(description=__doc__)
    options = (("cases", 20), ("size", 96), ("slices", 5), ("workers", 2), ("repeats", 3))
    for name, value in options:
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    print(f"load before {psutil.getloadavg()[0]:.2f}, cores {psutil.cpu_count()}")
    pairs = []
    for pair in measure(**vars(arguments)):
        pairs.append(pair)
        print(
            f"1 worker {pair.slices_a_second:.2f} slices/s, {arguments.workers} workers "
            f"{pair.times:.2f} times that; plain processes {pair.ceiling:.2f} times",
            flush=True,
        )
    times, ceiling = median(p.times for p in pairs), median(p.ceiling for p in pairs)
    print(f"median: workers {times:.2f} times, plain processes {ceiling:.2f} times")


if __name__ == "__main__":
    main()
