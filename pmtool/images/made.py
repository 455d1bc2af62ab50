"""Slices that pmtool made, as the JSON file beside an image tells."""

from __future__ import annotations

from pathlib import Path

from pmtool.images.headers import voxel_files
from pmtool.images.volume import Volume
from pmtool.system.files import read_json
from pmtool.system.hashes import bytes_hash, file_hash


def sidecar_of(image: Path) -> Path:
    """The JSON file beside an image."""
    return image.with_name(f"{image.name}.json")


def output_hash(path: Path) -> str:
    """SHA-256 of a file; for several, as in a folder or with a voxel file, of their digests."""
    files = sorted(path.iterdir()) if path.is_dir() else [path, *voxel_files([path])]
    parts = [file_hash(file) if file.is_file() else ascii(file.name) for file in files]
    return parts[0] if len(parts) == 1 else bytes_hash("\n".join(parts).encode())


def made_slices(image: Path, count: int) -> tuple[int, ...]:
    """Indices of the slices of an image file that were not acquired.

    There are none unless the JSON file beside it matches its digest and its number of slices.
    """
    content = read_json(sidecar_of(image))
    try:
        entries, digest = content["slices"], content["files"]["image"]
        before = set(content["input"]["made_by_pmtool"])
        made = tuple(
            index
            for index, entry in enumerate(entries)
            if entry["kind"] != "acquired" or entry["source"] in before
        )
    except (KeyError, TypeError):  # a JSON file of another program
        return ()
    return made if made and len(entries) == count and output_hash(image) == digest else ()


def made_text(volume: Volume, remedy: str) -> str | None:
    """A sentence on slices of a volume that were not acquired, if any."""
    indices = volume.made_before
    if not indices:
        return None
    return (
        f"{len(indices)} of the {len(volume.slices)} slices of {volume.name} were made by pmtool "
        f"before and count as acquired here; {remedy} instead"
    )
