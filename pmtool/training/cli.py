"""``pmtool train``: options to settings; the work is done elsewhere."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option
from pmtool.cli.types import PATH

if TYPE_CHECKING:
    from pmtool.training.settings import Settings

NEEDED = (
    "torch",
    "lightning_fabric",
    "tensorboard",
    "pydantic",
    "pydicom",
    "safetensors",
    "scipy",
    "yaml",
)


@click.command()
@click.option(
    "--data", type=PATH, multiple=True, required=True, help="Folder of scans; repeatable."
)
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.option(
    "--validation",
    type=PATH,
    multiple=True,
    help="Folder of scans to hold back.  [default: a tenth of the patients]",
)
@click.option(
    "--cache", type=PATH, help="For decoded scans; runs may share it.  [default: in --out]"
)
@click.option(
    "--preset",
    type=click.Choice(["compact", "paper"]),
    help="Settings to start from.  [default: compact]",
)
@click.option("--config", type=PATH, help="YAML of settings to change.")
@click.option(
    "--set",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting to change, like optimiser.steps=5000; repeatable.",
)
@click.option(
    "--start",
    type=PATH,
    help="Model folder or checkpoint whose weights to begin with.  [default: random weights]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in the folder, if there is one.")
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
)
@click.option("--devices", default="auto", show_default=True, help="A number, or a list like 0,2.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option("--workers", type=click.IntRange(0), help="Processes that draw crops, by device.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@debug_option
def train(
    data: tuple[Path, ...],
    out: Path,
    validation: tuple[Path, ...],
    cache: Path | None,
    preset: str | None,
    config: Path | None,
    changes: tuple[str, ...],
    start: Path | None,
    resume: bool,
    quiet: bool,
    **machine: Any,
) -> None:
    """Train a model on folders of thin-slice CT.

    Finds NRRD, NIfTI, MetaImage and DICOM series, also in subfolders. The run's folder gets
    checkpoints, a log (CSV and TensorBoard), pictures of samples and the settings; interrupted or
    killed, a run goes on with --resume as if it had not been. pmtool export makes a model of its
    checkpoint.

    Example: pmtool train --data scans --out run
    """
    from pmtool.system.extras import require

    require("pmtool train", NEEDED, "pmtool[train]")
    from pmtool.training.folder import agreed_settings
    from pmtool.training.run import Data, Machine
    from pmtool.training.run import train as run

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    settings = agreed_settings(out, _wanted(preset, config, changes), resume=resume)
    with narration(quiet, verbose=False), stages(quiet) as tell:
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of several processes
        run(Data(data, validation, cache), out, settings, Machine(**machine), tell, start)


def _wanted(preset: str | None, config: Path | None, changes: tuple[str, ...]) -> Settings | None:
    """The settings that are asked for, None where nothing is."""
    from pmtool.training.settings import load_settings

    if preset is None and config is None and not changes:
        return None
    return load_settings(preset or "compact", config, changes)
