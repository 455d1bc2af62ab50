"""The process that decodes compressed pixels by GDCM: started by `pmtool.dicom.decoder`.

For every byte on standard input it reads ``frame.dcm`` in its folder, writes ``frame.npy`` and
answers with a byte. Frames that ITK refuses end it, as do those that make GDCM crash.
"""

import sys

import numpy as np
import SimpleITK as sitk

if __name__ == "__main__":
    while sys.stdin.buffer.read(1):
        np.save("frame.npy", sitk.GetArrayFromImage(sitk.ReadImage("frame.dcm")))
        sys.stdout.buffer.write(b".")
        sys.stdout.buffer.flush()
