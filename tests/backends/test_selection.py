"""Which engine is taken, on which device; what is asked for and cannot be had is an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pmtool.backends import selection
from pmtool.backends.selection import choose_engine
from pmtool.choices import BACKENDS, Precision
from pmtool.errors import UsageError
from pmtool.system import devices, extras
from pmtool.system.devices import (
    UNTOLD_MEMORY,
    Gpu,
    find_devices,
    find_gpu,
    free_gpu_memory,
    gpus,
    has_bfloat16,
)


@pytest.fixture
def two_gpus(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an H200 and a T4, of which 70 and 10 GiB are free."""
    nvidia_smi.write_text(
        """#!/bin/sh
case "$*" in
    *gpu=uuid*) echo GPU-1; echo GPU-2;;
    *id=GPU-1*memory.free*) echo 71680;;
    *id=GPU-2*memory.free*) echo 10240;;
    *id=GPU-1*name,compute_cap,driver_version*) echo NVIDIA H200, 9.0, 580.65.06;;
    *id=GPU-2*name,compute_cap,driver_version*) echo Tesla T4, 7.5, 580.65.06;;
    *) exit 1;;
esac
"""
    )
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # to be restored
    monkeypatch.delenv("CUDA_DEVICE_ORDER")


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
def test_devices_of_a_machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_devices("auto") == find_devices("cuda") == ("cuda:0", "cuda:1")
    assert find_devices("cuda:1") == ("cuda:1",)
    assert find_devices("cpu") == ("cpu",)
    assert [free_gpu_memory(f"cuda:{n}") >> 30 for n in (0, 1)] == [70, 10]
    assert find_gpu("cuda:0") == Gpu("NVIDIA H200", "9.0", "580.65.06")
    assert find_gpu("cuda:1") == Gpu("Tesla T4", "7.5", "580.65.06")
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    with pytest.raises(UsageError, match=r"cuda:2 is not there, this machine has 2 NVIDIA GPUs"):
        find_devices("cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UsageError, match=r"cuda:1 is not there, this machine has 1 NVIDIA GPU:"):
        find_devices("cuda:1")


@pytest.mark.usefixtures("two_gpus")
def test_the_first_engine_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = dict.fromkeys(BACKENDS, Works()) | {"tensorrt": Fails()}
    monkeypatch.setattr(selection, "engine_module", modules.__getitem__)
    assert choose_engine() == ("onnxruntime-cuda", ("cuda:0", "cuda:1"), "float32")
    modules["onnxruntime-cuda"] = Fails()
    assert choose_engine() == ("torch", ("cuda:0", "cuda:1"), "float16")
    assert choose_engine(device="cuda:0") == ("torch", ("cuda:0",), "bfloat16")
    assert choose_engine(device="cpu") == ("onnxruntime-cpu", ("cpu",), "float32")
    assert choose_engine("onnxruntime-cpu").devices == ("cpu",)
    with pytest.raises(UsageError, match="the driver is too old"):
        choose_engine("tensorrt", "cuda")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0, 1", ["0", "1"]),
        ("0,-1,1", ["0"]),
        ("GPU-2,MIG-7", ["GPU-2", "MIG-7"]),
    ],
)
def test_visible_devices(visible: str, seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What schedulers and containers set; a part of a GPU does not tell its memory."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == seen
    if not seen:
        assert choose_engine() == ("onnxruntime-cpu", ("cpu",), "float32")
    for number, name in enumerate(seen):
        told = name.startswith("GPU")
        assert free_gpu_memory(f"cuda:{number}") == (10 << 30 if told else UNTOLD_MEMORY)
        assert has_bfloat16(f"cuda:{number}") is not told


def test_bfloat16_without_a_known_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_gpu", lambda device: Gpu("NVIDIA H200", "[N/A]", "580.65"))
    assert has_bfloat16("cuda:0")


def test_visible_devices_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_engine().devices == ("cpu",)


@pytest.mark.usefixtures("two_gpus")
def test_auto_falls_back_to_the_cpu_and_cuda_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = dict.fromkeys(BACKENDS, Fails()) | {"onnxruntime-cpu": Works()}
    monkeypatch.setattr(selection, "engine_module", modules.__getitem__)
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
        ({"device": None}, "there is no device None"),
        ({"backend": "jax"}, "there is no backend 'jax'; choose one of torch, tensorrt"),
        ({"backend": "tensorrt"}, "tensorrt needs an NVIDIA GPU"),
        ({"backend": "tensorrt", "device": "cpu"}, "tensorrt does not run on cpu"),
        ({"precision": "float64"}, "there is no precision 'float64'"),
        (
            {"backend": "onnxruntime-cpu", "precision": "float16"},
            "onnxruntime-cpu computes in float32, not float16: leave --precision out, or "
            "take --backend torch",
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
        ("--backend jax", "is not one of"),
        ("--backend tensorrt --device cpu", "tensorrt does not run on cpu"),
        ("--precision half", "is not one of"),
        ("--backend onnxruntime-cpu --precision bfloat16", "computes in float32, not bfloat16"),
    ],
)
def test_the_command_refuses(
    refused: Callable[..., None], ct_path: Path, tmp_path: Path, options: str, message: str
) -> None:
    out = tmp_path / "out.nrrd"
    refused(2, message, "resample", ct_path, out, "--spacing", 1.25, *options.split())


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"torch needs torch, safetensors: pip install 'pmtool\["):
        choose_engine("torch", "cpu")


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_that_does_not_tell(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("#!/bin/sh\n[ $1 = --query-gpu=uuid ] && echo GPU-1\n")
    with pytest.raises(UsageError, match=r"nvidia-smi does not tell the name.* of cuda:0"):
        find_gpu("cuda:0")
    assert free_gpu_memory("cuda:0") == UNTOLD_MEMORY


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_with_a_damaged_record_of_itself(nvidia_smi: Path) -> None:
    """It works all the same."""
    warning = "echo WARNING: infoROM is corrupted at gpu 0000:B3:00.0; exit 14"
    nvidia_smi.write_text(nvidia_smi.read_text() + warning)
    assert gpus() == ["GPU-1", "GPU-2"]
    assert find_gpu("cuda:0") == Gpu("NVIDIA H200", "9.0", "580.65.06")
    assert free_gpu_memory("cuda:1") == 10 << 30


def test_gpus_of_the_machine(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    assert gpus() == ["GPU-1", "GPU-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert gpus() == ["3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_a_machine_without_a_driver(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.unlink()
    monkeypatch.setenv("PATH", str(nvidia_smi.parent))
    assert gpus() == []


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_is_asked_once(nvidia_smi: Path) -> None:
    """It may take seconds each time; only free memory changes."""
    calls = nvidia_smi.with_name("calls")
    script = nvidia_smi.read_text()
    nvidia_smi.write_text(script.replace("\n", f'\necho "$*" >> {calls}\n', 1))
    for _ in range(2):
        assert find_devices("cuda") == ("cuda:0", "cuda:1")
        assert all(map(find_gpu, ("cuda:0", "cuda:1")))
        assert free_gpu_memory("cuda:0") == 70 << 30
    questions = calls.read_text().splitlines()
    assert sum("gpu=uuid" in question for question in questions) == 1
    assert sum("gpu=name" in question for question in questions) == 2
    assert sum("gpu=memory.free" in question for question in questions) == 2


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_that_does_not_answer(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(devices, "PATIENCE", 0.1)
    assert gpus() == []
    with pytest.raises(UsageError, match=r"nvidia-smi does not tell the name.* of cuda:0"):
        find_gpu("cuda:0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert free_gpu_memory("cuda:0") == UNTOLD_MEMORY
