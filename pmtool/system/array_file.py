"""Arrays in files of their own."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmtool.system.files import write_bytes


def write_array(values: NDArray[Any], path: Path) -> None:
    """Write all of an array or nothing, for `numpy.load`; raises `OutputError`."""
    buffer = BytesIO()
    np.save(buffer, values)
    write_bytes(buffer.getvalue(), path)
