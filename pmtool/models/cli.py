"""``pmtool info``."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH, required=False)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def info(model: Path | None, debug: bool) -> None:
    """Show a model's card, manifest and training log.

    MODEL is the folder of a bundle, by default of the built-in one.
    """
    from pmtool.models.info import model_info

    click.echo(model_info(model))
