"""What documents say is run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

import pmtool
from pmtool.phantom.chest import chest_phantom

DOCS = Path(__file__).parents[1] / "docs"


def test_python_of_the_page_on_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    sitk.WriteImage(chest_phantom(64, 3, (5.0, 5.0, 2.5), seed=1), "chest.nrrd")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    assert len(blocks) > 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert {path.name for path in tmp_path.iterdir()} == {
        "chest.nrrd", "fine.nrrd", "fine.nrrd.json", "fine.png"
    }  # fmt: skip


def test_python_of_the_page_on_cohorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()
    sitk.WriteImage(chest_phantom(64, 3, (5.0, 5.0, 2.5), seed=1), "scans/chest.nrrd")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "cohort.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    assert [result.status for result in names["results"]] == ["done"]
    assert Path("fine/chest.nrrd").is_file()


def test_keys_of_the_documents_are_those_of_a_sidecar(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pmtool.resample(chest_phantom(64, 3, (5.0, 5.0, 2.5), seed=1), 2.5, tmp_path / "out.nrrd")
    told = json.loads((tmp_path / "out.nrrd.json").read_text())
    assert "onnxruntime" in told["versions"]
    table = (DOCS / "formats.md").read_text().partition("## The JSON file")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == set(told)
    named = re.findall(r"\[((?:`\w+`(?:, )?)+)\]", (DOCS / "reporting.md").read_text())
    assert len(named) > 8
    for keys in named:
        found = told
        for key in re.findall(r"`(\w+)`", keys):
            if key not in found:  # a list of keys side by side
                found = told
            found = found[key]
