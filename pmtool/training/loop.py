"""The loop over all steps, with log, validation, pictures, checkpoints and interruption."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from pmtool.network import PixelMiner
from pmtool.system.stages import Tell
from pmtool.system.units import duration
from pmtool.training.checkpoint import save_checkpoint
from pmtool.training.crops import Crops, Triplets
from pmtool.training.interruption import Interruption, leave_to_parent
from pmtool.training.log import Log
from pmtool.training.phases import Phase, phases
from pmtool.training.pictures import picture
from pmtool.training.selection import Split
from pmtool.training.trainer import Trainer

_log = logging.getLogger("pmtool")
_PICTURES = 4


class Loop:
    """Runs a trainer to its last step; only the first process writes to the run's folder.

    Parameters
    ----------
    trainer
        Trainer, at any step.
    split
        Scans for training and validation.
    folder
        Folder of the run.
    seconds
        Seconds that the run has already taken.
    tell
        Called with the current stage and the share that is done.
    """

    def __init__(
        self, trainer: Trainer, split: Split, folder: Path, seconds: float, tell: Tell
    ) -> None:
        self.trainer, self.folder, self.tell = trainer, folder, tell
        self.settings, self.fabric = trainer.settings, trainer.fabric
        self.scans, self.part = split.training, (self.fabric.global_rank, self.fabric.world_size)
        patches = self.settings.validation.patches
        self.validation = Crops(split.validation, self.settings, patches, self.part, fixed=True)
        self.log = Log(folder, trainer.step) if self.fabric.is_global_zero else None
        self._began = time.monotonic() - seconds
        self._lap = time.monotonic(), trainer.patches

    def run(self, workers: int) -> None:
        """Train up to the last step.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C, SIGTERM or SIGHUP; the current step is finished and saved.
        OutputError
            If the folder cannot be written.
        """
        if self.trainer.step == 0:
            self._save()
        with Interruption() as interruption:
            for phase in phases(self.settings):
                if self.trainer.step < phase.last:
                    self.trainer.enter(phase)
                    self._run(phase, workers, interruption)

    def _run(self, phase: Phase, workers: int, interruption: Interruption) -> None:
        for crops in self._loader(phase, workers):
            self.trainer.train_step(crops)
            validates = self._is_due(self.settings.validation.every)
            if validates or self._is_due(self.settings.validation.log_every):
                self._report(validates)
            if self._agreed(interruption.requested):
                self._save()
                self.fabric.barrier()  # the first process ends as soon as any other does
                _log.warning(f"stopped at step {self.trainer.step}; go on with --resume")
                raise KeyboardInterrupt

    def _loader(self, phase: Phase, workers: int) -> DataLoader[Triplets]:
        return DataLoader(
            Crops(self.scans, self.settings, phase.settings.patches, self.part),
            batch_size=None,
            sampler=range(self.trainer.step, phase.last),
            num_workers=workers,
            pin_memory=self.fabric.device.type == "cuda",
            worker_init_fn=leave_to_parent,
        )

    def _is_due(self, every: int) -> bool:
        step = self.trainer.step
        return step % every == 0 or step == self.trainer.phase.last

    def _agreed(self, requested: bool) -> bool:
        """Whether any process was asked to stop; several exchange this only at log steps."""
        if self.fabric.world_size == 1:
            return requested
        if not self._is_due(self.settings.validation.log_every):
            return False
        count = torch.tensor(float(requested), device=self.fabric.device)
        return bool(self.fabric.all_reduce(count, reduce_op="sum"))

    def _report(self, validates: bool) -> None:
        """Write a line of the log; if it is a validation, also a picture and a checkpoint."""
        figures = self.trainer.figures()
        step, patches, (before, first) = self.trainer.step, self.trainer.patches, self._lap
        rate = (patches - first) / (time.monotonic() - before)
        if validates:
            figures |= self.trainer.validate(self.validation)
        if self.log is not None:
            row = {
                "step": step,
                "patches": patches,
                "seconds": self._seconds(),
                "patches_per_second": rate,
                "learning_rate": self.trainer.learning_rate,
            }
            self.log.add({**row, **figures})
            if validates:
                self._draw(self.log)
                self._save()
        self._tell(figures["training_bits"], rate)
        self._lap = time.monotonic(), patches

    def _draw(self, log: Log) -> None:
        count = min(_PICTURES, len(self.validation.numbers))
        crops = [self.validation.crop(0, number) for number in range(count)]
        network = PixelMiner(self.settings.network)  # on the CPU, as the sampler's graphs are
        network.load_state_dict(self.trainer.result.state_dict())
        log.add_picture(picture(network.eval(), crops), self.trainer.step)

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint({**self.trainer.state(), "seconds": self._seconds()}, self.folder)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _tell(self, bits: float, rate: float) -> None:
        step, phase = self.trainer.step, self.trainer.phase
        left = (phase.last - step) * phase.settings.patches / rate
        alone = "encoder, " if phase.encoder_alone else ""
        self.tell(
            f"{alone}step {step} of {phase.last}: {bits:.3f} bits "
            f"per pixel, {rate:.3g} patches a second, {duration(left)} left",
            (step - phase.first) / phase.settings.steps,
        )
