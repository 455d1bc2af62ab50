"""The process that decodes compressed pixels by GDCM; `pmtool.dicom.decoder` starts it.

For every byte on standard input, the process reads ``frame.dcm`` in its folder, writes
``frame.npy`` and answers with a byte. A frame that ITK refuses or that crashes GDCM ends it.
"""

import sys

import numpy as np
import SimpleITK as sitk

if __name__ == "__main__":
    while sys.stdin.buffer.read(1):
        np.save("frame.npy", sitk.GetArrayFromImage(sitk.ReadImage("frame.dcm")))
        sys.stdout.buffer.write(b".")
        sys.stdout.buffer.flush()
