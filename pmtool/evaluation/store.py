"""Scores kept in files, so that adding a method does not repeat the scoring of earlier ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pmtool.evaluation import texture
from pmtool.evaluation.scan import ThinScan
from pmtool.evaluation.scoring import MEASURED_BY, VERSION, Scores
from pmtool.system.files import write_json
from pmtool.system.hashes import json_hash
from pmtool.system.versions import package_version


class Store:
    """A folder with a file of scores for every slice and method; NaN is kept in its JSON.

    Scores that were computed by other versions of `MEASURED_BY` are not used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = [package_version(package) for package in MEASURED_BY]

    def get(self, scan: ThinScan, index: int, identity: dict[str, Any]) -> Scores | None:
        """Scores of a slice that a method made; None if they are missing or damaged."""
        try:
            return Scores(**json.loads(self._path(scan, index, identity).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, scan: ThinScan, index: int, identity: dict[str, Any], scores: Scores) -> None:
        """Store scores; raises `OutputError` if they cannot be written."""
        write_json(scores._asdict(), self._path(scan, index, identity))

    def _path(self, scan: ThinScan, index: int, identity: dict[str, Any]) -> Path:
        key = {
            "version": VERSION,
            "packages": self.versions,
            "texture": texture.is_available(),
            "scan": scan.digest,
            "mask": scan.mask_digest,
            "slice": index,
            **identity,
        }
        return self.folder / f"{json_hash(key)[:32]}.json"
