"""What `pmtool bench` and `pmtool export` do: checks before the work, a text to print after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pmtool.backends.devices import find_devices
from pmtool.backends.protocol import Precision
from pmtool.bundle import MANIFEST, WEIGHTS, Bundle
from pmtool.errors import OutputError, UsageError

FOR_EXPORT = ("torch", "onnx", "onnxscript", "safetensors", "onnxruntime")
FOR_BENCH = ("torch", "safetensors")
EXTRAS = "pmtool[cpu,torch]"


def bench(
    outputs: Mapping[str, Path | None],
    overwrite: bool,
    tell: Callable[[str, float], None],
    **options: Any,
) -> str:
    """Run a benchmark with the options of `BenchmarkOptions` and return its page.

    Parameters
    ----------
    outputs
        Where to write the figures: ``json``, ``page`` and ``picture``, each if it is wanted.
    """
    require("bench", FOR_BENCH)
    if outputs["picture"] is not None:
        require("bench --picture", ("matplotlib",), "pmtool[evaluate]")
    from pmtool.benchmark.options import BenchmarkOptions
    from pmtool.benchmark.outputs import check_outputs, write_outputs
    from pmtool.benchmark.page import page
    from pmtool.benchmark.run import run_benchmark

    check_outputs(outputs, overwrite)
    report = run_benchmark(BenchmarkOptions(**options), tell)
    values = report.to_json()  # once, for it tells the load of the moment
    write_outputs(outputs, report, values)
    return page(values)


def export(
    checkpoint: Path,
    folder: Path,
    overwrite: bool,
    *,
    name: str | None,
    trained_on: str,
    licence: str,
    spacing: tuple[float, float],
) -> str:
    """Export a checkpoint and return the table of its graphs' errors."""
    require("export", FOR_EXPORT)
    low, high = spacing
    if not 0 < low <= high:
        raise UsageError(f"the spacings must be positive and in order, not {low:g} and {high:g}")
    check_folder(folder, overwrite)
    from pmtool.export.bundle import Description, export_bundle
    from pmtool.training.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint)
    description = Description(name or folder.resolve().name, trained_on, licence, (low, high))
    try:
        bundle = export_bundle(network, folder, description)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    lines = [f"{graph:12} {error:.1e}" for graph, error in bundle.manifest.errors.items()]
    return "\n".join([f"{'graph':12} largest difference from PyTorch", *lines])


def check_export(
    checkpoint: Path | None, folder: Path | None, model: Path | None, tensorrt: bool
) -> None:
    """Raise `UsageError` unless the options of ``pmtool export`` ask for one thing."""
    if (checkpoint is None) != (folder is None):
        raise UsageError("a model bundle needs both --checkpoint and --out: give both")
    if checkpoint is None and not tensorrt:
        raise UsageError(
            "give --checkpoint and --out to make a model bundle, or --tensorrt to build engines"
        )
    if model is not None and (checkpoint is not None or not tensorrt):
        raise UsageError("--model is for --tensorrt without --checkpoint: leave it out")


def export_engines(model: Path | None, precision: Precision, max_windows: int) -> str:
    """Build the engines of a bundle for the first GPU and return the table of their errors."""
    from pmtool.backends import tensorrt
    from pmtool.export.accuracy import error_table

    bundle, device = Bundle.load(model), find_devices("cuda")[0]
    tensorrt.check((device,), precision)
    engines = tensorrt.load(bundle, device, precision, 1, max_windows).engines
    table = error_table(engines.manifest()["errors"])
    return f"{table}\n{engines.target.gpu}, {engines.target.tensorrt}: {engines.folder}"


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else; raises `OutputError`."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder: give another --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{folder} is not empty: give another --out or --overwrite")
    if not (folder / MANIFEST).exists() and not (folder / WEIGHTS).exists():
        raise OutputError(f"{folder} holds no model to replace: give another --out")


def require(command: str, packages: Iterable[str], extras: str = EXTRAS) -> None:
    """Raise `UsageError`, naming the extra, unless the packages are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(f"pmtool {command} needs {', '.join(missing)}: pip install '{extras}'")
