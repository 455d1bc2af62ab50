"""The cache of engines: what is taken from it, and what is built again."""

from __future__ import annotations

import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pmtool.errors import UsageError
from pmtool.export import engines as caching
from pmtool.export.engines import LOCK, MANIFEST, Engines
from pmtool.export.profiles import MAX_WINDOWS
from pmtool.export.tensorrt import Build
from pmtool.models.bundle import Bundle
from pmtool.system.devices import Gpu
from pmtool.system.files import folder_lock, write_bytes
from pmtool.system.hashes import bytes_hash

GPU = Gpu("NVIDIA H200", "9.0", "580.65.06")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What was built: the graph, the most lanes of its profiles, and the timings then known."""
    built: list[tuple[str, list[int], bytes]] = []

    def build(trt: Any, name: str, model: Any, profiles: Any, timings: bytes) -> Build:
        built.append((name, [profile["lanes"].most for profile in profiles], timings))
        return Build(f"{name} {len(built)}".encode(), b"%d builds" % len(built))

    trt = SimpleNamespace(__name__="tensorrt", __version__="10.16.0")
    monkeypatch.setenv("PMTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(caching, "tensorrt", lambda: trt)
    monkeypatch.setattr(caching, "check_driver", lambda trt, gpu: None)
    monkeypatch.setattr(caching, "logger", lambda trt: None)
    monkeypatch.setattr(caching, "build_engine", build)
    return built


def engines(gpu: Gpu = GPU, **options: Any) -> Engines:
    return Engines(Bundle.load(), gpu, **{"precision": "bfloat16", **options})


def test_an_engine_is_built_once(builds: list[Any]) -> None:
    assert engines().engine("row1") == engines().engine("row1") == b"row1 1"
    assert engines().engine("known2") == b"known2 2"
    lanes = [4096, 1024, 512]
    assert builds == [("row1", lanes, b""), ("known2", lanes, b"1 builds")]


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": dataclasses.replace(GPU, name="NVIDIA L4")},
        {"gpu": dataclasses.replace(GPU, driver="590.1")},
        {"precision": "float32"},
    ],
)
def test_another_target_has_engines_of_its_own(builds: list[Any], change: dict[str, Any]) -> None:
    engines().engine("row1")
    assert engines(**change).engine("row1") == b"row1 2"
    assert engines().engine("row1") == b"row1 1"


def test_engines_for_another_number_of_windows_replace_those_before(builds: list[Any]) -> None:
    """Whoever asks for no number takes what is there."""
    assert engines().engine("row1") == b"row1 1"
    assert engines().manifest()["max_windows"] == MAX_WINDOWS
    assert engines(max_windows=16384).engine("row1") == b"row1 2"
    engines(max_windows=16384).note_errors({"row1": {"tensorrt": 1e-3}}, "")
    assert engines().engine("row1") == engines(max_windows=16384).engine("row1") == b"row1 2"
    assert engines().manifest()["max_windows"] == 16384
    assert list(engines().manifest()["errors"]) == ["row1"]
    assert not engines(max_windows=7).manifest()["errors"]
    assert engines().engine("known1") == b"known1 3"
    assert [lanes[0] for _, lanes, _ in builds] == [MAX_WINDOWS, 16384, 16384]


def test_another_version_or_bundle(builds: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = engines().folder
    monkeypatch.setattr(
        caching, "tensorrt", lambda: SimpleNamespace(__name__="tensorrt", __version__="11")
    )
    other = engines().folder
    bundle = Bundle.load()
    bundle.hash = "another"
    assert len({folder, other, Engines(bundle, GPU, "bfloat16").folder}) == 3


def altered(folder: Path) -> None:
    (folder / "row1.engine").write_bytes(b"something else")


def cut(folder: Path) -> None:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:-20])


def empty(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


def foreign(folder: Path) -> None:
    values = json.loads((folder / MANIFEST).read_text())
    values["target"]["gpu"] = "another"
    (folder / MANIFEST).write_text(json.dumps(values))


def incomplete(folder: Path) -> None:
    (folder / "row1.engine").unlink()


@pytest.mark.parametrize("damage", [altered, cut, empty, foreign, incomplete])
def test_what_is_not_as_it_was_built_is_built_again(damage: Any, builds: list[Any]) -> None:
    engines().engine("row1")
    damage(engines().folder)
    assert engines().engine("row1") == b"row1 2"
    assert engines().engine("row1") == b"row1 2"


def test_errors_are_kept_beside_the_engines(builds: list[Any]) -> None:
    """They are known while the engines and the kernel are the same."""
    kept, errors = engines(), {"row1": {"tensorrt": 1e-3}}
    kept.engine("row1")
    kept.note_errors(errors, "kernel 1")
    assert engines().known_errors(["row1"], "kernel 1") == errors
    assert not engines().known_errors(["row1"], "kernel 2")
    assert not engines().known_errors(["row1", "row2"], "kernel 1")
    values = json.loads((kept.folder / MANIFEST).read_text())
    assert values["errors"] == {"row1": {"tensorrt": 1e-3}}
    assert values["target"]["gpu"] == "NVIDIA H200, compute capability 9.0"
    assert values["target"]["driver"] == "580.65.06"
    assert list(values["engines"]) == ["row1"]


def test_errors_of_engines_that_were_replaced_are_not_kept(builds: list[Any]) -> None:
    checked = engines()
    checked.engine("row1")
    engines(max_windows=16).engine("row1")
    checked.note_errors({"row1": {"tensorrt": 1e-3}}, "")
    assert engines().manifest()["errors"] == {}


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_an_engine_that_another_process_builds_is_waited_for(builds: list[Any]) -> None:
    ours, theirs = engines(), engines()
    with ThreadPoolExecutor() as pool:
        with folder_lock(ours.folder / LOCK):
            engine = pool.submit(ours.engine, "row1")
            with pytest.raises(TimeoutError):
                engine.result(timeout=0.2)
            theirs._write({"row1": bytes_hash(b"theirs")}, {})
            write_bytes(b"theirs", ours.folder / "row1.engine")
        assert engine.result(timeout=30) == b"theirs"
    assert ours.engine("row2") == b"row2 1"
    assert sorted(ours.manifest()["engines"]) == ["row1", "row2"]
    assert not (ours.folder / LOCK).exists()


def test_a_folder_that_others_can_write_to(builds: list[Any], tmp_path: Path) -> None:
    folder = engines().folder
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    with pytest.raises(UsageError, match=r"others can write to .*: set PMTOOL_CACHE to a folder"):
        engines()


def test_a_folder_of_another_user(builds: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(UsageError, match="others can write to"):
        engines()
