"""Process-wide ITK settings that apply while files are read or written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock

import SimpleITK as sitk

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"


class _Silence:
    """Silences the whole process while any of its threads asks for it."""

    def __init__(self) -> None:
        self._lock, self._users, self._made = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._made.enter_context(_silenced())
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._made.close()


_SILENCE = _Silence()


def quiet_itk() -> AbstractContextManager[None]:
    """Keep messages of ITK and its file libraries off standard error."""
    return _SILENCE


def permit_skewed_nifti() -> None:
    """Let ITK read NIfTI whose axes are not orthonormal, until `quiet_itk` ends."""
    os.environ[_PERMISSIVE] = "1"


@contextmanager
def _silenced() -> Iterator[None]:
    display = sitk.ProcessObject.GetGlobalWarningDisplay()
    permissive = os.environ.get(_PERMISSIVE)
    try:
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        with _without_standard_error():
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(display)
        os.environ.pop(_PERMISSIVE, None)
        if permissive is not None:
            os.environ[_PERMISSIVE] = permissive


@contextmanager
def _without_standard_error() -> Iterator[None]:
    """Discard what is written to file descriptor 2, unless it is closed, as in some daemons."""
    try:
        saved = os.dup(2)
    except OSError:
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
