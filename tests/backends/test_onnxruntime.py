"""ONNX Runtime as it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
