"""The command line: one short function a command; the work is done elsewhere."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

import pmtool
from pmtool import cli_types
from pmtool.cli_options import engine_options, sampling_options
from pmtool.cohort.command import cohort
from pmtool.console import narration, progress_bar, run_command, stages
from pmtool.training.command import train
from pmtool.trial.command import trial

_FILE = click.Path(path_type=Path)
_EPILOG = """\b
Exit codes: 0 done; 1 anything not named here; 2 a request that cannot be met; 3 an input or model
that cannot be read; 4 geometry; 5 content that is not CT; 6 an output that cannot be written; 7
out of memory; 8 some cases of a batch failed; 130 interrupted (Ctrl-C or SIGTERM).

Not a medical device; for research use.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version=pmtool.__version__, prog_name="pmtool")
def cli() -> None:
    """Texture-accurate slice interpolation of CT with PixelMiner.

    Not a medical device; for research use.
    """


cli.add_command(cohort)
cli.add_command(train)
cli.add_command(trial)


def main() -> None:
    """The ``pmtool`` command."""
    code = run_command(cli)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rest is tidying up
    sys.exit(code)


@cli.command(cls=cli_types.SpacingCommand)
@click.argument("source", metavar="[IN]", required=False)
@click.argument("target", metavar="[OUT]", required=False)
@click.option("-i", "--input", "source_option", metavar="IN", help="Instead of IN.")
@click.option("-o", "--output", "target_option", metavar="OUT", help="Instead of OUT.")
@sampling_options
@click.option("--reference", type=_FILE, help="An image whose slices to meet instead.")
@click.option("--series-uid", metavar="UID", help="Which series of several, in DICOM.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["nrrd", "nii", "nii.gz", "mha", "mhd", "dicom"]),
    help="Of OUT, where its suffix does not say it: a folder, ending with a slash, is for DICOM.",
)
@click.option("--samples", type=int, default=1, help="Of every slice, for --uncertainty.")
@click.option("--uncertainty", type=_FILE, help="Write the samples' standard deviation, HU.")
@click.option("--seg", "segmentation", type=_FILE, help="A mask to bring along.")
@click.option("--seg-out", "segmentation_out", type=_FILE, help="Where to write it.")
@click.option(
    "--seg-interpolation",
    "segmentation_interpolation",
    type=click.Choice(["nearest", "linear"]),
    default="nearest",
    show_default=True,
    help="Of the mask; linear has the threshold 0.5.",
)
@click.option("--preview", type=_FILE, help="Write a PNG: before and after.")
@click.option("--statistics", type=_FILE, help="Write JSON: mean and noise of every slice.")
@click.option("--overwrite", is_flag=True, help="Replace files and discard an interrupted run.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def resample(
    source: str | None,
    target: str | None,
    source_option: str | None,
    target_option: str | None,
    spacing: tuple[float, ...] | None,
    file_format: str | None,
    quiet: bool,
    verbose: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Refine the spacing between a CT's slices: IN to OUT.

    Reads and writes NRRD, NIfTI, MetaImage and DICOM in HU; a folder OUT/ is for a DICOM series,
    if IN is one. Acquired slices stay as they are under the default grid. OUT.json tells where
    every slice comes from; OUT.partial keeps finished slices while the work goes on.

    Example: pmtool resample --spacing 1.25 ct.nrrd fine.nrrd
    """
    from pmtool.options import with_format
    from pmtool.resampling import resample as run

    with narration(quiet, verbose):
        given, wanted = _one_each(source, target, source_option, target_option)
        output = with_format(wanted, file_format)
        with progress_bar(quiet) as progress:
            run(given, spacing, output, progress=progress, **options)


@cli.command()
@click.argument("target", metavar="OUT", type=_FILE)
@click.option("--slices", type=click.IntRange(2), default=40, show_default=True)
@click.option("--size", type=click.IntRange(16), default=512, show_default=True, help="Pixels.")
@click.option("--spacing", type=float, default=2.5, show_default=True, help="Of slices, mm.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def phantom(
    target: Path, slices: int, size: int, spacing: float, seed: int, overwrite: bool, debug: bool
) -> None:
    """Write a synthetic chest CT to OUT, to try pmtool with."""
    from pmtool.image_file import write_image
    from pmtool.options import check_output
    from pmtool.phantom import chest_phantom

    check_output(target, overwrite)
    in_plane = 0.7 * 512 / size
    image = chest_phantom(
        size=size, slices=slices, spacing=(in_plane, in_plane, spacing), seed=seed
    )
    write_image(image, target)


@cli.command()
@click.option("--json", "json_", type=_FILE, help="Write the figures as JSON.")
@click.option("--page", type=_FILE, help="Write what is printed, in Markdown.")
@click.option("--picture", type=_FILE, help="Write a PNG of the times.")
@click.option("--model", type=_FILE, help="Folder of a model bundle.  [default: the built-in one]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:N].")
@click.option(
    "--backend",
    "backends",
    metavar="NAME",
    multiple=True,
    help="torch, tensorrt, onnxruntime-cuda or onnxruntime-cpu; repeat it to compare.  [default: "
    "the first that works]",
)
@click.option(
    "--precision",
    "precisions",
    metavar="TYPE",
    multiple=True,
    help="float32, float16 or bfloat16, of the products; repeat it to compare.  [default: the "
    "backend's]",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    help="Windows at once; repeat it to compare.",
)
@click.option(
    "--window",
    metavar="N|full",
    callback=cli_types.window,
    help="Width of the windows.  [default: the device's]",
)
@click.option("--threads", type=click.IntRange(1), help="Of the processor.")
@click.option("--size", type=int, default=512, show_default=True, help="Pixels of the phantom.")
@click.option("--pairs", type=int, default=8, show_default=True, help="Slices to generate.")
@click.option("--input", "source", type=_FILE, help="A thin scan to use instead of the phantom.")
@click.option(
    "--passes",
    type=int,
    default=2048,
    show_default=True,
    help="Of the naive sampler that are really run, 64 to 4096, in whole rows of 64.",
)
@click.option("--peers", is_flag=True, help="Time other samplers in PyTorch too.")
@click.option("--scaling", is_flag=True, help="Time scans of 1 to 150 pairs, 128 to 1024 pixels.")
@click.option("--budget", type=float, default=300, show_default=True, help="Of --scaling, seconds.")
@click.option("--overwrite", is_flag=True, help="Replace files.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def bench(
    json_: Path | None,
    page: Path | None,
    picture: Path | None,
    overwrite: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Measure the cached sampler against the naive one, on this machine.

    Drops every second slice and generates it again. The naive sampler's time is extrapolated from
    passes that were really run. Of several backends, precisions and batches the first is the one
    that the speed-up is told of.

    Example: pmtool bench --backend torch --precision float32 --precision bfloat16
    """
    from pmtool.commands import bench as run

    outputs = {"json": json_, "page": page, "picture": picture}
    with stages(quiet) as tell:
        told = run(outputs, overwrite, tell, **options)
    click.echo(told, nl=False)


@cli.command()
@click.option("--checkpoint", type=_FILE, help="Of pmtool's training, to make a bundle of.")
@click.option("--out", "folder", type=_FILE, help="Folder of the bundle.")
@click.option("--name", help="Of the model.  [default: the folder's]")
@click.option("--trained-on", default="unknown data", show_default=True)
@click.option("--licence", default="unknown", show_default=True, help="Of the weights.")
@click.option(
    "--spacing",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    default=(1.0, 1.25),
    show_default=True,
    help="Of a new slice to its neighbours in training, mm.",
)
@click.option("--tensorrt", is_flag=True, help="Build engines for the GPU of this machine.")
@click.option("--model", type=_FILE, help="Bundle to build them of.  [default: the built-in one]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="bfloat16",
    show_default=True,
    help="Of the engines' matrix products and convolutions.",
)
@click.option(
    "--max-windows",
    type=click.IntRange(16),
    help="Of 64 pixels, that the engines take at once.  [default: as those built before, or 4096]",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle in the folder.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def export(
    checkpoint: Path | None,
    folder: Path | None,
    overwrite: bool,
    tensorrt: bool,
    model: Path | None,
    precision: Any,
    max_windows: int | None,
    debug: bool,
    **description: Any,
) -> None:
    """Make a model bundle of a training checkpoint, or TensorRT engines of a bundle.

    Prints how far every graph differs from PyTorch, and every engine from ONNX Runtime; a
    difference that matters is an error. Engines are for this machine alone; they are kept, and
    built again when the model, the GPU, its driver or TensorRT change.

    Examples: pmtool export --checkpoint last.pt --out model; pmtool export --tensorrt
    """
    from pmtool.commands import check_export, check_tensorrt, export_engines
    from pmtool.commands import export as run

    check_export(_given(click.get_current_context()))
    gpu = check_tensorrt(precision) if tensorrt else ""
    if checkpoint is not None and folder is not None:
        click.echo(run(checkpoint, folder, overwrite, **description))
    if tensorrt:
        with narration(False, False):
            click.echo(export_engines(model or folder, gpu, precision, max_windows))


@cli.command()
@click.argument("model", type=_FILE, required=False)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info(model: Path | None, debug: bool) -> None:
    """Show a model's card, manifest and training log.

    MODEL is the folder of a bundle, by default of the built-in one.
    """
    from pmtool.info import model_info

    click.echo(model_info(model))


@cli.command()
@click.argument("scans", metavar="SCAN...", type=_FILE, nargs=-1, required=True)
@click.option("--out", "folder", type=_FILE, required=True, help="Folder of the report.")
@click.option(
    "--methods",
    metavar="NAME,NAME...",
    callback=cli_types.names,
    default="linear,nearest,bspline,windowed_sinc,pixelminer",
    show_default=True,
)
@click.option(
    "--external",
    "externals",
    metavar="NAME=FILE",
    callback=cli_types.named_files,
    multiple=True,
    help="Another tool's slices; once for every scan, in order.",
)
@click.option("--mask", "masks", type=_FILE, multiple=True, help="Own region instead of lungs.")
@click.option("--slices", type=click.IntRange(1), help="Of each scan, at random.  [default: all]")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of slices and pixels."
)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(["sample", "median", "mean"]),
    default=["sample"],
    show_default=True,
    multiple=True,
    help="Of PixelMiner; each is a method.",
)
@click.option("--model", type=_FILE, help="Folder of a model bundle.  [default: the built-in one]")
@engine_options
@click.option("--threads", type=click.IntRange(1), help="Of PixelMiner.")
@click.option("--series-uid", metavar="UID", help="Which series of several, in DICOM.")
@click.option("--workers", type=click.IntRange(1), help="Processes that score.")
@click.option("--assume-hu", is_flag=True, help="Take voxels for HU that do not look like it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def evaluate(
    scans: tuple[Path, ...], folder: Path, quiet: bool, debug: bool, **options: Any
) -> None:
    """Measure slice interpolation on thin SCANs, as the PixelMiner paper does.

    Drops every second slice, makes it again by every method, and scores edges, texture, noise and
    pixels. Prints the tables and writes report.html, report.json and slices.csv. What was scored
    is kept in the folder: a further method or more slices cost only themselves.

    Example: pmtool evaluate thin.nrrd --out report --slices 8
    """
    from pmtool.evaluation.commands import EvaluationOptions
    from pmtool.evaluation.commands import evaluate as run

    with narration(quiet, False), stages(quiet) as tell:
        told = run(scans, folder, EvaluationOptions(**options), tell)
    click.echo(told)


@cli.command()
@click.argument("volumes", metavar="A B", type=_FILE, nargs=2)
@click.option("--reference", type=_FILE, required=True, help="The true volume.")
@click.option("--out", "folder", type=_FILE, help="Folder of a report.")
@click.option("--mask", type=_FILE, help="Own region instead of lungs.")
@click.option("--workers", type=click.IntRange(1), help="Processes that score.")
@click.option("--assume-hu", is_flag=True, help="Take voxels for HU that do not look like it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(
    volumes: tuple[Path, Path],
    reference: Path,
    folder: Path | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Score volumes A and B by a reference, with the measures of pmtool evaluate.

    Slices that are the reference's in both are left out.
    """
    from pmtool.evaluation.compare import compare as run

    with narration(quiet, False), stages(quiet) as tell:
        told = run(volumes, reference, folder, tell, **options)
    click.echo(told)


def _given(ctx: click.Context) -> set[str]:
    """Names of the options that stand on the command line, without dashes."""
    return {
        param.opts[0].lstrip("-")
        for param in ctx.command.params
        if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    }


def _one_each(
    source: str | None, target: str | None, source_option: str | None, target_option: str | None
) -> tuple[str, str]:
    """IN and OUT, each given once; with ``-i`` a single argument is OUT."""
    if source_option is not None and source is not None and target is None:
        source, target = None, source
    sources = [path for path in (source, source_option) if path is not None]
    targets = [path for path in (target, target_option) if path is not None]
    if len(sources) != 1 or len(targets) != 1:
        raise click.UsageError("give IN and OUT once each, as arguments or as -i and -o")
    return sources[0], targets[0]


def _end_help(command: click.Command) -> None:
    """Let the help of a command, and of those below it, end with `_EPILOG`."""
    command.epilog = _EPILOG
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _end_help(below)


_end_help(cli)
