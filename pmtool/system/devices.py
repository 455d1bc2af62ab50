"""The devices that a model can run on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
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
    try:
        return list(filter(_GPU.fullmatch, nvidia_smi_once("--query-gpu=uuid").splitlines()))
    except OSError:
        return []


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


def find_gpu(device: str) -> Gpu:
    """Identify the GPU ``cuda:N``; raises `UsageError` if the driver does not report it."""
    fields = "name,compute_cap,driver_version"
    return Gpu(*_queried(device, fields, nvidia_smi_once).split(", "))


def has_bfloat16(device: str) -> bool:
    """Whether the tensor cores of ``cuda:N`` support bfloat16; assumed if it does not report."""
    with suppress(UsageError, ValueError):
        return float(find_gpu(device).capability) >= 8
    return True


def free_gpu_memory(device: str) -> int:
    """Bytes free on ``cuda:N``; `UNTOLD_MEMORY` if nvidia-smi does not report them, as for MIG."""
    with suppress(UsageError, ValueError):
        return int(_queried(device, "memory.free", nvidia_smi)) << 20
    return UNTOLD_MEMORY


def _queried(device: str, fields: str, ask: Callable[..., str]) -> str:
    """What nvidia-smi reports about ``cuda:N``."""
    try:
        told = ask(f"--id={gpus()[gpu_index(device)]}", f"--query-gpu={fields}")
    except (IndexError, OSError) as error:
        raise UsageError(
            f"nvidia-smi does not tell the {fields} of {device}: use --device cpu"
        ) from error
    return told.strip().partition("\n")[0]


def nvidia_smi(*query: str) -> str:
    """Answer to a query, as CSV without header and units.

    Raises
    ------
    OSError
        If nvidia-smi fails, or takes longer than `PATIENCE`.
    """
    command = ["nvidia-smi", *query, "--format=csv,noheader,nounits"]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=pipe, stderr=null, text=True)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver that hangs does not let it die
            process.communicate(timeout=1)
        raise OSError("nvidia-smi does not answer") from error
    if process.returncode not in (0, DAMAGED_INFOROM):
        raise OSError(f"nvidia-smi ended with {process.returncode}")
    return output


nvidia_smi_once = cache(nvidia_smi)
"""Answer to a query for what does not change; an error is not remembered."""


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
