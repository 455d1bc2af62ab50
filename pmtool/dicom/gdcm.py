"""The process that decodes compressed pixels by GDCM; `pmtool.dicom.decoder` starts it.

For every byte on standard input, the process reads ``frame.dcm`` in its folder, writes
``frame.npy`` and answers with a byte: `WRITTEN`, or `NO_ROOM` if the disk is full. A frame that ITK
refuses or that crashes GDCM ends it.
"""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import SimpleITK as sitk

WRITTEN, NO_ROOM = b".", b"!"

if __name__ == "__main__":
    while sys.stdin.buffer.read(1):
        frame = BytesIO()  # NumPy's own writing may cut an array short without an error
        np.save(frame, sitk.GetArrayFromImage(sitk.ReadImage("frame.dcm")))
        try:
            Path("frame.npy").write_bytes(frame.getvalue())
            answer = WRITTEN
        except OSError:
            answer = NO_ROOM
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
