"""Compiling the kernels to machine code for a GPU, once, and caching the result.

The compiler is nvcc or, if that is missing or fails, NVRTC from the nvidia-cuda-nvrtc wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pmtool.errors import OutputError, UsageError
from pmtool.kernels import nvrtc
from pmtool.system.cache_folder import cache_folder, own_folder
from pmtool.system.files import write_bytes
from pmtool.system.hashes import file_hash, json_hash

FOLDER = Path(__file__).parent
SOURCES = ("rows.cu", "pixel_row.cu")
ARCHITECTURES = {8: "sm_80", 9: "sm_90a", 12: "sm_120"}
"""Architectures by the major number of the compute capability; the tests compile all of them."""
OPTIONS = ("-std=c++17",)


def architecture(major: int, minor: int) -> str:
    """Architecture to compile for, by compute capability.

    Raises
    ------
    UsageError
        If the compute capability is below 8.0: those tensor cores have no bfloat16.
    """
    if major < min(ARCHITECTURES):
        raise UsageError(
            f"the CUDA kernels need a GPU of compute capability 8.0 or later, not {major}.{minor}: "
            "use --device cpu"
        )
    return ARCHITECTURES.get(major, f"sm_{major}{minor}")


class Compiler(NamedTuple):
    """A function that compiles a source file for an architecture, and the compiler's version.

    If NVRTC takes over where nvcc fails, it is the version of both.
    """

    version: str
    compile: Callable[[Path, str], bytes]


def machine_code(source: str, architecture: str) -> bytes:
    """Return the cubin of one of `SOURCES`, from the cache or compiled now.

    Another compiler compiles anew, because the driver may refuse the code of a newer one. Without
    any compiler, the code that was cached last is taken.

    Raises
    ------
    UsageError
        If there is neither cached code nor a compiler, the compiler refuses the source, or other
        users can write to the cache.
    """
    try:
        folder = own_folder(cache_folder() / "kernels")
    except OutputError:  # a cache that cannot be written only costs time
        return find_compiler().compile(FOLDER / source, architecture)
    key = cache_key(source, architecture)
    try:
        compiler = find_compiler()
    except UsageError:
        kept = sorted(folder.glob(f"{key}-*.cubin"), key=lambda path: path.stat().st_mtime)
        if not kept:
            raise
        return kept[-1].read_bytes()
    path = folder / f"{key}-{json_hash(compiler.version)}.cubin"
    with suppress(OSError):
        return path.read_bytes()
    code = compiler.compile(FOLDER / source, architecture)
    with suppress(OutputError):
        write_bytes(code, path)
    return code


def cache_key(source: str, architecture: str) -> str:
    """Digest of everything that determines the machine code, except the compiler."""
    return json_hash([source, architecture, OPTIONS, sources_digest()])


def sources_digest() -> str:
    """Digest of the kernels' source code."""
    paths = sorted(FOLDER.glob("*.cu*"))
    return json_hash([[path.name, file_hash(path)] for path in paths])


def find_compiler() -> Compiler:
    """Find nvcc or, if it is not installed, NVRTC; raises `UsageError` if neither is."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    library = nvrtc.find_library()
    if nvcc is not None:
        completed = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
        version = completed.stdout
        if library is not None:
            with suppress(UsageError):  # nvcc may not need it
                version += nvrtc.version(library)
        return Compiler(version, partial(_with_either, nvcc, library))
    if library is not None:
        return Compiler(nvrtc.version(library), partial(_with_nvrtc, library))
    raise UsageError(
        "no CUDA compiler is installed: pip install nvidia-cuda-nvrtc, or put nvcc of the CUDA "
        "toolkit on the PATH"
    )


def _with_either(nvcc: str, library: str | None, path: Path, architecture: str) -> bytes:
    """Compile with nvcc or, if it is too old for the GPU or lacks a C++ compiler, with NVRTC."""
    try:
        return compile_with_nvcc(nvcc, path, architecture)
    except UsageError:
        if library is None:
            raise
        return _with_nvrtc(library, path, architecture)


def _with_nvrtc(library: str, path: Path, architecture: str) -> bytes:
    return nvrtc.compile_file(library, path, (*OPTIONS, f"-arch={architecture}"))


def compile_with_nvcc(nvcc: str, path: Path, architecture: str) -> bytes:
    """The cubin of a source file; raises `UsageError` with what nvcc says."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.cubin"
        command = [nvcc, *OPTIONS, "-cubin", f"-arch={architecture}", "-o", str(target), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise nvrtc.compilation_error(path, architecture, done.stderr)
        return target.read_bytes()
