"""The list of packages, the links and the data that a wheel has to contain."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MAPPED = ("export", "kernels")


@pytest.fixture(scope="module")
def setuptools_settings() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    settings: dict[str, Any] = project["tool"]["setuptools"]
    return settings


def test_every_folder_of_python_files_is_a_listed_package(
    setuptools_settings: dict[str, Any],
) -> None:
    folders = {file.relative_to(ROOT).parent for file in (ROOT / "pmtool").rglob("*.py")}
    found = {".".join(folder.parts) for folder in folders} | {f"pmtool.{name}" for name in MAPPED}
    assert sorted(found) == setuptools_settings["packages"]


@pytest.mark.parametrize("name", MAPPED)
def test_mapped_folders(name: str, setuptools_settings: dict[str, Any]) -> None:
    link = ROOT / "pmtool" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert setuptools_settings["package-dir"][f"pmtool.{name}"] == name
    assert (ROOT / name / "__init__.py").is_file()
    assert not [file for file in (ROOT / name).rglob("*.py") if file.parent != ROOT / name]


def test_every_file_that_is_no_code_is_package_data(setuptools_settings: dict[str, Any]) -> None:
    package = ROOT / "pmtool"
    patterns = setuptools_settings["package-data"]["pmtool"]
    covered = {file for pattern in patterns for file in package.glob(pattern)}
    files = {file for file in package.rglob("*") if file.is_file()}
    other = {file for file in files if file.suffix not in (".py", ".pyc", ".cu", ".cuh")}
    assert other <= covered
