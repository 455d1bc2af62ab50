"""The log of a run: lines of figures, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from pmtool.errors import OutputError
from pmtool.images.display import png
from pmtool.system.files import write_bytes
from pmtool.system.outputs import make_folder
from pmtool.training.record import LOG

COLUMNS = (
    "step",
    "patches",
    "seconds",
    "patches_per_second",
    "learning_rate",
    "gradient_norm",
    "training_bits",
    "training_midpoint_bits",
    "validation_bits",
    "validation_midpoint_bits",
    "validation_midpoint_mae_hu",
)


class Log:
    """The log, continued after ``step``; lines that a killed run wrote after its checkpoint go.

    Fabric's own CSV logger cannot continue a file.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.samples = folder / LOG, folder / "samples"
        before = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        lines = [line for line in before[1:] if line.endswith("\n")]
        kept = [line for line in lines if int(line.split(",", 1)[0]) <= step]
        write_bytes("".join([",".join(COLUMNS) + "\n", *kept]).encode(), self.path)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """Add a line of figures by `COLUMNS`, missing ones empty; raises `OutputError`."""
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(_brief(row))
            for name, value in row.items():
                self.board.add_scalar(name, value, int(row["step"]))
            self.board.flush()
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def add_picture(self, picture: Image.Image, step: int) -> None:
        """Add a picture of samples as a separate file; raises `OutputError`."""
        make_folder(self.samples)
        write_bytes(png(picture), self.samples / f"{step:07d}.png")
        try:
            self.board.add_image("samples", np.asarray(picture), step, dataformats="HW")
            self.board.flush()
        except OSError as error:
            folder = self.board.log_dir
            raise OutputError(f"{folder} cannot be written: {error.strerror}") from error


def _brief(row: dict[str, float]) -> dict[str, str]:
    """Format integers in full and other figures with six significant digits."""
    return {name: str(x) if isinstance(x, int) else f"{x:.6g}" for name, x in row.items()}
