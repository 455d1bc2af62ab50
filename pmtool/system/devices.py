"""The devices that a model can run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

from pmtool.errors import UsageError
from pmtool.system.units import counted

CPU = "cpu"
UNTOLD_MEMORY = 4 << 30
"""Bytes assumed to be free on a GPU that does not report them."""
PATIENCE = 60
"""Seconds in which nvidia-smi must answer; it takes several if it has to wake the driver up."""
DAMAGED_INFOROM = 14
"""Exit code of nvidia-smi if a GPU's record of itself is damaged: the GPU works, and nvidia-smi
adds a warning to what it prints."""
_GPU = re.compile(r"\d+|(GPU|MIG)-.+")


def gpus() -> list[str]:
    """Numbers or UUIDs of the NVIDIA GPUs that this process may use.

    As in CUDA, the list ends before the first entry of CUDA_VISIBLE_DEVICES that is not a GPU.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return list(takewhile(_GPU.fullmatch, (name.strip() for name in visible.split(","))))
    return list(installed_gpus())


@cache  # nvidia-smi may take seconds
def installed_gpus() -> tuple[str, ...]:
    """UUIDs of the NVIDIA GPUs of this machine."""
    printed = _nvidia_smi("--query-gpu=uuid", "--format=csv,noheader") or ""
    return tuple(filter(_GPU.fullmatch, printed.splitlines()))


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver.

    Attributes
    ----------
    capability
        Compute capability: ``9.0`` for an H200.
    driver
        Version of the driver, such as ``580.65.06``.
    """

    name: str
    capability: str
    driver: str


def gpu_index(device: str) -> int:
    """The N of ``cuda:N``."""
    return int(device.partition(":")[2])


@cache
def find_gpu(device: str) -> Gpu:
    """Identify the GPU ``cuda:N``; raises `UsageError` if the driver does not report it."""
    return Gpu(*_queried(device, "name,compute_cap,driver_version").split(", "))


def has_bfloat16(device: str) -> bool:
    """Whether the tensor cores of ``cuda:N`` support bfloat16; assumed if it does not report."""
    with suppress(UsageError, ValueError):
        return float(find_gpu(device).capability) >= 8
    return True


def free_gpu_memory(device: str) -> int:
    """Bytes free on ``cuda:N``; `UNTOLD_MEMORY` if nvidia-smi does not report them, as for MIG."""
    with suppress(UsageError, ValueError):
        return int(_queried(device, "memory.free")) << 20
    return UNTOLD_MEMORY


def _queried(device: str, fields: str) -> str:
    """What nvidia-smi reports about ``cuda:N``."""
    names, index, told = gpus(), gpu_index(device), None
    if index < len(names):
        form = "--format=csv,noheader,nounits"
        told = _nvidia_smi(f"--id={names[index]}", f"--query-gpu={fields}", form)
    if told is None:
        raise UsageError(f"nvidia-smi does not tell the {fields} of {device}: use --device cpu")
    return told.strip().partition("\n")[0]


def _nvidia_smi(*arguments: str) -> str | None:
    """What nvidia-smi prints; None if it fails or takes longer than `PATIENCE`."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(["nvidia-smi", *arguments], stdout=pipe, stderr=null, text=True)
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver that hangs does not let it die
            process.communicate(timeout=1)
        return None
    return output if process.returncode in (0, DAMAGED_INFOROM) else None


def find_devices(asked: str) -> tuple[str, ...]:
    """The devices meant by ``auto``, ``cpu``, ``cuda`` or ``cuda:N``: the CPU, or GPUs.

    ``auto`` takes all GPUs where there are any.

    Raises
    ------
    UsageError
        If a device is not present, or the name is not valid.
    """
    if asked == CPU:
        return (CPU,)
    if not isinstance(asked, str) or not re.fullmatch(r"auto|cuda(:\d+)?", asked):
        raise UsageError(f"there is no device {asked!r}: give auto, cpu, cuda or cuda:N")
    devices = tuple(f"cuda:{number}" for number in range(len(gpus())))
    if devices:  # let CUDA number the GPUs as nvidia-smi does
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if asked == "auto":
        return devices or (CPU,)
    meant = devices if asked == "cuda" else tuple(name for name in devices if name == asked)
    if not meant:
        available = (
            counted(len(devices), "NVIDIA GPU") if devices else "no NVIDIA GPU that can be used"
        )
        raise UsageError(
            f"the device {asked} is not there, this machine has {available}: use --device cpu"
        )
    return meant
