"""ONNX Runtime as it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pmtool.backends.differences import differences
from pmtool.backends.onnxruntime import OnnxRuntimeBackend, load
from pmtool.interface.graph_names import CHOOSERS, GRAPHS, kind_and_depth
from pmtool.interface.layout import Layout
from pmtool.kernels import cpu
from pmtool.models.bundle import Bundle

SESSION = """
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.models.bundle import Bundle
OnnxRuntimeBackend(Bundle.load())._load("known1")
"""


def test_nothing_is_reported(tmp_path: Path) -> None:
    """Its telemetry would leave the identifier of a device in the user's folder."""
    hidden = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    subprocess.run([sys.executable, "-c", SESSION], env={**kept, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(cpu.library() is None, reason="no compiled loops")
def test_the_compiled_loops_compute_what_the_graphs_do() -> None:
    bundle = Bundle.load()
    found = load(bundle, "cpu", "float32", 1)
    assert found.loops is not None
    graphs = [graph for graph in GRAPHS if found.loops.covers(graph)]
    assert {kind_and_depth(graph)[0] for graph in graphs} == {"row", *CHOOSERS}
    layout = Layout(bundle.hyperparameters)
    errors = differences(graphs, layout, OnnxRuntimeBackend(bundle), found)
    assert max(errors.values()) < 1e-4, errors


def test_without_a_compiler_onnx_runtime_runs_all_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "library", lambda: None)
    with pytest.warns(UserWarning, match=r"install a C\+\+ compiler"):
        assert load(Bundle.load(), "cpu", "float32", 1).loops is None
