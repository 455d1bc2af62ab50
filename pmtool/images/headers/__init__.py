"""The claims in headers of image files, read and checked before ITK relies on them."""

from pmtool.images.headers.declared import Declared
from pmtool.images.headers.formats import READERS, declared, foreign_name, voxel_files

__all__ = ["READERS", "Declared", "declared", "foreign_name", "voxel_files"]
