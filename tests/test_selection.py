"""Which engine is taken, on which device; what is asked for and cannot be had is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pmtool.backends import devices, selection
from pmtool.backends.devices import Gpu, find_devices, find_gpu, free_gpu_memory
from pmtool.backends.protocol import Precision
from pmtool.backends.selection import choose_engine
from pmtool.errors import UsageError


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver tells of two GPUs with 70 GiB free."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        """#!/bin/sh
case "$*" in
    *uuid*) echo GPU-1; echo GPU-2;;
    *memory.free*) echo 71680;;
    *name*) echo NVIDIA H200;;
    *compute_cap*) echo 9.0;;
    *driver_version*) echo 580.65.06;;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", list)


class Works:
    """An engine's module on a machine where it works."""

    def check(self, devices: tuple[str, ...], precision: Precision) -> None:
        """It works."""


class Fails:
    """An engine's module on a machine where it does not work."""

    def check(self, devices: tuple[str, ...], precision: Precision) -> None:
        raise UsageError("the driver is too old: update it")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu() -> None:
    engine = choose_engine()
    assert engine == ("onnxruntime-cpu", ("cpu",), "float32")
    assert choose_engine(device="cpu") == engine
    assert choose_engine("torch") == ("torch", ("cpu",), "float32")
    assert choose_engine("torch", precision="bfloat16").precision == "bfloat16"


@pytest.mark.usefixtures("two_gpus")
def test_devices_of_a_machine_with_gpus() -> None:
    assert find_devices("auto") == find_devices("cuda") == ("cuda:0", "cuda:1")
    assert find_devices("cuda:1") == ("cuda:1",)
    assert find_devices("cpu") == ("cpu",)
    assert free_gpu_memory("cuda:1") == 70 << 30
    assert find_gpu("cuda:1") == Gpu("NVIDIA H200", "9.0", "580.65.06")
    with pytest.raises(UsageError, match=r"cuda:2 is not there, this machine has 2 NVIDIA GPUs"):
        find_devices("cuda:2")


@pytest.mark.usefixtures("two_gpus")
def test_the_first_engine_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"tensorrt": Fails(), "torch": Works(), "onnxruntime-cpu": Works()}
    monkeypatch.setattr(selection, "_module", modules.__getitem__)
    assert choose_engine() == ("torch", ("cuda:0", "cuda:1"), "bfloat16")
    assert choose_engine(device="cuda:1") == ("torch", ("cuda:1",), "bfloat16")
    assert choose_engine(device="cpu") == ("onnxruntime-cpu", ("cpu",), "float32")
    assert choose_engine("onnxruntime-cpu").devices == ("cpu",)
    with pytest.raises(UsageError, match="the driver is too old"):
        choose_engine("tensorrt")


@pytest.mark.usefixtures("two_gpus")
def test_auto_falls_back_to_the_processor_and_cuda_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = dict.fromkeys(selection.BACKENDS, Fails()) | {"onnxruntime-cpu": Works()}
    monkeypatch.setattr(selection, "_module", modules.__getitem__)
    assert choose_engine() == ("onnxruntime-cpu", ("cpu",), "float32")
    with pytest.raises(UsageError, match="the driver is too old"):
        choose_engine(device="cuda")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda"}, "cuda is not there, this machine has no NVIDIA GPU"),
        ({"device": "cuda:7"}, "use --device cpu"),
        ({"device": "gpu"}, "there is no device 'gpu': give auto, cpu, cuda or cuda:N"),
        ({"backend": "jax"}, "there is no backend 'jax': choose one of tensorrt, torch"),
        ({"backend": "tensorrt"}, "cuda is not there"),
        ({"backend": "tensorrt", "device": "cpu"}, "tensorrt does not run on cpu"),
        ({"precision": "float64"}, "there is no precision 'float64'"),
        (
            {"backend": "onnxruntime-cpu", "precision": "float16"},
            "onnxruntime-cpu computes in float32, not float16: leave --precision out",
        ),
    ],
)
def test_what_cannot_be_had(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_engine(**arguments)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--device cuda", "is not there, this machine has no NVIDIA GPU"),
        ("--device gpu", "there is no device"),
        ("--backend jax", "there is no backend"),
        ("--backend tensorrt --device cpu", "tensorrt does not run on cpu"),
        ("--precision half", "there is no precision"),
        ("--backend onnxruntime-cpu --precision bfloat16", "computes in float32, not bfloat16"),
    ],
)
def test_the_command_refuses(
    refused: Callable[..., None], ct_path: Path, tmp_path: Path, options: str, message: str
) -> None:
    out = tmp_path / "out.nrrd"
    refused(2, message, "resample", ct_path, out, "--spacing", 1.25, *options.split())


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"torch needs torch, safetensors: pip install 'pmtool\["):
        choose_engine("torch", "cpu")


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_that_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho GPU-1\n")
    with pytest.raises(UsageError, match=r"nvidia-smi does not tell the memory.free of cuda:0"):
        free_gpu_memory("cuda:0")
