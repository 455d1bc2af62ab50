"""Check whether a model's distributions have the right width, and what a correction would gain.

    python benchmarks/calibration.py --model BUNDLE|CHECKPOINT --scan SCAN [--filter A]

If the model is right, the probability integral transform of a pixel's value, given the preceding
pixels, is uniformly distributed (Dawid 1984). The output gives the share of pixels in every tenth,
and the change in bits per pixel if all scales, all spreads of the components' means, or all logits
are multiplied by a factor; negative changes are gains. The tiles and ``--thickness MM`` are the
same as in yardsticks.py.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from yardsticks import BATCH, load, prepared, thickness_input, tiles

from pmtool.cli.console import run_command
from pmtool.cli.options import thickness_option
from pmtool.cli.types import PATH
from pmtool.images.reading import ReadingOptions
from pmtool.loading import load_volume
from pmtool.network import Mixture, PixelMiner, bits_per_pixel

TENTHS = 10
FACTORS = (0.9, 0.95, 1.05, 1.1)


@click.command()
@click.option("--model", type=PATH, required=True, help="A bundle or a training checkpoint.")
@click.option("--scan", "scans", type=PATH, multiple=True, required=True, help="A scan.")
@click.option("--filter", "amounts", multiple=True, default=(0.0,), help="Amount of sharpening.")
@thickness_option
@click.option("--crops", "count", default=40, show_default=True, help="Of a scan, at most.")
def main(
    model: Path,
    scans: tuple[Path, ...],
    amounts: tuple[float, ...],
    thickness: float | None,
    count: int,
) -> None:
    """Calibration of a model; --scan and --filter may be repeated."""
    network, _ = load(model)
    sizes, reading = network.hyperparameters, ReadingOptions(thickness=thickness)
    for path, amount in product(scans, amounts):
        volume = load_volume(path, reading)
        crops = tiles(prepared(volume, amount, sizes), count, sizes)
        mixture, target = predicted(network, crops, thickness_input(volume)), crops[:, 1:2]
        shares = np.histogram(pit_values(mixture, target, sizes.bits), TENTHS, (0, 1))[0]
        click.echo(f"{path.name}, filter {amount:g}, {target.numel():,} pixels")
        click.echo(f"tenths: {' '.join(f'{x:.3f}' for x in shares / shares.sum())}")
        for name, changes in corrections(mixture, target, sizes.bits).items():
            click.echo(f"{name}: {' '.join(f'{f:g}: {x:+.4f}' for f, x in changes.items())}")


@torch.inference_mode()
def predicted(network: PixelMiner, crops: Tensor, relative_thickness: Tensor) -> Mixture:
    """Predict the distributions of the targets of crops ``(N, 3, H, W)``.

    The relative thickness ``(1, 1, 1, 1)`` applies to all crops.
    """
    batches = [network(*batch.split(1, dim=1), relative_thickness) for batch in crops.split(BATCH)]
    return Mixture(*(torch.cat(part) for part in zip(*batches, strict=True)))


def pit_values(mixture: Mixture, target: Tensor, bits: int) -> NDArray[np.float32]:
    """Probability integral transform of pixels, in [0, 1]; random within a grey level.

    The first and the last level, which include the tails, are left out.
    """
    half_bin = 1 / (2**bits - 1)
    inner = ((target > -1 + half_bin) & (target < 1 - half_bin))[:, 0]
    weights = torch.softmax(mixture.logits, dim=1)

    def probability(value: Tensor) -> Tensor:
        """Probability that a pixel is below a value."""
        standardised = (value - mixture.means) * torch.exp(-mixture.log_scales)
        return (weights * torch.sigmoid(standardised)).sum(dim=1)

    low, high = probability(target - half_bin), probability(target + half_bin)
    share = torch.rand(low.shape, generator=torch.Generator().manual_seed(0))
    return (low + share * (high - low))[inner].numpy()


def corrections(mixture: Mixture, target: Tensor, bits: int) -> dict[str, dict[float, float]]:
    """Change in bits per pixel for factors on the scales, spreads and logits."""
    weights = torch.softmax(mixture.logits, dim=1)
    mean = (weights * mixture.means).sum(dim=1, keepdim=True)
    before = float(bits_per_pixel(mixture, target, bits))

    def change(**parts: Tensor) -> float:
        return float(bits_per_pixel(mixture._replace(**parts), target, bits)) - before

    return {
        "scales": {f: change(log_scales=mixture.log_scales + np.log(f)) for f in FACTORS},
        "spreads": {f: change(means=mean + f * (mixture.means - mean)) for f in FACTORS},
        "logits": {f: change(logits=f * mixture.logits) for f in FACTORS},
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
