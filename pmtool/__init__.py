"""Texture-accurate slice interpolation of CT.

``pmtool.resample`` is the public interface; it is loaded when first asked for, so that
``import pmtool`` and ``pmtool --help`` stay quick.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmtool.resampling.resample import resample as resample

__all__ = ["__version__", "resample"]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # else Python prints the warnings


def __getattr__(name: str) -> Any:
    if name == "resample":
        from pmtool.resampling.resample import resample

        return resample
    if name == "__version__":
        from pmtool.system.versions import own_version

        return own_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
