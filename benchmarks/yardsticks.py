"""Bits per pixel of a model and of simpler models on the same pixels.

    python benchmarks/yardsticks.py --data TRAIN_DIR --validation SCAN --model BUNDLE|CHECKPOINT

All models predict a slice from its neighbours in 64x64 crops: the tiles of every ninth slice,
thinned evenly to ``--crops`` per scan. The simple models (simple_models.py) are fitted to such
crops of the training scans, never to the scan being evaluated; ``midpoint`` is the prediction of
the model's encoder alone. ``--filter A`` evaluates the scan as a sharper (A > 0) or softer kernel
would have made it, and ``--filtered FOLDER`` writes the filtered scans for `pmtool evaluate`. Only
the model gets the thickness of the slices as input; ``--thickness MM`` corrects that thickness.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage
from simple_models import Predictor, fitted_models
from torch import Tensor

from pmtool.benchmark.report import machine, versions
from pmtool.cli.console import run_command
from pmtool.cli.options import thickness_option
from pmtool.cli.types import PATH
from pmtool.errors import InputError
from pmtool.geometry.thickness import relative_thickness
from pmtool.images.image_file import write_image
from pmtool.images.names import image_stem, image_suffix
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import Mixture, PixelMiner, bits_per_pixel
from pmtool.network.inference import load_network
from pmtool.pixels.levels import from_hounsfield
from pmtool.system.files import write_json
from pmtool.system.hashes import file_hash
from pmtool.system.outputs import check_output
from pmtool.system.tables import markdown
from pmtool.training.checkpoint import load_checkpoint

SIZE, ONE_SLICE_IN, BATCH = 64, 9, 8
SIGMA = 0.8
"""Standard deviation of the filter's Gaussian in pixels."""

Slices = NDArray[np.int16]
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("--data", type=_FOLDER, required=True, help="Folder of training scans.")
@click.option("--validation", "scans", type=PATH, multiple=True, required=True, help="A scan.")
@click.option("--model", type=PATH, required=True, help="A bundle or a training checkpoint.")
@click.option("--filter", "amounts", multiple=True, default=(0.0,), help="Amount of sharpening.")
@thickness_option
@click.option("--filtered", type=_FOLDER, help="Folder for the filtered scans.")
@click.option("--crops", "count", default=300, show_default=True, help="Of a scan, at most.")
@click.option("--steps", default=2000, show_default=True, help="Of fitting a simple model.")
@click.option("--json", "result", type=PATH, help="Write the figures to a file too.")
def main(
    data: Path,
    scans: tuple[Path, ...],
    model: Path,
    amounts: tuple[float, ...],
    thickness: float | None,
    filtered: Path | None,
    count: int,
    steps: int,
    result: Path | None,
) -> None:
    """Bits per pixel of a model and of simpler ones; --validation and --filter may be repeated."""
    if result is not None:
        check_output(result, overwrite=True)
    network, digest = load(model)
    sizes, runs = network.hyperparameters, []
    training = torch.cat([tiles(prepared(v, 0, sizes), count, sizes) for v in volumes(data)])
    simple = fitted_models(training, sizes.bits, steps)
    reading = ReadingOptions(thickness=thickness)
    for path, amount in product(scans, amounts):
        volume = load_volume(path, reading)
        models = {**simple, **network_models(network, thickness_input(volume))}
        slices = prepared(volume, amount, sizes)
        if filtered is not None:
            write_image(image_like(volume, slices), filtered / filtered_name(volume, amount))
        crops = tiles(slices, count, sizes)
        run = {
            "scan": Path(volume.name).name,
            "filter": amount,
            "thickness_mm": volume.thickness,
            "pixels": crops[:, 1].numel(),
            "bits_per_pixel": {n: mean_bits(m, crops, sizes.bits) for n, m in models.items()},
        }
        click.echo(table(run))
        runs.append(run)
    if result is not None:
        content = {
            "model": model.name,
            "model_hash": digest,
            "training_pixels": training[:, 1].numel(),
            "machine": machine(),
            "versions": versions(),
            "runs": runs,
        }
        write_json(content, result)


def load(path: Path) -> tuple[PixelMiner, str]:
    """Load the network of a bundle or of a training checkpoint, and return its hash too."""
    if path.is_dir():
        bundle = Bundle.load(path)
        return load_network(bundle), bundle.hash
    return load_checkpoint(path), file_hash(path)


def network_models(network: PixelMiner, relative_thickness: Tensor) -> dict[str, Predictor]:
    """Predictors by name: the network and, if it has an encoder, the encoder's midpoint alone.

    Both get the relative thickness ``(1, 1, 1, 1)`` as input.
    """

    def model(above: Tensor, target: Tensor, below: Tensor) -> Mixture:
        mixture: Mixture = network(above, target, below, relative_thickness)
        return mixture

    def midpoint(above: Tensor, target: Tensor, below: Tensor) -> Mixture:
        prediction = network.midpoint(above, below, relative_thickness)
        return Mixture(torch.zeros_like(prediction.mean), prediction.mean, prediction.log_scale)

    if network.hyperparameters.encoder:
        return {"midpoint": midpoint, "model": model}
    return {"model": model}


def thickness_input(volume: Volume) -> Tensor:
    """Relative thickness ``(1, 1, 1, 1)`` for the network if every second slice is left out.

    See `pmtool.geometry.thickness.relative_thickness`.
    """
    return torch.full((1, 1, 1, 1), relative_thickness(volume.thickness, volume.spacing))


def volumes(folder: Path) -> Iterator[Volume]:
    """Load all volumes below a folder, one by one."""
    paths = sorted(path for path in folder.rglob("*") if image_suffix(path))
    if not paths:
        raise InputError(f"{folder} holds no scan: name the folder of the training scans")
    return map(load_volume, paths)


def prepared(volume: Volume, amount: float, hyperparameters: Hyperparameters) -> Slices:
    """Return slices ``(D, H, W)``, clipped to the HU window and filtered in plane.

    The filter adds ``amount`` times the difference from a Gaussian blur: 0 changes nothing, -1
    gives the blurred slice.
    """
    window = hyperparameters.hu_window
    hu = volume.slices.clip(*window).astype(np.float32)
    detail = hu - ndimage.gaussian_filter(hu, (0, SIGMA, SIGMA), mode="nearest")
    return np.asarray(np.rint(hu + amount * detail).clip(*window), np.int16)


def tiles(slices: Slices, count: int, hyperparameters: Hyperparameters) -> Tensor:
    """Cut at most ``count`` crops, evenly spread over a scan: ``(N, 3, SIZE, SIZE)`` in [-1, 1]."""
    depth, height, width = slices.shape
    corners = [
        (z, y, x)
        for z in range(min(ONE_SLICE_IN, depth - 2) // 2, depth - 2, ONE_SLICE_IN)
        for y in range(0, height - SIZE + 1, SIZE)
        for x in range(0, width - SIZE + 1, SIZE)
    ]
    if not corners:
        raise InputError(f"a scan of {slices.shape} voxels holds no crop of 3x{SIZE}x{SIZE}")
    chosen = np.linspace(0, len(corners) - 1, min(count, len(corners))).round().astype(int)
    crops = [slices[z : z + 3, y : y + SIZE, x : x + SIZE] for z, y, x in np.array(corners)[chosen]]
    return torch.from_numpy(from_hounsfield(np.stack(crops), hyperparameters))


@torch.inference_mode()
def mean_bits(predict: Predictor, crops: Tensor, bits: int) -> float:
    """Mean bits per pixel of the targets of crops ``(N, 3, H, W)``."""
    total = 0.0
    for batch in crops.split(BATCH):
        above, target, below = batch.split(1, dim=1)
        total += len(batch) * float(bits_per_pixel(predict(above, target, below), target, bits))
    return total / len(crops)


def image_like(volume: Volume, slices: Slices) -> sitk.Image:
    """Convert slices to an image with the geometry of a volume."""
    image = sitk.GetImageFromArray(np.moveaxis(slices, 0, 2 - volume.axis))
    image.CopyInformation(volume.image)
    return image


def filtered_name(volume: Volume, amount: float) -> str:
    """Name of a filtered scan, such as ``scan-filter-0.6.nrrd``."""
    return f"{image_stem(Path(volume.name))}-filter{amount:+g}.nrrd"


def table(run: dict[str, Any]) -> str:
    """Table of a run in Markdown."""
    title = f"{run['scan']}, filter {run['filter']:g}, {run['pixels']:,} pixels"
    rows = [[name, f"{bits:.3f}"] for name, bits in run["bits_per_pixel"].items()]
    return f"{title}\n\n{markdown(['model', 'bits per pixel'], rows)}\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
