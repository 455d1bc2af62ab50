"""Write the page for a JSON file of `pmtool bench` next to it, as `--page` does.

python benchmarks/page.py benchmarks/results/cpu-2-cores-amx.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pmtool.benchmark.page import page


def main() -> None:
    """Write the pages of all given files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    for path in parser.parse_args().results:
        path.with_suffix(".md").write_text(page(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
