"""Engines that pass their check and do not work: the next is taken, or what was asked for fails."""

from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmtool.backends import selection
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.selection import Engine
from pmtool.choices import Precision
from pmtool.cli.console import run_command
from pmtool.errors import MemoryBudgetError, ModelError, OutputError, PmtoolError, UsageError
from pmtool.interface.protocol import Arrays, Backend, Program
from pmtool.main import cli
from pmtool.models.bundle import DEFAULT, Bundle
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.sampler import Planner
from pmtool.sampling.startup import start
from pmtool.system import devices

pytestmark = pytest.mark.skipif(not DEFAULT.is_dir(), reason="the default model is not there")

GPUS = ("cuda:0", "cuda:1")
ON_CPU = Engine("onnxruntime-cpu", ("cpu",), "float32")


class Broken(OnnxRuntimeBackend):
    """An engine that loads and whose graph does not run; the CPU stands in for a GPU."""

    def __init__(self, bundle: Bundle, graph: str, error: Exception) -> None:
        super().__init__(bundle)
        self.graph, self.error = graph, error

    def bind(self, graph: str, arrays: Arrays) -> Program:
        if graph == self.graph:
            raise self.error
        return super().bind(graph, arrays)


class NotANumber(OnnxRuntimeBackend):
    """An engine of which nothing but NaN comes."""

    def bind(self, graph: str, arrays: Arrays) -> Program:
        class Spoilt:
            def run(self) -> None:
                program.run()
                if "parameters" in arrays:
                    arrays["parameters"][:] = np.nan

        program = super().bind(graph, arrays)
        return Spoilt()


def engine(name: str, load: Callable[[Bundle, str], Backend]) -> Engine:
    """One on two GPUs."""

    class Loading(Engine):
        def load(self, bundle: Bundle, device: str, threads: int) -> Backend:
            return load(bundle, device)

    return Loading(name, GPUS, "float16")


def raising(error: Exception) -> Callable[[Bundle, str], Backend]:
    def load(bundle: Bundle, device: str) -> Backend:
        raise error

    return load


def presuming(bundle: Bundle, device: str) -> Backend:
    """One that takes what its library says for a lack of memory."""
    try:
        raise RuntimeError("cuDNN was unable to find an engine")
    except RuntimeError as error:
        raise MemoryBudgetError("out of memory; give a smaller --batch") from error


WORKS = engine("torch", lambda bundle, device: OnnxRuntimeBackend(bundle))


def test_an_engine_that_works_is_loaded_on_every_gpu(bundle: Bundle) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, loaded = start([WORKS, ON_CPU], bundle, 1)
    assert found is WORKS
    assert tuple(loaded) == GPUS


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (raising(UsageError("the engine row1 cannot be loaded")), "the engine row1 cannot be load"),
        (raising(OutputError("the cache is full")), "the cache is full"),
        (
            raising(RuntimeError("CUDA error: no kernel image\nsecond line")),
            "does not work on cuda:0, RuntimeError: CUDA error: no kernel image; use another",
        ),
        (presuming, "RuntimeError: cuDNN was unable to find an engine; use another --backend"),
        (
            lambda bundle, device: Broken(bundle, "known3", UsageError("no CUDA compiler")),
            "no CUDA compiler",
        ),
        (
            lambda bundle, device: Broken(bundle, "window", OSError("libcudnn.so.9 is missing")),
            "OSError: libcudnn.so.9 is missing; use another --backend",
        ),
        (
            lambda bundle, device: NotANumber(bundle),
            "computes no numbers on cpu in float32: use another --precision or --backend",
        ),
    ],
    ids=["refused", "no disk", "library", "presumed", "kernels", "graph", "NaN"],
)
def test_an_engine_that_fails(
    bundle: Bundle, load: Callable[[Bundle, str], Backend], reason: str
) -> None:
    """The next one is taken, with one warning; where there is none, its error stands."""
    failing = engine("tensorrt", load)
    with pytest.warns(UserWarning, match="cannot be used") as told:
        found, loaded = start([failing, ON_CPU], bundle, 1)
    assert (found, loaded) == (ON_CPU, {})
    (message,) = (str(warning.message) for warning in told)
    assert message.startswith("tensorrt cannot be used (")
    assert message.endswith("), so that onnxruntime-cpu on cpu is taken")
    assert reason in message
    assert "\n" not in message
    with pytest.raises((UsageError, OutputError)) as raised:
        start([failing], bundle, 1)
    assert reason in str(raised.value)


def test_the_graphs_of_the_mode_are_tried(bundle: Bundle) -> None:
    failing = engine("torch", lambda bundle, device: Broken(bundle, "mean2", OSError("no mean")))
    assert start([failing, ON_CPU], bundle, 1)[0] is failing
    with pytest.warns(UserWarning, match="OSError: no mean"):
        found, _ = start([failing, ON_CPU], bundle, 1, "mean")
    assert found is ON_CPU


def test_one_of_two_gpus_that_fails_is_enough(bundle: Bundle) -> None:
    def load(bundle: Bundle, device: str) -> Backend:
        if device == "cuda:1":
            raise UsageError("too old a GPU")
        return OnnxRuntimeBackend(bundle)

    with pytest.warns(UserWarning, match="too old a GPU"):
        found, loaded = start([engine("tensorrt", load), WORKS], bundle, 1)
    assert found is WORKS
    assert tuple(loaded) == GPUS


def test_the_memory_of_an_engine_that_fails_is_free_for_the_next(bundle: Bundle) -> None:
    """At once, without a collection of cycles, of which a GPU knows nothing."""
    broken: list[weakref.ref[Backend]] = []

    class NoLibrary(OnnxRuntimeBackend):
        def bind(self, graph: str, arrays: Arrays) -> Program:
            raise OSError("libcudnn.so.9 is missing")

    def fail(bundle: Bundle, device: str) -> Backend:
        made = NoLibrary(bundle)
        broken.append(weakref.ref(made))
        return made

    def follow(bundle: Bundle, device: str) -> Backend:
        assert {reference() for reference in broken} == {None}
        return OnnxRuntimeBackend(bundle)

    with pytest.warns(UserWarning, match="libcudnn"):
        found, _ = start([engine("torch", fail), engine("tensorrt", follow)], bundle, 1)
    assert found.backend == "tensorrt"


def test_several_that_fail_are_told_of_in_one_sentence(bundle: Bundle) -> None:
    failing = [engine(name, raising(UsageError(f"no {name}"))) for name in ("torch", "tensorrt")]
    with pytest.warns(UserWarning, match="cannot be used") as told:
        start([*failing, ON_CPU], bundle, 1)
    assert [str(warning.message) for warning in told] == [
        "torch cannot be used (no torch) and tensorrt cannot be used (no tensorrt), so that "
        "onnxruntime-cpu on cpu is taken"
    ]
    with pytest.raises(UsageError, match="no torch"):
        start(failing, bundle, 1)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (MemoryBudgetError("give a smaller --batch"), MemoryBudgetError, "end other programs"),
        (RuntimeError("CUDA out of memory. Tried"), MemoryBudgetError, "end other programs"),
        (ModelError("the model's weights are not there"), ModelError, "are not there"),
    ],
)
def test_what_is_not_the_engines_fault_ends_the_run(
    bundle: Bundle, error: Exception, expected: type[PmtoolError], words: str
) -> None:
    """No other engine has more memory or another model; a single window has no smaller batch."""
    with pytest.raises(expected, match=words):
        start([engine("torch", raising(error)), ON_CPU], bundle, 1)


class Checked:
    """The module of an engine that passes its check."""

    def __init__(self, load: Callable[[Bundle, str], Backend]) -> None:
        self._load = load

    def check(self, devices: tuple[str, ...], precision: Precision) -> None:
        """It seems to be there."""

    def load(self, bundle: Bundle, device: str, precision: Precision, threads: int) -> Backend:
        return self._load(bundle, device)


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On which TensorRT's engine cannot be read, and others do not seem to work."""
    own = selection.engine_module

    def module(name: str) -> Any:
        if name == "onnxruntime-cpu":
            return own(name)
        if name != "tensorrt":
            raise UsageError(f"{name} is not installed")
        return Checked(raising(UsageError("the engine window cannot be loaded; use another")))

    monkeypatch.setattr(devices, "gpus", lambda: ["0"])
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setattr(selection, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(selection, "engine_module", module)


@pytest.mark.usefixtures("one_gpu")
def test_the_command_goes_on_and_tells_what_ran(
    ct_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.nrrd"
    assert run_command(cli, ["resample", str(ct_path), str(out), "--spacing", "1.25"]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "tensorrt" in line]
    assert told == [
        "warning: tensorrt cannot be used (the engine window cannot be loaded; use another), so "
        "that onnxruntime-cpu on cpu is taken"
    ]
    sidecar = json.loads(out.with_suffix(".nrrd.json").read_text())
    ran = {name: sidecar[name] for name in ("backend", "device", "precision")}
    assert ran == {"backend": "onnxruntime-cpu", "device": "cpu", "precision": "float32"}
    assert sidecar["options"]["backend"] == "onnxruntime-cpu"


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("choice", ["--device=cuda", "--device=cuda:0", "--backend=tensorrt"])
def test_the_command_refuses_what_was_asked_for(
    refused: Callable[..., None], ct_path: Path, tmp_path: Path, choice: str
) -> None:
    out = tmp_path / "out.nrrd"
    refused(2, "cannot be loaded", "resample", ct_path, out, "--spacing", 1.25, choice)


@pytest.mark.usefixtures("one_gpu")
def test_an_estimate_loads_nothing(bundle: Bundle) -> None:
    planner = Planner(bundle, SamplerOptions())
    assert planner.engine == ("tensorrt", ("cuda:0",), "bfloat16")
