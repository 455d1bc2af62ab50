"""Engines for this machine, built of a bundle's graphs once and kept.

An engine is code for one GPU, driver and version of TensorRT. It is loaded only by the user who has
built it, for the same of all these and for the same bundle, and only unaltered; else it is built
anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from pmtool.backends.devices import Gpu
from pmtool.backends.protocol import Precision
from pmtool.bundle import Bundle
from pmtool.cache_folder import cache_folder
from pmtool.errors import OutputError, UsageError
from pmtool.export.precision import in_precision
from pmtool.export.profiles import MAX_WINDOWS, profiles
from pmtool.export.step import step_graph
from pmtool.export.tensorrt import build_engine, check_driver, logger, tensorrt
from pmtool.files import write_bytes

MANIFEST = "manifest.json"
RECIPE = 1
"""Counts up when engines of the same graphs are to be built in another way."""
_KEPT = ("engines", "errors")
_KEY_LENGTH = 32
_ALONE = threading.Lock()
"""One thread builds, where each has a GPU of its own; what processes write appears whole."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What an engine depends on."""

    bundle: str
    gpu: str
    driver: str
    tensorrt: str
    precision: Precision
    max_windows: int
    recipe: int = RECIPE

    @property
    def key(self) -> str:
        """Name of the folder with the engines."""
        return _digest(json.dumps(asdict(self)).encode())[:_KEY_LENGTH]

    @property
    def machine(self) -> str:
        """Name of what holds for all bundles and precisions."""
        return _digest(json.dumps([self.gpu, self.driver, self.tensorrt]).encode())[:_KEY_LENGTH]


class Engines:
    """The engines of a bundle on a GPU.

    Raises
    ------
    UsageError
        If TensorRT is not installed, the driver too old, or the cache another user's.
    """

    def __init__(
        self, bundle: Bundle, gpu: Gpu, precision: Precision, max_windows: int = MAX_WINDOWS
    ) -> None:
        self.bundle, self.trt = bundle, tensorrt()
        check_driver(self.trt, gpu)
        self.log = logger(self.trt)
        self.target = Target(
            bundle=bundle.hash,
            gpu=f"{gpu.name}, compute capability {gpu.capability}",
            driver=gpu.driver,
            tensorrt=f"{self.trt.__name__} {self.trt.__version__}",
            precision=precision,
            max_windows=max_windows,
        )
        self.folder = own_folder(own_folder(cache_folder() / "engines") / self.target.key)

    def engine(self, graph: str) -> bytes:
        """The engine of a graph, built if it is not there as it was built.

        Raises
        ------
        UsageError, MemoryBudgetError
            If it cannot be built.
        OutputError
            If it cannot be kept.
        """
        path = self.folder / f"{graph}.engine"
        with _ALONE:
            content = path.read_bytes() if path.is_file() else b""
            if self.manifest()["engines"].get(graph) != _digest(content):
                content = self._build(graph)
                write_bytes(content, path)
                known = self.manifest()["engines"] | {graph: _digest(content)}
                self._write({"engines": known, "errors": {}})
        return content

    def note_errors(self, errors: Mapping[str, Mapping[str, float]]) -> None:
        """Keep what was found of the engines' accuracy, until one is built again."""
        self._write({"engines": self.manifest()["engines"], "errors": errors})

    def manifest(self) -> dict[str, Any]:
        """What is known of the engines in the folder; nothing if they are of another target."""
        try:
            values = json.loads((self.folder / MANIFEST).read_bytes())
            if values["target"] == asdict(self.target):
                return {"target": values["target"], **{key: dict(values[key]) for key in _KEPT}}
        except (OSError, LookupError, TypeError, ValueError):
            pass  # none of ours
        return {"target": asdict(self.target), **{key: {} for key in _KEPT}}

    def _write(self, kept: Mapping[str, Any]) -> None:
        content = json.dumps({"target": asdict(self.target), **kept}, indent=2)
        write_bytes(content.encode() + b"\n", self.folder / MANIFEST)

    def _build(self, graph: str) -> bytes:
        """Only the window graph has products with weights in float32 among those in half types."""
        _logger.info("building the engine %s for %s", graph, self.target.gpu)
        timings = self.folder.parent / f"{self.target.machine}.timings"
        sizes = profiles(graph, self.bundle.hyperparameters, self.target.max_windows)
        build = build_engine(
            self.trt,
            graph,
            engine_graph(self.bundle, graph, self.target.precision),
            sizes,
            tf32=graph == "window" and self.target.precision != "float32",
            timings=timings.read_bytes() if timings.is_file() else b"",
        )
        if build.timings:
            write_bytes(build.timings, timings)
        return build.engine


def engine_graph(bundle: Bundle, graph: str, precision: Precision) -> onnx.ModelProto:
    """A graph as engines are built of it: its precision in its types, four columns of pixels."""
    return in_precision(step_graph(onnx.load(bundle.graph(graph))), precision)


def own_folder(folder: Path) -> Path:
    """Make a folder that nobody else can write to; raises `UsageError` if it is no such."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}; set PMTOOL_CACHE to another folder"
        ) from error
    if hasattr(os, "getuid") and (
        status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise UsageError(
            f"others can write to {folder}, and engines are code: set PMTOOL_CACHE to a folder "
            "of your own"
        )
    return folder


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
