"""``python -m pmtool.training --data DIR --validation DIR --out RUN``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch

from pmtool.hyperparameters import COMPACT
from pmtool.training.crops import Crops
from pmtool.training.run import Run, Settings


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--validation", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--channels", default=COMPACT.channels, show_default=True)
@click.option("--steps", default=Settings.steps, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(data: Path, validation: Path, out: Path, channels: int, steps: int, threads: int) -> None:
    """Train the compact model; a run that was interrupted goes on where it was."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    hyperparameters = replace(COMPACT, channels=channels)
    run = Run(out, hyperparameters, replace(Settings(), steps=steps))
    run.train(Crops(data, hyperparameters), Crops(validation, hyperparameters))


main()
