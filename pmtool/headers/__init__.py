"""What image files claim in their headers, read and judged before ITK believes it."""

from pmtool.headers.declared import Declared
from pmtool.headers.formats import READERS, declared

__all__ = ["READERS", "Declared", "declared"]
