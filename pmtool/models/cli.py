"""``pmtool info``."""

from __future__ import annotations

from pathlib import Path

import click

from pmtool.cli.options import debug_option
from pmtool.cli.types import PATH


@click.command()
@click.argument("model", type=PATH, required=False)
@debug_option
def info(model: Path | None) -> None:
    """Show a model's card, manifest and training log.

    MODEL is the folder of a model bundle; the default is the built-in model.
    """
    from pmtool.models.info import model_info

    click.echo(model_info(model))
