"""Decoding of compressed pixels by GDCM, through SimpleITK.

GDCM runs in a separate process, because damaged frames can crash it, and sees only pixels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cached_property
from io import BytesIO
from pathlib import Path
from threading import Timer
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, CTImageStorage

from pmtool.dicom import gdcm
from pmtool.dicom.headers import number
from pmtool.errors import OutputError, PmtoolError, is_memory_shortage, is_unwritable
from pmtool.system.files import writing

_MODULE = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")

_REMEDY = "; make room there, or set TMPDIR to another folder"
_SECONDS = 120.0
"""Time limit for starting the process and for a frame; 512x512 pixels take milliseconds."""


class Decoder:
    """Decodes frames in a process that starts with the first frame and ends on exit."""

    def __enter__(self) -> Self:
        self._owned = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
        self._owned.close()

    @cached_property
    def _folder(self) -> Path:
        return Path(self._owned.enter_context(tempfile.TemporaryDirectory()))

    def decode(self, dataset: Dataset) -> NDArray[Any]:
        """The stored pixels, ``(frames, H, W)``.

        Raises the errors of pydicom and numpy, `PmtoolError` if the process cannot be started, and
        `OutputError` if there is no room for temporary files.
        """
        self._start()
        count = int(number(dataset, "NumberOfFrames") or 1)
        frames = generate_frames(dataset.PixelData, number_of_frames=count)
        return np.stack([self._decode(frame, dataset) for frame in frames])

    def _decode(self, frame: bytes, dataset: Dataset) -> NDArray[Any]:
        bare = Dataset()
        for keyword in _MODULE:
            setattr(bare, keyword, dataset[keyword].value)
        bare.SOPClassUID, bare.SOPInstanceUID = CTImageStorage, UID("1.2.3")
        bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
        bare.PixelData = encapsulate([frame])
        bare["PixelData"].VR = "OB"
        bare["PixelData"].is_undefined_length = True
        bare.ensure_file_meta()
        bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        content = BytesIO()
        bare.save_as(content, enforce_file_format=True)
        with writing(self._folder, _REMEDY):
            (self._folder / "frame.dcm").write_bytes(content.getvalue())
        self._ask()
        values: NDArray[Any] = np.load(self._folder / "frame.npy")
        return values.reshape(dataset.Rows, dataset.Columns)

    def _start(self) -> None:
        if self._process is not None:
            return
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", gdcm.__file__],
                bufsize=0,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:  # no more processes or open files, or no folder for them
            if is_memory_shortage(error) or is_unwritable(error):
                raise
            raise PmtoolError(
                f"no process can be started that decodes pixels ({error.strerror}); raise the "
                "limits on processes and open files, or set TMPDIR"
            ) from error
        self._process = self._owned.enter_context(process)

    def _ask(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b".")
        end = Timer(_SECONDS, self._process.kill)
        end.start()
        try:
            answer = self._process.stdout.read(1)
        finally:
            end.cancel()
        if answer == gdcm.NO_ROOM:
            raise OutputError(f"{self._folder} cannot be written: it is full{_REMEDY}")
        if answer != gdcm.WRITTEN:
            raise ValueError("GDCM cannot decode it")
