"""NVRTC, NVIDIA's compiler as a library: for machines without the CUDA toolkit."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pmtool.errors import UsageError

_PLACES = ("cu*/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*", "cu*/bin/**/nvrtc64_*.dll")
"""Patterns for the library in the namespace package ``nvidia``, from the wheels for CUDA 13 and
12."""


def find_library() -> str | None:
    """Path of the newest NVRTC from a wheel, else the system's NVRTC, else None."""
    spec = find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    paths = [path for folder in folders for place in _PLACES for path in Path(folder).glob(place)]
    libraries = sorted((path for path in paths if "builtins" not in path.name), key=_release)
    return str(libraries[-1]) if libraries else ctypes.util.find_library("nvrtc")


def _release(library: Path) -> int:
    """Release in a library's name: 12 for libnvrtc.so.12, 130 for nvrtc64_130_0.dll."""
    match = re.search(r"(?:\.so\.|nvrtc64_)(\d+)", library.name)
    return int(match[1]) if match else 0


def version(library: str) -> str:
    """Name and version of a library, such as ``NVRTC 13.0``."""
    return _Nvrtc(library).version()


def compile_file(library: str, path: Path, options: Sequence[str]) -> bytes:
    """Compile a source file to a cubin; raises `UsageError` with the first error."""
    nvrtc = _Nvrtc(library)
    program = nvrtc.program(path.read_text(), path.name)
    try:
        encoded = [option.encode() for option in (*options, f"-I{path.parent}")]
        arguments = (ctypes.c_char_p * len(encoded))(*encoded)
        if nvrtc.library.nvrtcCompileProgram(program, len(encoded), arguments):
            log = nvrtc.read(program, "ProgramLog").decode(errors="replace")
            raise compilation_error(path, options[-1].removeprefix("-arch="), log)
        return nvrtc.read(program, "CUBIN")
    finally:
        nvrtc.library.nvrtcDestroyProgram(ctypes.byref(program))


def compilation_error(path: Path, architecture: str, log: str) -> UsageError:
    """Error with one sentence on a compiler's output: the first error in it."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    first = next((line for line in lines if "error" in line.lower() or "fatal" in line), None)
    reason = first or (lines[0] if lines else "no reason given")
    return UsageError(
        f"{path.name} cannot be compiled for {architecture}: {reason}; install a newer CUDA "
        "compiler or use --device cpu"
    )


def _builtins(library: str) -> list[Path]:
    """The builtins of a library from a wheel; that of CUDA 13.0 does not find them by itself."""
    path = Path(library)
    return list(path.parent.glob("libnvrtc-builtins.so.*")) if path.is_absolute() else []


class _Nvrtc:
    """Functions of the library; raises `UsageError` if it cannot be loaded or used."""

    def __init__(self, library: str) -> None:
        try:
            for part in _builtins(library):
                ctypes.CDLL(str(part))
            self.library = ctypes.CDLL(library)
        except OSError as error:
            raise UsageError(
                f"{library} cannot be loaded ({error}): install nvidia-cuda-nvrtc again"
            ) from error

    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return f"NVRTC {major.value}.{minor.value}"

    def program(self, source: str, name: str) -> ctypes.c_void_p:
        program = ctypes.c_void_p()
        place, text = ctypes.byref(program), source.encode()
        self._check(self.library.nvrtcCreateProgram(place, text, name.encode(), 0, None, None))
        return program

    def read(self, program: ctypes.c_void_p, what: str) -> bytes:
        """Read one of a program's results: ``CUBIN`` or ``ProgramLog``."""
        size = ctypes.c_size_t()
        self._check(self.library[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
        content = ctypes.create_string_buffer(size.value)
        self._check(self.library[f"nvrtcGet{what}"](program, content))
        return content.raw

    def _check(self, status: int) -> None:
        if status:
            raise UsageError(f"NVRTC failed with status {status}: install nvidia-cuda-nvrtc again")
