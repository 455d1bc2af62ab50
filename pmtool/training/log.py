"""The log of a run: lines of figures, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from pmtool.errors import InputError
from pmtool.images.display import png
from pmtool.system.files import write_bytes, writing
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
_HEADER = ",".join(COLUMNS) + "\n"


class Log:
    """The log, continued after ``step``; lines that a killed run wrote later are dropped.

    Fabric's own CSV logger cannot continue a file.

    Raises
    ------
    InputError
        If the log to be continued is damaged or has other columns.
    OutputError
        If the log cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.samples = folder / LOG, folder / "samples"
        lines = _lines(self.path, step) if self.path.exists() else []
        write_bytes("".join([_HEADER, *lines]).encode(), self.path)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """Add a line of figures by `COLUMNS`, leaving missing ones empty; raises `OutputError`."""
        with writing(self.path):
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(_brief(row))
            for name, value in row.items():
                self.board.add_scalar(name, value, int(row["step"]))
            self.board.flush()

    def add_picture(self, picture: Image.Image, step: int) -> None:
        """Add a picture of samples as a separate file; raises `OutputError`."""
        make_folder(self.samples)
        write_bytes(png(picture), self.samples / f"{step:07d}.png")
        with writing(self.board.log_dir):
            self.board.add_image("samples", np.asarray(picture), step, dataformats="HW")
            self.board.flush()


def _lines(path: Path, step: int) -> list[str]:
    """The whole lines of a log up to a step, without the header; raises `InputError`."""
    try:
        header, *lines = path.read_text().splitlines(keepends=True)
        whole_lines = [x for x in lines if x.endswith("\n") and int(x.split(",", 1)[0]) <= step]
    except ValueError as error:  # also for text that is not UTF-8
        raise InputError(f"{path} is damaged: restore it, or move it away") from error
    if header != _HEADER:
        raise InputError(f"{path} has other columns than this version writes: move it away")
    return whole_lines


def _brief(row: dict[str, float]) -> dict[str, str]:
    """Format integers in full and other figures with six significant digits."""
    return {name: str(x) if isinstance(x, int) else f"{x:.6g}" for name, x in row.items()}
