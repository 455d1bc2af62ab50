"""Machine code of the kernels: three architectures, the cache, the other compiler, errors."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from pmtool.errors import UsageError
from pmtool.kernels import compile, nvrtc

SPILLED = 64
"""Bytes a thread may keep outside its registers."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PMTOOL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that always gives the same."""
    fake = compile.Compiler("1.0", lambda path, architecture: b"code")
    monkeypatch.setattr(compile, "find_compiler", lambda: fake)


@pytest.fixture
def nvcc() -> str:
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("no nvcc to compile the kernels for a GPU")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("source", compile.SOURCES)
def test_all_architectures(source: str, nvcc: str, tmp_path: Path) -> None:
    """Every kernel for each, with all it needs in registers or nearly so."""
    targets = [name.removeprefix("sm_") for name in compile.ARCHITECTURES.values()]
    options = [f"-gencode=arch=compute_{t},code=sm_{t}" for t in targets]
    command = [nvcc, *compile.OPTIONS, *options, "-fatbin", "-Xptxas=-v", "-Werror=all-warnings"]
    path = compile.FOLDER / source
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "code"), str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers",
        done.stderr,
        re.DOTALL,
    )
    kernels = {name for name, *_ in found}
    assert len(found) == len(kernels) * len(targets)
    assert {architecture for _, architecture, *_ in found} == set(compile.ARCHITECTURES.values())
    assert len(kernels) == 6
    assert max(int(spilled) for _, _, spilled, _ in found) <= SPILLED


def test_cache(cache: Path, nvcc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled once, then read, as long as the compiler stays."""
    code = compile.machine_code("rows.cu", "sm_80")
    assert code.startswith(b"\x7fELF")
    (file,) = cache.iterdir()
    assert file.read_bytes() == code
    monkeypatch.setattr(compile, "compile_with_nvcc", lambda *_: b"anew")
    assert compile.machine_code("rows.cu", "sm_80") == code
    found = compile.find_compiler()._replace(version="another")
    monkeypatch.setattr(compile, "find_compiler", lambda: found)
    assert compile.machine_code("rows.cu", "sm_80") == b"anew"


@pytest.mark.usefixtures("nvcc")
def test_version_is_of_both_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of NVRTC, where nvcc failed, is not taken for that of another NVRTC."""
    monkeypatch.setattr(nvrtc, "find_library", lambda: "libnvrtc.so")
    monkeypatch.setattr(nvrtc, "version", lambda library: "NVRTC 13.7")
    found = compile.find_compiler().version
    assert "nvcc" in found
    assert found.endswith("NVRTC 13.7")


def test_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(nvrtc, "find_library", lambda: None)
    with pytest.raises(UsageError, match="no CUDA compiler"):
        compile.machine_code("rows.cu", "sm_90a")


def test_cached_code_needs_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled last is taken, but nothing of another kernel or GPU."""

    def use(code: str) -> None:
        fake = compile.Compiler(code, lambda path, architecture: code.encode())
        monkeypatch.setattr(compile, "find_compiler", lambda: fake)

    find = compile.find_compiler
    for age, code in ((20, "older"), (10, "newer")):
        use(code)
        assert compile.machine_code("rows.cu", "sm_80") == code.encode()
        (file,) = (path for path in cache.iterdir() if path.read_bytes() == code.encode())
        os.utime(file, (0, 100 - age))
    monkeypatch.setattr(compile, "find_compiler", find)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(nvrtc, "find_library", lambda: None)
    assert compile.machine_code("rows.cu", "sm_80") == b"newer"
    for source, architecture in (("pixel_row.cu", "sm_80"), ("rows.cu", "sm_90a")):
        with pytest.raises(UsageError, match="no CUDA compiler"):
            compile.machine_code(source, architecture)


def test_a_cache_that_others_can_write_to(cache: Path, compiler: None) -> None:
    """It might hold code that is not ours."""
    assert compile.machine_code("rows.cu", "sm_80") == b"code"
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    with pytest.raises(UsageError, match=r"others can write to .*kernels, which keeps code"):
        compile.machine_code("rows.cu", "sm_80")


def test_any_change_of_a_source_compiles_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in compile.FOLDER.glob("*.cu*"):
        shutil.copy(path, tmp_path)
    before = compile.cache_key("rows.cu", "sm_80")
    monkeypatch.setattr(compile, "FOLDER", tmp_path)
    assert compile.cache_key("rows.cu", "sm_80") == before
    assert compile.cache_key("rows.cu", "sm_120") != before
    with (tmp_path / "philox.cuh").open("a") as file:
        file.write("// changed\n")
    assert compile.cache_key("rows.cu", "sm_80") != before


def test_a_cache_that_cannot_be_written_is_done_without(
    compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PMTOOL_CACHE", str(tmp_path / "file"))
    assert compile.machine_code("rows.cu", "sm_80") == b"code"


def test_the_newest_nvrtc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose folder comes first in the alphabet."""
    for place in ("cuda_nvrtc/lib/libnvrtc.so.12", "cu13/lib/libnvrtc.so.13"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    wheels = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(nvrtc, "find_spec", lambda name: wheels)
    assert nvrtc.find_library() == str(tmp_path / "cu13/lib/libnvrtc.so.13")


def test_nvrtc(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs no headers of the CUDA toolkit."""
    if nvrtc.find_library() is None:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert compile.machine_code("rows.cu", "sm_90a").startswith(b"\x7fELF")


def test_nvcc_that_fails(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is too old, or without a C++ compiler: NVRTC takes its place, if there is one."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'nvcc fatal: Value sm_90a is not defined' >&2; exit 1\n")
    nvcc.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: str(nvcc))
    monkeypatch.setattr(nvrtc, "find_library", lambda: None)
    with pytest.raises(UsageError, match="for sm_90a: nvcc fatal: Value sm_90a is not defined"):
        compile.machine_code("rows.cu", "sm_90a")
    monkeypatch.setattr(nvrtc, "find_library", lambda: "libnvrtc.so")
    monkeypatch.setattr(nvrtc, "compile_file", lambda library, *_: library.encode())
    assert compile.machine_code("rows.cu", "sm_90a") == b"libnvrtc.so"


def test_nvrtc_of_a_wheel_is_loaded_with_its_other_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(library: str) -> None:
        loaded.append(library)
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", load)
    library, builtins = tmp_path / "libnvrtc.so.13", tmp_path / "libnvrtc-builtins.so.13.0"
    for there in (False, True):
        if there:
            builtins.touch()
        for name in (str(library), "libnvrtc.so"):
            with pytest.raises(UsageError, match="cannot be loaded"):
                nvrtc.version(name)
    assert loaded == [str(library), "libnvrtc.so", str(builtins), "libnvrtc.so"]


def wrong_source(folder: Path) -> Path:
    path = folder / "wrong.cu"
    path.write_text("__global__ void kernel() {\n    no_such_function();\n}\n")
    return path


def test_the_first_error_of_nvcc(nvcc: str, tmp_path: Path) -> None:
    path = wrong_source(tmp_path)
    with pytest.raises(UsageError, match=r"wrong.cu cannot be compiled for sm_80: .*no_such_func"):
        compile.compile_with_nvcc(nvcc, path, "sm_80")


def test_the_first_error_of_nvrtc(tmp_path: Path) -> None:
    library = nvrtc.find_library()
    if library is None:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    path = wrong_source(tmp_path)
    with pytest.raises(UsageError, match=r"wrong.cu cannot be compiled for sm_80: .*no_such_func"):
        nvrtc.compile_file(library, path, ("-arch=sm_80",))


def test_a_library_that_is_none(tmp_path: Path) -> None:
    library = tmp_path / "libnvrtc.so.13"
    library.write_text("no library")
    with pytest.raises(UsageError, match="cannot be loaded"):
        nvrtc.compile_file(str(library), wrong_source(tmp_path), ("-arch=sm_80",))


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((8, 0), "sm_80"),
        ((8, 9), "sm_80"),
        ((9, 0), "sm_90a"),
        ((12, 0), "sm_120"),
        ((10, 3), "sm_103"),
    ],
)
def test_architecture(capability: tuple[int, int], expected: str) -> None:
    assert compile.architecture(*capability) == expected


def test_old_gpus_are_refused() -> None:
    with pytest.raises(UsageError, match=r"not 7\.5: use --device cpu"):
        compile.architecture(7, 5)
