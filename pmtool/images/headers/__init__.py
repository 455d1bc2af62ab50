"""What image files claim in their headers, read and judged before ITK believes it."""

from pmtool.images.headers.declared import Declared
from pmtool.images.headers.formats import READERS, declared, foreign_name, voxel_files

__all__ = ["READERS", "Declared", "declared", "foreign_name", "voxel_files"]
