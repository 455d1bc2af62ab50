"""The deep peer: a feed-forward network that predicts the slice between two others.

    python benchmarks/deep_peer.py train --data TRAIN_DIR --patches N --weights FILE
    python benchmarks/deep_peer.py predict --weights FILE SCAN OUT

It is a U-Net of three resolutions and 32 channels: the mean of the midpoint of
`pmtool.network.encoder.Encoder`, trained with an L1 loss on the crops that the compact preset of
`pmtool train` draws. `predict` replaces every second slice of a scan with the network's prediction
from its neighbours, which `pmtool evaluate --external unet=OUT` scores alongside the model.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch.nn import functional as F
from torch.utils.data import Dataset

from pmtool.cli.console import run_command
from pmtool.cli.types import PATH
from pmtool.errors import InputError, ModelError
from pmtool.geometry.thickness import relative_thickness
from pmtool.images.hounsfield import for_network, restore_padding, to_voxels
from pmtool.images.image_file import write_image
from pmtool.images.names import check_format
from pmtool.loading import load_volume
from pmtool.models.hyperparameters import COMPACT
from pmtool.network.encoder import Encoder
from pmtool.pixels.levels import from_hounsfield, to_hounsfield
from pmtool.system.files import write_bytes
from pmtool.system.outputs import check_output
from pmtool.training.cache import Cache
from pmtool.training.crops import Crops, Triplets
from pmtool.training.selection import usable
from pmtool.training.settings import PRESETS
from pmtool.training.sources import find_sources

CHANNELS = 32
BATCH, LEARNING_RATE = 4, 1e-3


@click.group()
def main() -> None:
    """A feed-forward network to hold PixelMiner against."""


@main.command()
@click.option("--data", type=PATH, required=True, help="Training scans.")
@click.option("--patches", type=click.IntRange(BATCH), required=True, help="To train on.")
@click.option("--weights", type=PATH, required=True, help="Where to write them.")
@click.option("--seed", default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the weights.")
def train(data: Path, patches: int, weights: Path, seed: int, overwrite: bool) -> None:
    """Train on a number of 64x64 crops."""
    check_output(weights, overwrite)
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        network, errors = trained(training_crops(data, Path(folder), seed), patches // BATCH, seed)
    write_bytes(save(network.state_dict()), weights)
    seconds = time.monotonic() - start
    click.echo(
        f"{patches} patches in {seconds:.0f} s; mean absolute error over the last tenth "
        f"{np.mean(errors[-max(len(errors) // 10, 1) :]):.2f} HU"
    )


@main.command()
@click.argument("source", metavar="SCAN", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@click.option("--weights", type=PATH, required=True, help="Of the trained network.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def predict(source: Path, target: Path, weights: Path, overwrite: bool) -> None:
    """Write a scan with every second slice predicted from its neighbours."""
    check_format(target)
    check_output(target, overwrite)
    write_image(with_predictions(load(weights), source), target)


def training_crops(data: Path, folder: Path, seed: int) -> Crops:
    """Crops as in the model's training, with the scans cached in a folder."""
    cache, sources = Cache(folder), find_sources([data])
    cache.build(sources, lambda label, share: None)
    settings = replace(PRESETS["compact"], seed=seed)
    scans, _ = usable(cache.load(sources)[0], settings.crops)
    if not scans:
        raise InputError(f"no CT was found in {data}: name the folder of the training scans")
    return Crops(scans, settings, BATCH)


def trained(crops: Dataset[Triplets], steps: int, seed: int) -> tuple[Encoder, list[float]]:
    """Train a network on crops.

    Returns
    -------
    tuple
        The network, and the mean absolute error of every step's crops in HU.
    """
    torch.manual_seed(seed)
    network, errors = Encoder(CHANNELS), list[float]()
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    low, high = COMPACT.hu_window
    with click.progressbar(range(steps), label="training", file=sys.stderr) as bar:
        for step in bar:
            slices, relative = crops[step]
            above, target, below = slices.split(1, dim=1)
            with torch.autocast("cpu", torch.bfloat16):
                mean = network(above, below, relative).mean
            loss = F.l1_loss(mean.float(), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
            errors.append(float(loss.detach()) * (high - low) / 2)
    return network.eval(), errors


def load(path: Path) -> Encoder:
    """Load the network from a file written by `train`."""
    network = Encoder(CHANNELS)
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:  # safetensors and torch raise errors of many kinds
        raise ModelError(f"{path} does not hold the deep peer's weights: train it again") from error
    return network.eval()


def with_predictions(network: Encoder, source: Path) -> sitk.Image:
    """Return a scan with its second, fourth, ... slice predicted.

    A last slice without a neighbour after it is kept.
    """
    volume = load_volume(source)
    result = sitk.Image(volume.image)
    relative = relative_thickness(volume.thickness, volume.spacing)
    for index in range(1, len(volume.slices) - 1, 2):
        above, below = volume.slices[index - 1], volume.slices[index + 1]
        prediction = midpoint(network, above, below, relative).astype(np.float32)
        restore_padding(prediction, above, below, COMPACT.hu_window[0])
        volume.put_slice(result, index, to_voxels(prediction, volume.dtype))
    return result


@torch.inference_mode()
def midpoint(
    network: Encoder, above: NDArray[np.int16], below: NDArray[np.int16], relative: float
) -> NDArray[np.int16]:
    """Predict the slice between two others ``(H, W)`` in HU, padded to multiples of 4 pixels.

    ``relative`` is `pmtool.geometry.thickness.relative_thickness`.
    """
    height, width = above.shape
    pixels = [from_hounsfield(for_network(x, COMPACT.hu_window), COMPACT) for x in (above, below)]
    padding = (0, -width % 4, 0, -height % 4)
    slices = [F.pad(torch.from_numpy(x)[None, None], padding, "replicate") for x in pixels]
    mean = network(*slices, torch.full((1, 1, 1, 1), relative)).mean[0, 0, :height, :width]
    return to_hounsfield(mean.clamp(-1, 1).numpy(), COMPACT)


if __name__ == "__main__":
    sys.exit(run_command(main))
