"""Versions of packages, recorded with results."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def own_version() -> str:
    """Version of pmtool."""
    return package_version("pmtool") or "0+unknown"  # run from a checkout that was never installed
