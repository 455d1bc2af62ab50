"""The kernels as machine code of a GPU, compiled once and kept in a cache.

nvcc compiles, or where it is missing NVRTC of the wheel nvidia-cuda-nvrtc.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from pmtool.cache_folder import cache_folder
from pmtool.errors import OutputError, UsageError
from pmtool.files import write_bytes
from pmtool.kernels import nvrtc

FOLDER = Path(__file__).parent
SOURCES = ("rows.cu", "pixel_row.cu")
ARCHITECTURES = {8: "sm_80", 9: "sm_90a", 12: "sm_120"}
"""By the major number of the compute capability: what the tests compile."""
OPTIONS = ("-std=c++17",)


def architecture(major: int, minor: int) -> str:
    """What to compile for a compute capability.

    Raises
    ------
    UsageError
        Under 8.0, which has no bfloat16 in its tensor cores.
    """
    if major < min(ARCHITECTURES):
        raise UsageError(
            f"the CUDA kernels need a GPU of compute capability 8.0 or later, not {major}.{minor}: "
            "use --device cpu"
        )
    return ARCHITECTURES.get(major, f"sm_{major}{minor}")


def machine_code(source: str, architecture: str) -> bytes:
    """The cubin of one of `SOURCES`, from the cache or compiled now.

    Raises
    ------
    UsageError
        If there is no compiler, or it refuses the source.
    """
    path = cache_folder() / "kernels" / f"{_digest(source, architecture)}.cubin"
    with suppress(OSError):
        return path.read_bytes()
    code = _compile(FOLDER / source, architecture)
    with suppress(OSError, OutputError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(code, path)
    return code


def _digest(source: str, architecture: str) -> str:
    """Of everything that decides the machine code, but for the compiler's version."""
    digest = hashlib.sha256(" ".join((source, architecture, *OPTIONS)).encode())
    for path in sorted(FOLDER.glob("*.cu*")):
        digest.update(b"\0" + path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _compile(path: Path, architecture: str) -> bytes:
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is not None:
        return _with_nvcc(nvcc, path, architecture)
    library = nvrtc.find_library()
    if library is not None:
        return nvrtc.compile_file(library, path, (*OPTIONS, f"-arch={architecture}"))
    raise UsageError(
        "no CUDA compiler is installed: pip install nvidia-cuda-nvrtc, or put nvcc of the CUDA "
        "toolkit on the PATH"
    )


def _with_nvcc(nvcc: str, path: Path, architecture: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.cubin"
        command = [nvcc, *OPTIONS, "-cubin", f"-arch={architecture}", "-o", str(target), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise nvrtc.compilation_error(path, architecture, done.stderr)
        return target.read_bytes()
