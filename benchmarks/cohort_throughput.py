"""How much faster a cohort is on two worker processes than on one, each of one thread.

    python benchmarks/cohort_throughput.py [--cases 12] [--size 96] [--slices 5] [--workers 2]

On an idle machine with at least as many cores as workers. Counts from the first case that a worker
begins with to the last one that is finished: the start of the processes is left out, the loading
of the model is not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from pmtool.image_file import write_image
from pmtool.phantom import chest_phantom


def slices_a_second(scans: Path, out: Path, workers: int) -> float:
    """Of ``pmtool cohort`` on so many workers."""
    log = out.with_suffix(".jsonl")
    asked = ["cohort", scans, out, "--spacing=1.25", f"--workers={workers}", "--threads=1", "-q"]
    command = [sys.executable, "-m", "pmtool", *map(str, asked), f"--log-json={log}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    begin = next(t for t, line in zip(times, lines, strict=True) if "dashboard" in line["message"])
    generated = sum(line["generated"] for line in lines if line.get("event") == "case")
    return float(generated / (times[-1] - begin).total_seconds())


def speed_up(cases: int, size: int, slices: int, workers: int) -> tuple[float, float]:
    """Slices a second on one worker, and how many times that several make."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scans").mkdir()
        for number in range(cases):
            image = chest_phantom(size=size, slices=slices, seed=number)
            write_image(image, folder / "scans" / f"{number}.nrrd")
        one = slices_a_second(folder / "scans", folder / "one", 1)
        several = slices_a_second(folder / "scans", folder / "several", workers)
    return one, several / one


def main() -> None:
    """Print both figures and the machine's load."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("cases", 12), ("size", 96), ("slices", 5), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    load = psutil.getloadavg()[0]
    one, times = speed_up(asked.cases, asked.size, asked.slices, asked.workers)
    print(f"load before {load:.2f}, cores {psutil.cpu_count()}")
    print(f"1 worker: {one:.2f} slices/s; {asked.workers} workers: {times:.2f} times that")


if __name__ == "__main__":
    main()
