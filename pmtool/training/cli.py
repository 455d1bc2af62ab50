"""``pmtool train``: from command-line options to settings; the work is done elsewhere."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmtool.cli.console import stages
from pmtool.cli.options import debug_option, quiet_option
from pmtool.cli.types import PATH
from pmtool.system.extras import require

if TYPE_CHECKING:
    from pmtool.training.settings import Settings

PACKAGES = (
    "torch",
    "lightning_fabric",
    "tensorboard",
    "pydantic",
    "pydicom",
    "safetensors",
    "scipy",
    "yaml",
)


class FoldersCommand(click.Command):
    """A command whose folder options take several values, as in ``--data A B``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before every further folder; the command has no other arguments."""
        several = {name for x in self.params if x.type is PATH and x.multiple for name in x.opts}
        repeated, option, folders = list[str](), "", 0
        for word in args:
            if word.startswith("-"):
                option, folders = word.partition("=")[0], int("=" in word)
            else:
                repeated += [option] if folders and option in several else []
                folders += 1
            repeated.append(word)
        return super().parse_args(ctx, repeated)


@click.command(cls=FoldersCommand)
@click.option(
    "--data",
    type=PATH,
    multiple=True,
    required=True,
    metavar="DIR...",
    help="Folders of scans to train on.",
)
@click.option("--out", type=PATH, required=True, help="Folder for the run.")
@click.option(
    "--validation",
    type=PATH,
    multiple=True,
    metavar="DIR...",
    help="Folders of scans to validate on.  [default: a tenth of the patients is held back]",
)
@click.option(
    "--cache",
    type=PATH,
    help="Folder for decoded scans, which runs can share.  [default: inside --out]",
)
@click.option(
    "--preset",
    type=click.Choice(["compact", "paper"]),
    help="Preset of settings to start from.  [default: compact]",
)
@click.option("--config", type=PATH, help="YAML file of settings to change.")
@click.option(
    "--set",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Setting to change, such as optimiser.steps=5000; repeatable.",
)
@click.option(
    "--start",
    type=PATH,
    help="Model folder or checkpoint with the initial weights.  [default: random weights]",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out, if there is one.")
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Kind of device to train on.",
)
@click.option(
    "--devices",
    default="auto",
    show_default=True,
    help="Devices per machine: a number, a list such as 0,2, or auto for as many GPUs as can share "
    "the patches of a step evenly.",
)
@click.option(
    "--nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of machines."
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Processes per device that draw crops.  [default: 4 on a GPU, 0 on a CPU]",
)
@quiet_option
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

    Finds NRRD, NIfTI and MetaImage files and DICOM series, including those in subfolders. Writes a
    checkpoint, a log (CSV and TensorBoard), pictures of samples and the settings to the run's
    folder. A run that was interrupted or killed continues with --resume as if it had not been.
    pmtool export makes a model from its checkpoint.

    Example: pmtool train --data scans --out run
    """
    require("pmtool train", PACKAGES, "pmtool[train]")
    from pmtool.training.folder import agreed_settings
    from pmtool.training.run import Data, Machine
    from pmtool.training.run import train as run

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    settings = agreed_settings(out, _wanted(preset, config, changes), resume=resume)
    with stages(quiet) as tell:
        # Seen with several processes.
        warnings.filterwarnings("ignore", "Grad strides do not match")
        run(Data(data, validation, cache), out, settings, Machine(**machine), tell, start)


def _wanted(preset: str | None, config: Path | None, changes: tuple[str, ...]) -> Settings | None:
    """The requested settings; None if no option requests any."""
    from pmtool.training.settings import load_settings

    if preset is None and config is None and not changes:
        return None
    return load_settings(preset or "compact", config, changes)
