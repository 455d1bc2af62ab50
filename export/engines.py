"""Engines for this machine, built of a bundle's graphs once and kept.

An engine is code for one GPU, driver and version of TensorRT. It is loaded only by the user who has
built it, for the same of all these and for the same bundle, and only unaltered; else it is built
anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from pmtool.export.precision import in_precision
from pmtool.export.profiles import MAX_WINDOWS, profiles
from pmtool.export.step import step_graph
from pmtool.export.tensorrt import build_engine, check_driver, logger, tensorrt
from pmtool.interface.protocol import Precision
from pmtool.models.bundle import Bundle
from pmtool.system.cache_folder import cache_folder, own_folder
from pmtool.system.devices import Gpu
from pmtool.system.files import alone_in, write_bytes
from pmtool.system.hashes import json_hash

MANIFEST, LOCK = "manifest.json", "lock"
RECIPE = 1
"""Counts up when engines of the same graphs are to be built in another way."""
_KEPT = ("engines", "errors")
_KEY_LENGTH = 32
_ALONE = threading.Lock()
"""One thread builds, where each has a GPU of its own."""
_log = logging.getLogger("pmtool")


@dataclass(frozen=True)
class Target:
    """What an engine depends on."""

    bundle: str
    gpu: str
    driver: str
    tensorrt: str
    precision: Precision
    recipe: int = RECIPE

    @property
    def key(self) -> str:
        """Name of the folder with the engines."""
        return json_hash(asdict(self))[:_KEY_LENGTH]

    @property
    def machine(self) -> str:
        """Name of what holds for all bundles and precisions."""
        return json_hash([self.gpu, self.driver, self.tensorrt])[:_KEY_LENGTH]


class Engines:
    """The engines of a bundle on a GPU.

    Parameters
    ----------
    max_windows
        Windows that engines take at once: those for another number are rebuilt. By default
        that of existing engines, or `MAX_WINDOWS`.

    Raises
    ------
    UsageError
        If TensorRT is not installed, the driver too old, or the cache another user's.
    """

    def __init__(
        self, bundle: Bundle, gpu: Gpu, precision: Precision, max_windows: int | None = None
    ) -> None:
        self.bundle, self.trt, self.max_windows = bundle, tensorrt(), max_windows
        check_driver(self.trt, gpu)
        self.log = logger(self.trt)
        self.target = Target(
            bundle=bundle.hash,
            gpu=f"{gpu.name}, compute capability {gpu.capability}",
            driver=gpu.driver,
            tensorrt=f"{self.trt.__name__} {self.trt.__version__}",
            precision=precision,
        )
        self.loaded: dict[str, str] = {}
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
        with _ALONE:
            content = self._kept(graph) or self._built(graph)
            self.loaded[graph] = _digest(content)
        return content

    def note_errors(self, errors: Mapping[str, Mapping[str, float]]) -> None:
        """Keep what was found of the loaded engines' accuracy, until one is built again."""
        with alone_in(self.folder / LOCK, wait=True):
            known = self.manifest()["engines"]
            if self.loaded.items() <= known.items():  # or another process has replaced them
                self._write(known, errors)

    def manifest(self) -> dict[str, Any]:
        """What is known of the engines in the folder; nothing if they are not those asked for."""
        try:
            values = json.loads((self.folder / MANIFEST).read_bytes())
            most = int(values["max_windows"])
            if values["target"] == asdict(self.target) and self.max_windows in (None, most):
                return {"max_windows": most, **{key: dict(values[key]) for key in _KEPT}}
        except (OSError, LookupError, TypeError, ValueError):
            pass  # none of ours
        return {"max_windows": self.max_windows or MAX_WINDOWS, **{key: {} for key in _KEPT}}

    def _path(self, graph: str) -> Path:
        return self.folder / f"{graph}.engine"

    def _kept(self, graph: str) -> bytes:
        """The engine of a graph as it was built; nothing if it is not there."""
        path = self._path(graph)
        content = path.read_bytes() if path.is_file() else b""
        return content if self.manifest()["engines"].get(graph) == _digest(content) else b""

    def _built(self, graph: str) -> bytes:
        """The engine of a graph, built now or by another process while this one waited its turn."""
        with alone_in(self.folder / LOCK, wait=True):
            content = self._kept(graph)
            if not content:
                content = self._build(graph)
                write_bytes(content, self._path(graph))
                self._write(self.manifest()["engines"] | {graph: _digest(content)}, {})
        return content

    def _write(self, engines: Mapping[str, str], errors: Mapping[str, Any]) -> None:
        known = {"target": asdict(self.target), "max_windows": self.manifest()["max_windows"]}
        content = json.dumps({**known, "engines": engines, "errors": errors}, indent=2)
        write_bytes(content.encode() + b"\n", self.folder / MANIFEST)

    def _build(self, graph: str) -> bytes:
        """Only the window graph has products with weights in float32 among those in half types."""
        _log.info("building the engine %s for %s", graph, self.target.gpu)
        timings = self.folder.parent / f"{self.target.machine}.timings"
        sizes = profiles(graph, self.bundle.hyperparameters, self.manifest()["max_windows"])
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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
