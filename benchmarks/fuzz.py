"""Check that the readers raise nothing but pmtool's own errors, whatever the file.

    pip install atheris
    python benchmarks/fuzz.py {image,dicom,archive,model,settings} [--seconds 600]

It mutates small valid files that it creates, guided by coverage. It ends with an error if a reader
raises anything other than a `PmtoolError`, takes more than 10 s or 2 GiB, or crashes; the input is
then left in the folder named in the last lines of output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

with contextlib.suppress(ImportError):
    import atheris

import numpy as np
import SimpleITK as sitk

SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
NAME = "weights.safetensors"
SECONDS, MEGABYTES = 10, 2048


def small_ct() -> sitk.Image:
    """Small CT of three slices of 6x5 pixels."""
    values = np.random.default_rng(0).integers(-1000, 500, (3, 6, 5)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.7, 2.5))
    return image


def image_seeds() -> Iterator[bytes]:
    """Yield files of all formats; the first byte is the index of the format."""
    with tempfile.TemporaryDirectory() as name:
        for number, suffix in enumerate(SUFFIXES):
            for packed in (False, True):
                for kind in (sitk.sitkInt16, sitk.sitkFloat32):
                    path = Path(name, f"a{suffix}")
                    image = sitk.Cast(small_ct(), kind)
                    sitk.WriteImage(image, str(path), useCompression=packed)
                    yield bytes([number]) + path.read_bytes()


def read_image_file(content: bytes, folder: Path) -> None:
    """Read content as an image file, next to a detached file of raw voxels."""
    from pmtool.images.reading import ReadingOptions
    from pmtool.loading import load_ct

    path = folder / f"a{SUFFIXES[content[0] % len(SUFFIXES)]}"
    path.write_bytes(content[1:])
    (folder / "a.raw").write_bytes(bytes(180))
    load_ct(path, ReadingOptions(assume_hu=True))


@cache
def dicom_file(number: int = 0, frames: int = 0) -> bytes:
    """Content of a DICOM file: a CT slice, or an enhanced image if it has frames."""
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

    image = Dataset()
    image.SOPClassUID = EnhancedCTImageStorage if frames else CTImageStorage
    image.SOPInstanceUID, image.SeriesInstanceUID = f"1.2.3.{number}", "1.2.3"
    image.StudyInstanceUID, image.Modality, image.PatientID = "1.2", "CT", "someone"
    image.Rows, image.Columns, image.SamplesPerPixel = 6, 5, 1
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.PixelSpacing, image.ImageOrientationPatient = [0.7, 0.7], [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [0, 0, 2.5 * number]
    if frames:
        image.NumberOfFrames = frames
        image.PerFrameFunctionalGroupsSequence = [_frame(n) for n in range(frames)]
    values = sitk.GetArrayFromImage(small_ct())
    image.PixelData = (values[:frames] if frames else values[number % 3]).tobytes()
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _frame(number: int) -> object:
    from pydicom import Dataset

    place, frame = Dataset(), Dataset()
    place.ImagePositionPatient = [0, 0, 2.5 * number]
    frame.PlanePositionSequence = [place]
    return frame


def dicom_seeds() -> Iterator[bytes]:
    """Yield a slice, an enhanced image, and both compressed."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

    for content in (dicom_file(), dicom_file(frames=3)):
        yield content
        for syntax in (DeflatedExplicitVRLittleEndian, RLELossless):
            image = pydicom.dcmread(io.BytesIO(content))
            if syntax == RLELossless:
                image.compress(syntax)
            image.file_meta.TransferSyntaxUID = syntax
            buffer = io.BytesIO()
            image.save_as(buffer, enforce_file_format=True)
            yield buffer.getvalue()


def read_dicom(content: bytes, folder: Path) -> None:
    """Read content as the DICOM file of one of three slices."""
    from pmtool.loading import load_volume

    (folder / "0.dcm").write_bytes(content)
    for number in (1, 2):
        (folder / f"{number}.dcm").write_bytes(dicom_file(number))
    load_volume(folder)


def archive_seeds() -> Iterator[bytes]:
    """Yield zip files of a series, stored and deflated."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for number in range(3):
                archive.writestr(f"series/{number}.dcm", dicom_file(number))
        yield buffer.getvalue()


def read_archive(content: bytes, folder: Path) -> None:
    """Read content as a zip file of a series."""
    from pmtool.loading import load_volume

    (folder / "a.zip").write_bytes(content)
    load_volume(folder / "a.zip")


def model_seeds() -> Iterator[bytes]:
    """Yield a manifest and a safetensors file, separated by a zero byte."""
    header = b'{"network.x":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    weights = len(header).to_bytes(8, "little") + header + bytes(12)
    manifest = {
        "name": "tiny",
        "trained_on": "nothing",
        "licence": "none",
        "spacing_mm": [1.0, 1.25],
        "thickness_mm": 1.25,
        "hyperparameters": {"channels": 4, "hu_window": [-1000, 1000], "encoder": 2},
        "files": {NAME: "0" * 64},
        "errors": {"window": 1e-6},
    }
    yield json.dumps(manifest).encode() + b"\0" + weights


def read_model(content: bytes, folder: Path) -> None:
    """Read content as a bundle, with the hash of the weights corrected."""
    from pmtool.models.bundle import Bundle
    from pmtool.system.hashes import file_hash

    manifest, _, weights = content.partition(b"\0")
    (folder / NAME).write_bytes(weights)
    manifest = manifest.replace(b"0" * 64, file_hash(folder / NAME).encode())
    (folder / "manifest.json").write_bytes(manifest)
    Bundle.load(folder)


def settings_seeds() -> Iterator[bytes]:
    """Yield settings of a training run, valid ones and one with an unknown name."""
    from pmtool.training.settings import load_settings

    yield load_settings("compact", None).to_yaml().encode()
    yield b"optimizer: {rate: 1e-3}\n"


def read_settings(content: bytes, folder: Path) -> None:
    """Read content as settings of a training run."""
    from pmtool.training.settings import load_settings

    (folder / "a.yaml").write_bytes(content)
    load_settings("compact", folder / "a.yaml")


Reader = Callable[[bytes, Path], None]
TARGETS: dict[str, tuple[Callable[[], Iterator[bytes]], Reader]] = {
    "image": (image_seeds, read_image_file),
    "dicom": (dicom_seeds, read_dicom),
    "archive": (archive_seeds, read_archive),
    "model": (model_seeds, read_model),
    "settings": (settings_seeds, read_settings),
}


def attempt(reader: Reader, content: bytes) -> None:
    """Run a reader on content in a temporary folder; pmtool's own errors are suppressed."""
    from pmtool.errors import PmtoolError

    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        warnings.catch_warnings(),
        contextlib.suppress(PmtoolError),
    ):
        warnings.simplefilter("ignore")
        if content:
            reader(content, Path(folder))


def main() -> None:
    """Fuzz one reader."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    seeds, reader = TARGETS[arguments.target]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{arguments.target}-"))
    (folder / "corpus").mkdir()
    with atheris.instrument_imports(include=["pmtool", "pydicom", "yaml"]):
        for number, seed in enumerate(seeds()):
            (folder / "corpus" / str(number)).write_bytes(seed)
            attempt(reader, seed)  # imports all that it uses
    limits = [f"-max_total_time={arguments.seconds}", f"-timeout={SECONDS}", "-max_len=20000"]
    limits += [f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, str(folder / "corpus")], lambda c: attempt(reader, c))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
