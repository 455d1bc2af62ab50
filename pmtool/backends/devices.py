"""The devices that a model can run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from pmtool.errors import UsageError

CPU = "cpu"


def gpus() -> list[str]:
    """Numbers or UUIDs of the NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver.

    Attributes
    ----------
    capability
        Compute capability: ``9.0`` of an H200.
    driver
        Its version: ``580.65.06``.
    """

    name: str
    capability: str
    driver: str


def gpu_index(device: str) -> int:
    """The N of ``cuda:N``."""
    return int(device.partition(":")[2])


def find_gpu(device: str) -> Gpu:
    """Which GPU ``cuda:N`` is; raises `UsageError` if the driver does not tell."""
    return Gpu(*(_told(device, field) for field in ("name", "compute_cap", "driver_version")))


def free_gpu_memory(device: str) -> int:
    """Bytes that are free on ``cuda:N``; raises `UsageError` if the driver does not tell."""
    told = _told(device, "memory.free")
    if not told.isdigit():
        raise _untold(device, "memory.free")
    return int(told) << 20


def _told(device: str, field: str) -> str:
    """What nvidia-smi says of ``cuda:N``."""
    asked = ["nvidia-smi", f"--id={gpus()[gpu_index(device)]}", f"--query-gpu={field}"]
    asked.append("--format=csv,noheader,nounits")
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise _untold(device, field)
    return found.stdout.strip()


def _untold(device: str, field: str) -> UsageError:
    return UsageError(f"nvidia-smi does not tell the {field} of {device}: use --device cpu")


def find_devices(asked: str) -> tuple[str, ...]:
    """The devices meant by ``auto``, ``cpu``, ``cuda`` or ``cuda:N``: the processor, or GPUs.

    ``auto`` takes all GPUs where there are any.

    Raises
    ------
    UsageError
        If a device is not there, or the name is none.
    """
    if asked == CPU:
        return (CPU,)
    if not re.fullmatch(r"auto|cuda(:\d+)?", asked):
        raise UsageError(f"there is no device {asked!r}: give auto, cpu, cuda or cuda:N")
    there = tuple(f"cuda:{number}" for number in range(len(gpus())))
    if asked == "auto":
        return there or (CPU,)
    found = there if asked == "cuda" else tuple(name for name in there if name == asked)
    if not found:
        many = f"has {len(there)} NVIDIA GPUs" if there else "has no NVIDIA GPU that can be used"
        raise UsageError(f"the device {asked} is not there, this machine {many}: use --device cpu")
    return found
