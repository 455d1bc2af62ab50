"""The kernels as a library for the CPU, and rows of pixels to run them on."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.backends.torch import TorchProgram
from pmtool.graphs.pixel import PixelGraph, pixel_weights
from pmtool.interface.layout import Layout
from pmtool.kernels import cpu
from pmtool.kernels.packing import Weights
from pmtool.models.hyperparameters import LEVELS, Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "kernels"
Arrays = dict[str, Float32s]


class EmulatedLauncher:
    """The kernels on the CPU, a `Launcher`; see emulation.h."""

    def __init__(self, library: ctypes.CDLL, shared_limit: int = 227 * 1024) -> None:
        self.library, self.shared_limit, self.multiprocessors = library, shared_limit, 2

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, words: Sequence[int]
    ) -> None:
        arguments = (ctypes.c_uint64 * len(words))(*words)
        function = self.library[f"launch_{kernel}"]
        function(blocks, threads, ctypes.c_uint64(shared), arguments)

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()

    def allocate(self, *shape: int) -> Float32s:
        return np.full(shape, np.nan, np.float32)

    def keep(self, values: NDArray[Any]) -> Float32s:
        return np.frombuffer(values.tobytes(), np.float32).copy()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ctypes.CDLL]:
    """Compile a source with options, without warnings, and load it as a library."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernels for the CPU")

    def run(source: Path, *options: str) -> ctypes.CDLL:
        path = tmp_path_factory.mktemp(source.stem) / "compiled.so"
        usual = ["-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, *usual, *options, "-o", str(path), str(source)], check=True)
        return ctypes.CDLL(str(path))

    return run


@pytest.fixture(scope="session")
def library(compiled: Callable[..., ctypes.CDLL]) -> ctypes.CDLL:
    """All kernels and device functions, compiled as C++."""
    options = "-ffp-contract=off", "-Wno-unknown-pragmas", f"-I{SOURCES}", f"-I{HERE}"
    return compiled(HERE / "emulated.cpp", *options)


@pytest.fixture
def cpu_library() -> ctypes.CDLL:
    """The loops on the CPU, as they were compiled at the installation."""
    found = cpu.library()
    if found is None:
        pytest.skip("no compiled loops: install a C++ compiler and then pmtool again")
    return found


@pytest.fixture
def launcher(library: ctypes.CDLL) -> EmulatedLauncher:
    """The shared memory of an H100."""
    return EmulatedLauncher(library)


@pytest.fixture
def emulated(library: ctypes.CDLL) -> Callable[..., EmulatedLauncher]:
    """Makes launchers with so much shared memory."""
    return partial(EmulatedLauncher, library)


@pytest.fixture
def row_case() -> type[RowCase]:
    """`RowCase`."""
    return RowCase


class RowCase:
    """A pixel graph of a random network and the arrays of a row that it is bound to.

    Lines, shares and mixtures are random, as if there had been columns before.
    """

    def __init__(
        self, hyperparameters: Hyperparameters, graph: str, lanes: int, groups: int = 4
    ) -> None:
        self.hyperparameters, self.graph = hyperparameters, graph
        self.chooser, self.depth = graph[:-1], int(graph[-1])
        torch.manual_seed(0)
        network = PixelMiner(hyperparameters).eval().requires_grad_(False)
        for name, parameter in network.named_parameters():
            if name.endswith("original0"):  # the magnitude of a normalised weight
                parameter.mul_(1.5)
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
        self.network = folded_network(hyperparameters, folded_state(network))
        self.lanes, self.groups = lanes, groups

    def by_torch(self) -> Arrays:
        """All arrays after PyTorch's graph has run on them."""
        arrays = self.arrays()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        graph = PixelGraph(self.network, self.depth, self.chooser)
        TorchProgram(graph, tensors, nullcontext).run()
        return arrays

    @property
    def weights(self) -> Weights:
        return {name: tensor.numpy() for name, tensor in pixel_weights(self.network).items()}

    def arrays(self) -> Arrays:
        """The same inputs every time, and outputs that are not yet written."""
        rng, hp = np.random.default_rng(1), self.hyperparameters
        layout = Layout(hp)
        arrays: dict[str, NDArray[Any]] = {}
        for line in layout.lines("h", self.depth):
            for part in ("before2", "before1"):
                values = rng.normal(0, 0.5, (self.lanes, line.channels))
                arrays[f"{line.name}_{part}"] = values
            arrays[f"{line.name}_last"] = self._columns(line.level, line.channels)
        for level in range(self.depth):
            channels = sum(layout.shares(level))
            values = rng.normal(0, 0.5, self._columns(level, channels).shape)
            arrays[f"h_shares{level}"] = values
        for level in range(self.depth - 1):
            arrays[f"h{level}_carry_next"] = self._columns(level, hp.channels)
        if self.depth < LEVELS:
            level = self.depth - 1
            values = rng.normal(0, 0.5, self._columns(level, hp.channels).shape)
            arrays[f"h{level}_carry"] = values
        arrays["previous"] = rng.normal(0, 1, (self.lanes, 1))
        arrays |= self._mixture(rng)
        for name, channels in (("pixels", 1), ("residuals", 1), ("parameters", 3 * hp.mixtures)):
            arrays[name] = self._columns(0, channels)
        return {name: np.ascontiguousarray(x, np.float32) for name, x in arrays.items()}

    def _mixture(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        shape, outer = (self.groups, 4, self.lanes), self.hyperparameters.outer_mixtures
        parts = [
            rng.normal(0, 1, (*shape, outer)),
            rng.normal(0, 0.3, (*shape, outer)),
            np.exp(rng.uniform(1, 6, (*shape, outer))),
            rng.normal(0, 0.3, (*shape, 1)),
            rng.uniform(-5, -2, (*shape, 1)),
        ]
        tails = rng.uniform(-0.5, 0.5, (*shape, 1))
        return {"mixture": np.concatenate(parts, axis=-1), "tails": tails}

    def _columns(self, level: int, channels: int) -> Float32s:
        return np.full((self.groups, 4 >> level, self.lanes, channels), np.nan, np.float32)
