"""Interpolate the weights of two models and widen the components, which training cannot do.

    python benchmarks/blend.py A B --share 0.35 --scale 1.015 --out OUT.pt

A and B are model folders or training checkpoints of one network; OUT is for `pmtool train --start`
and `pmtool export --checkpoint`. The default model was made in this way, see ablations.md.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import cast

import click
import torch
from torch import Tensor
from yardsticks import load

from pmtool.cli.console import run_command
from pmtool.cli.types import PATH
from pmtool.errors import UsageError
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_state, unfold
from pmtool.system.outputs import check_no_input, check_output


@click.command()
@click.argument("one", type=PATH)
@click.argument("other", type=PATH)
@click.option("--share", type=click.FloatRange(0, 1), default=1.0, help="Of B's weights.")
@click.option("--scale", type=click.FloatRange(0, min_open=True), default=1.0)
@click.option("--out", type=PATH, required=True)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def main(one: Path, other: Path, share: float, scale: float, out: Path, overwrite: bool) -> None:
    """Mix two models and multiply the scales of all components."""
    check_output(out, overwrite)
    check_no_input(out, [one, other])
    first, second = (load(path)[0] for path in (one, other))
    if first.hyperparameters != second.hyperparameters:
        raise UsageError(f"{one} and {other} are not the same network")
    network = blend(first, second, share, scale)
    sizes = network.hyperparameters.to_json()
    torch.save({"hyperparameters": sizes, "averaged": network.state_dict()}, out)


def blend(one: PixelMiner, other: PixelMiner, share: float, scale: float) -> PixelMiner:
    """Return a network with weights ``share`` of the way from ``one`` to ``other``.

    Weight normalisation is folded in first. The scales of all components are multiplied by
    ``scale``.
    """
    network = PixelMiner(one.hyperparameters)
    ends = folded_state(one), folded_state(other)
    unfold({name: torch.lerp(ends[0][name], ends[1][name], share) for name in ends[0]}, network)
    log_scales = slice(2 * one.hyperparameters.mixtures, None)
    with torch.no_grad():
        cast(Tensor, network.output.bias)[log_scales] += math.log(scale)
    return network


if __name__ == "__main__":
    sys.exit(run_command(main))
