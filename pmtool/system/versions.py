"""Versions of packages, for what a result was made with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def own_version() -> str:
    """That of pmtool."""
    return package_version("pmtool") or "0+unknown"  # run from a checkout that was never installed
