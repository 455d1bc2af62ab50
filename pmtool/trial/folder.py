"""A trial on disk: the plans, the images and the secrets."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pmtool.arrays import Slice
from pmtool.errors import InputError
from pmtool.evaluation.methods import PIXELMINER
from pmtool.evaluation.scan import ScanSlice
from pmtool.evaluation.scoring import REFERENCE
from pmtool.system.files import write_json, writing
from pmtool.system.versions import own_version
from pmtool.trial.design import Item, Plan

TRIAL, IMAGES, SECRETS, DATABASE = "trial.json", "images", "secrets.json", "answers.sqlite"


@dataclass(frozen=True)
class Trial:
    """A trial made by `pmtool trial prepare`.

    Attributes
    ----------
    folder
        Folder of the trial.
    methods
        Names of the methods that are compared with PixelMiner.
    slices
        Pool of slices that items refer to.
    plans
        Plans of the participants in order of arrival; after the last plan, the first is used again.
    provenance
        Scans, methods, seed and version, as plain JSON values.
    """

    folder: Path
    methods: list[str]
    slices: list[ScanSlice]
    plans: list[Plan]
    provenance: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Trial:
        """Read a trial; raises `InputError`."""
        try:
            content = json.loads((folder / TRIAL).read_text())
            return cls(
                folder,
                content["methods"],
                [ScanSlice(*values) for values in content["slices"]],
                [[Item(*values) for values in plan] for plan in content["plans"]],
                content["provenance"],
            )
        except OSError as error:
            raise InputError(
                f"{folder} holds no trial; make one with pmtool trial prepare"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / TRIAL} is damaged; prepare the trial anew") from error

    def save(self) -> None:
        """Write everything but the images, the secrets first and the plans last.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        write_secrets(self.folder)
        content = {
            "pmtool": own_version(),
            "methods": self.methods,
            "slices": self.slices,
            "plans": self.plans,
            "provenance": self.provenance,
        }
        write_json(content, self.folder / TRIAL)

    @property
    def database(self) -> Path:
        """Path of the database of participants and their answers."""
        return self.folder / DATABASE

    def plan(self, participant: int) -> Plan:
        """Plan of a participant, numbered from 1."""
        return self.plans[(participant - 1) % len(self.plans)]

    def image_path(self, number: int, method: str) -> Path:
        """Path of a slice of the pool, as acquired or as made by a method."""
        return self.folder / IMAGES / f"{number:04d}-{method}.npy"

    def images(self, item: Item) -> Slice:
        """Load the reference, left and right slice of an item, ``(3, H, W)`` in HU.

        Raises
        ------
        InputError
            If an image is missing or damaged.
        """
        pair = (PIXELMINER, item.other) if item.side == "left" else (item.other, PIXELMINER)
        try:
            return np.stack([np.load(self.image_path(item.slice, x)) for x in (REFERENCE, *pair)])
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"an image in {self.folder / IMAGES} is missing or damaged; copy the folder again, "
                "or prepare the trial anew"
            ) from error

    def check_images(self) -> None:
        """Raise `InputError` unless all images that participants will see can be loaded."""
        for item in {item for plan in self.plans for item in plan}:
            self.images(item)


class Secrets(NamedTuple):
    """Secrets of a trial; anyone who has them can sign cookies and see the results.

    Attributes
    ----------
    session_key
        Key that signs cookies.
    administration
        Token of the administrator.
    """

    session_key: str
    administration: str


def load_secrets(folder: Path) -> Secrets:
    """Read the trial's secrets; raises `InputError`."""
    path = folder / SECRETS
    try:
        return Secrets(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is missing or damaged; prepare the trial anew") from error


def write_secrets(folder: Path) -> None:
    """Draw secrets and write them to a file that only its owner can read; raises `OutputError`."""
    trial_secrets = Secrets(secrets.token_urlsafe(32), secrets.token_urlsafe(16))
    path = folder / SECRETS
    with writing(path):
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(trial_secrets._asdict(), file, indent=1)
