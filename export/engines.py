"""Engines for this machine, built once from a bundle's graphs and kept.

An engine is code for one GPU, driver and version of TensorRT. It is loaded only by the user who
built it, and only if all of these and the bundle are the same and the engine is unaltered;
otherwise it is rebuilt.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from pmtool.choices import Precision
from pmtool.export.precision import in_precision
from pmtool.export.profiles import MAX_WINDOWS, profiles
from pmtool.export.step import step_graph
from pmtool.export.tensorrt import build_engine, check_driver, logger, tensorrt
from pmtool.models.bundle import Bundle
from pmtool.system.cache_folder import cache_folder, own_folder
from pmtool.system.devices import Gpu
from pmtool.system.files import folder_lock, write_bytes, write_json
from pmtool.system.hashes import bytes_hash, json_hash

MANIFEST, LOCK = "manifest.json", "lock"
RECIPE = 3
"""Version of the way engines are built; raise it when the same graphs are built differently."""
_KEPT = ("engines", "errors")
_KEY_LENGTH = 32
_ALONE = threading.Lock()
"""Lock that lets one thread build at a time, even if each thread has its own GPU."""
_log = logging.getLogger("pmtool")


@dataclass(frozen=True)
class Target:
    """Everything that an engine depends on."""

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
        """Name for data that apply to all bundles and precisions on a machine."""
        return json_hash([self.gpu, self.driver, self.tensorrt])[:_KEY_LENGTH]


class Engines:
    """The engines of a bundle on a GPU.

    Parameters
    ----------
    bundle
        The model.
    gpu
        The GPU.
    precision
        Precision of the engines.
    max_windows
        Number of windows that engines take at once; engines for another number are rebuilt. By
        default that of the engines that exist, or else `MAX_WINDOWS`.

    Raises
    ------
    UsageError
        If TensorRT is not installed, the driver is too old, or the cache belongs to another user.
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
        """Return the engine of a graph, rebuilt if it is missing or altered.

        Raises
        ------
        UsageError, MemoryBudgetError
            If the engine cannot be built.
        OutputError
            If the engine cannot be stored.
        """
        with _ALONE:
            content = self._kept(graph) or self._built(graph)
            self.loaded[graph] = bytes_hash(content)
        return content

    def known_errors(self, graphs: Iterable[str], kernel: str) -> dict[str, Any]:
        """Return the recorded errors; empty if an engine of these graphs or the kernel has changed.

        ``kernel`` is the version of the kernel that generates pixels; empty if an engine does so.
        """
        manifest = self.manifest()
        same = manifest["kernel"] == kernel and all(map(self._kept, graphs))
        return manifest["errors"] if same else {}

    def note_errors(self, errors: Mapping[str, Mapping[str, float]], kernel: str) -> None:
        """Store the errors of the loaded engines and the kernel; a rebuilt engine discards them."""
        with folder_lock(self.folder / LOCK, wait=True):
            digests = self.manifest()["engines"]
            if self.loaded.items() <= digests.items():  # not replaced by another process
                self._write(digests, errors, kernel)

    def manifest(self) -> dict[str, Any]:
        """Return what is known about the engines in the folder: their digests, errors and kernel.

        All are empty if the engines are for another target or number of windows.
        """
        try:
            values = json.loads((self.folder / MANIFEST).read_bytes())
            most = int(values["max_windows"])
            if values["target"] == asdict(self.target) and self.max_windows in (None, most):
                stored = {key: dict(values[key]) for key in _KEPT}
                return {"max_windows": most, **stored, "kernel": str(values["kernel"])}
        except (OSError, LookupError, TypeError, ValueError):
            pass  # not a manifest of engines
        nothing: dict[str, Any] = {key: {} for key in _KEPT}
        return {"max_windows": self.max_windows or MAX_WINDOWS, **nothing, "kernel": ""}

    def _path(self, graph: str) -> Path:
        return self.folder / f"{graph}.engine"

    def _kept(self, graph: str) -> bytes:
        """Return the stored engine of a graph; empty if it is missing or altered."""
        path = self._path(graph)
        content = path.read_bytes() if path.is_file() else b""
        return content if self.manifest()["engines"].get(graph) == bytes_hash(content) else b""

    def _built(self, graph: str) -> bytes:
        """Build the engine of a graph, unless another process built it during the wait."""
        with folder_lock(self.folder / LOCK, wait=True):
            content = self._kept(graph)
            if not content:
                content = self._build(graph)
                write_bytes(content, self._path(graph))
                self._write(self.manifest()["engines"] | {graph: bytes_hash(content)}, {})
        return content

    def _write(
        self, engines: Mapping[str, str], errors: Mapping[str, Any], kernel: str = ""
    ) -> None:
        built_for = {"target": asdict(self.target), "max_windows": self.manifest()["max_windows"]}
        contents = {"engines": engines, "errors": errors, "kernel": kernel}
        write_json(built_for | contents, self.folder / MANIFEST)

    def _build(self, graph: str) -> bytes:
        _log.info("building the engine %s for %s", graph, self.target.gpu)
        timings = self.folder.parent / f"{self.target.machine}.timings"
        sizes = profiles(graph, self.bundle.hyperparameters, self.manifest()["max_windows"])
        build = build_engine(
            self.trt,
            graph,
            engine_graph(self.bundle, graph, self.target.precision),
            sizes,
            timings.read_bytes() if timings.is_file() else b"",
        )
        if build.timings:
            write_bytes(build.timings, timings)
        return build.engine


def engine_graph(bundle: Bundle, graph: str, precision: Precision) -> onnx.ModelProto:
    """Return a graph in the form from which engines are built.

    The graph's types have the precision, and a pixel graph is one step of four columns.
    """
    return in_precision(step_graph(onnx.load(bundle.graph(graph))), precision)
