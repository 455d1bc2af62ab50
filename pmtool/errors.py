"""Errors that pmtool raises on purpose; each class carries the exit code of the command line."""

from __future__ import annotations

import errno
import re

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Control characters except line breaks."""


class PmtoolError(Exception):
    """Base of all errors that a user can fix; the message is one sentence that names the remedy."""

    exit_code = 1


class UsageError(PmtoolError):
    """A request that cannot be met: options, device, backend, spacing, a missing extra."""

    exit_code = 2


class InputError(PmtoolError):
    """An input that cannot be read: missing, truncated, not an image."""

    exit_code = 3


class ModelError(InputError):
    """A model bundle that is missing, damaged or not ours."""


class GeometryError(PmtoolError):
    """A volume whose slices do not form a regular stack."""

    exit_code = 4


class ContentError(PmtoolError):
    """Voxels that are not CT: colour, 8-bit, NaN."""

    exit_code = 5


class OutputError(PmtoolError):
    """An output that cannot be written."""

    exit_code = 6


class MemoryBudgetError(PmtoolError):
    """A job that does not fit into memory."""

    exit_code = 7


class BatchError(PmtoolError):
    """Some cases of a batch failed."""

    exit_code = 8


OUT_OF_MEMORY = "out of memory; give a smaller --memory, --batch or --window"
OUT_OF_GPU_MEMORY = "out of GPU memory; give a smaller --batch or --window"
_NO_TEMPORARY = "No usable temporary directory"
"""Python's words, which Dask repeats."""
_SHORTAGE = (
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
    "allocation_failed",
    " allocate ",
    "can't alloc",
    "map segment",
    "out of memory",
    "outofmemory",
    "start new thread",
)


def is_memory_shortage(error: BaseException) -> bool:
    """Whether an error, from any library, means that memory has run out."""
    if isinstance(error, PmtoolError):
        return isinstance(error, MemoryBudgetError)
    text = getattr(error, "strerror", None) or str(error)  # which may name a file
    return isinstance(error, MemoryError) or any(words in text.lower() for words in _SHORTAGE)


def sentence(error: Exception) -> str:
    """The sentence reported for an error."""
    return one_line(str(_reported(error)))


def exit_code(error: Exception) -> int:
    """Exit code of a process that ends with this error."""
    return _reported(error).exit_code


def _reported(error: Exception) -> PmtoolError:
    """The error to report to the user in place of ``error``, which may be from any library."""
    if isinstance(error, PmtoolError):
        return error
    if is_memory_shortage(error):
        return MemoryBudgetError(f"{OUT_OF_MEMORY}, or a larger machine")
    if _NO_TEMPORARY in str(error):
        return OutputError("there is no folder for temporary files; set TMPDIR to one")
    if is_unwritable(error):
        return OutputError(f"the output cannot be written: {error}; make room for it")
    if isinstance(error, OSError) and _is_unreadable(error):
        reason = f"cannot be read ({error.strerror}); change its name or its permissions"
        return InputError(f"{error.filename} {reason}")
    return PmtoolError(f"{type(error).__name__}: {error} (--debug shows where)")


def is_unwritable(error: Exception) -> bool:
    """Whether an error means that a disk is full or read-only."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    return isinstance(error, OSError) and error.errno in full


def _is_unreadable(error: OSError) -> bool:
    """Whether an error concerns an input; outputs are checked before they are written."""
    closed = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
    return error.errno in closed and error.filename is not None


def one_line(text: str) -> str:
    """A text without its line breaks, and `escaped`."""
    return " ".join(escaped(text).split("\n"))


def escaped(text: str) -> str:
    """A text with escaped control characters, by which names could rewrite the terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
