"""The slices of a resampled volume as DICOM: CT Image Storage, derived from a source series."""

from __future__ import annotations

import copy
import hashlib
import json
import uuid
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat

from pmtool.dicom import attributes
from pmtool.dicom.attributes import REQUIRED, fill_up, keep
from pmtool.dicom.headers import number, texts
from pmtool.dicom.stored import set_pixels
from pmtool.errors import InputError, UsageError
from pmtool.geometry.nodes import EVEN
from pmtool.images.volume import Volume

MAKER = "pmtool"
"""Manufacturer of derived series."""
_DESCRIPTIONS = {
    "acquired": "Acquired slice, pixels unchanged",
    "synthesised": "Synthesised between its neighbours, not acquired data",
    "interpolated": "Interpolated between its neighbours, not acquired data",
    "shifted": "Repeats the nearest acquired slice, not acquired at this position",
    "extrapolated": "Repeats the nearest acquired slice, not acquired data",
}
"""Descriptions of the kinds of slices, `pmtool.geometry.grid.Kind`."""
_OF_ONE_STUDY = ("PatientID", "PatientName", "StudyInstanceUID")
"""Attributes by which a PACS assigns a series to a patient and a study."""
_UNDECODED = "\ufffd"
"""What pydicom substitutes for bytes that are not in the character set."""


def check_derivable(volume: Volume) -> None:
    """Refuse a volume from which no DICOM series can be derived.

    Raises
    ------
    UsageError
        If it does not come from DICOM.
    InputError
        If its headers lack an identifier, name several patients or studies, declare pixels of more
        than 16 bits, or hold texts that are not in their character set.

    Warns
    -----
    UserWarning
        If an identifier, which the output keeps, is not one by the standard.
    """
    advice = "write an image file such as out.nrrd instead"
    if volume.headers is None:
        raise UsageError(
            f"{volume.name} is not DICOM and has no patient and study that a DICOM series could "
            f"belong to; {advice}"
        )
    for header in volume.headers:
        missing = [keyword for keyword in REQUIRED if not header.get(keyword)]
        if missing:
            raise InputError(f"{volume.name} has a slice without {missing[0]}; {advice}")
        if header.BitsAllocated > 16:
            raise InputError(
                f"{volume.name} has {header.BitsAllocated} bits a pixel and a DICOM CT at most 16; "
                f"{advice}"
            )
        garbled = (x for x in attributes.SERIES_LEVEL if _UNDECODED in str(header.get(x, "")))
        if keyword := next(garbled, None):
            raise InputError(
                f"{volume.name} has a {keyword} that is not in its SpecificCharacterSet and would "
                f"change; {advice}"
            )
    for keyword in _OF_ONE_STUDY:
        if len({str(header.get(keyword) or "") for header in volume.headers}) > 1:
            raise InputError(
                f"the slices of {volume.name} differ in their {keyword}, of which a series has "
                f"one; {advice}"
            )
    values = (str(header[keyword].value) for header in volume.headers for keyword in REQUIRED)
    uids = (UID(value, IGNORE) for value in values)
    if uid := next((uid for uid in uids if not uid.is_valid), None):
        warnings.warn(
            f"{volume.name} has identifiers that DICOM does not allow, such as {uid}; the output "
            "refers to them, so that other programs may refuse it",
            stacklevel=2,
        )


def headers_digest(volume: Volume) -> str:
    """SHA-256 of everything that a derived series takes from the headers of a DICOM series."""
    assert volume.headers is not None
    hasher = hashlib.sha256()
    for header in volume.headers:
        hasher.update(str(header).encode(errors="surrogateescape"))
    return hasher.hexdigest()


class DerivedSeries:
    """The data sets of a resampled series, each created when needed.

    Identifiers are derived from the source's identifiers and everything that determines the voxels,
    and no time is recorded, so that the same run gives the same bytes.

    Parameters
    ----------
    source
        A volume that `check_derivable` has passed.
    image
        The resampled volume.
    sidecar
        Content of its sidecar, from `pmtool.resampling.sidecar.content`.
    """

    def __init__(self, source: Volume, image: sitk.Image, sidecar: dict[str, Any]) -> None:
        assert source.headers is not None
        self._headers = source.headers
        self._volume = Volume(image, source.axis, source.name)
        self._sidecar = sidecar
        identity = [sidecar["options"], [_identity(header) for header in self._headers]]
        self._namespace = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(identity, sort_keys=True))

    @property
    def uid(self) -> UID:
        """SeriesInstanceUID of the series."""
        return self._uid("series")

    def __len__(self) -> int:
        return len(self._sidecar["slices"])

    def __getitem__(self, index: int) -> Dataset:
        entry = self._sidecar["slices"][index]
        sources = [self._headers[i] for i in entry.get("pair", [entry.get("source")])]
        dataset = copy.deepcopy(self._series)
        keep(dataset, attributes.IMAGE_LEVEL, sources, strict=True)
        keep(dataset, attributes.PIXEL_LEVEL, sources[:1], strict=True)
        self._describe(dataset, entry["kind"], sources)
        self._place(dataset, index, entry["kind"], sources[0])
        set_pixels(dataset, self._volume.slices[index], sources[0])
        fill_up(dataset)
        dataset.InstanceNumber = index + 1
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = self._uid(index + 1)
        return dataset

    @cached_property
    def _series(self) -> Dataset:
        """The attributes that all slices share."""
        dataset, header = Dataset(), self._headers[0]
        keep(dataset, attributes.SERIES_LEVEL, [header])
        dataset.Modality = "CT"
        dataset.SeriesInstanceUID = self.uid
        if isinstance(header.get("SeriesNumber"), int):
            dataset.SeriesNumber = min(header.SeriesNumber + 1000, 2**31 - 1)
        suffix = f"{self._sidecar['grid']['spacing_mm']:g} mm {MAKER}"
        described = " ".join(texts(header, "SeriesDescription"))[: 63 - len(suffix)]
        dataset.SeriesDescription = f"{described} {suffix}".strip()
        dataset.ContributingEquipmentSequence = _equipment(header)
        dataset.Manufacturer = dataset.ManufacturerModelName = MAKER
        dataset.SoftwareVersions = [self._sidecar["pmtool"], self._sidecar["model"]["sha256"]]
        return dataset

    def _describe(self, dataset: Dataset, kind: str, sources: Sequence[Dataset]) -> None:
        """Say what the slice is and what it was made from.

        A slice made by pmtool does not count as acquired when it is resampled again: copies of it
        keep its label.
        """
        image_type = sources[0].get("ImageType") or ()
        more = [] if isinstance(image_type, str) else list(image_type[3:])
        label = more[-1].lower() if more else ""
        if len(sources) == 1 and label in _DESCRIPTIONS and label != "acquired":
            kind = label
        more = [value for value in more if value.lower() not in _DESCRIPTIONS]
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL", *more, kind.upper()]
        dataset.DerivationDescription = f"{_DESCRIPTIONS[kind]}. {self._provenance}"
        dataset.SourceImageSequence = [_reference(header) for header in sources]
        if kind != "acquired":
            dataset.DerivationCodeSequence = [_code(codes.DCM.SpatialResampling)]

    @property
    def _provenance(self) -> str:
        facts = self._sidecar
        return (
            f"Series resampled to {facts['grid']['spacing_mm']:g} mm by pmtool {facts['pmtool']}, "
            f"model {facts['model']['name']} (SHA-256 {facts['model']['sha256']}), "
            f"mode {facts['options']['mode']}, seed {facts['seed']}. {facts['notice']}"
        )

    def _place(self, dataset: Dataset, index: int, kind: str, source: Dataset) -> None:
        """Keep the exact positions of acquired slices; place the others by the image's grid.

        Acquired slices are also placed by the grid if their offset is tolerable in the source but
        not in a finer series.
        """
        dataset.SpacingBetweenSlices = DSfloat(self._volume.spacing, auto_format=True)
        at = [0, 0, 0]
        at[self._volume.axis] = index
        place = self._volume.image.TransformIndexToPhysicalPoint(at)
        offset = np.subtract(place, np.array(source.ImagePositionPatient, float))
        along = float(self._volume.direction[:, self._volume.axis] @ offset)
        if kind == "acquired" and abs(along) < EVEN / 3 * self._volume.spacing:
            keep(dataset, ("ImagePositionPatient", "SliceLocation"), [source])
            return
        dataset.ImagePositionPatient = [DSfloat(x, auto_format=True) for x in place]
        ends = self._headers[0], self._headers[-1]
        first, last, here = (number(h, "SliceLocation") for h in (*ends, source))
        if first is not None and last is not None and here is not None:
            location = here + np.sign(last - first) * along
            dataset.SliceLocation = DSfloat(location, auto_format=True)

    def _uid(self, name: object) -> UID:
        return UID(f"2.25.{uuid.uuid5(self._namespace, str(name)).int}")


def _identity(header: Dataset) -> list[str]:
    return [str(header[keyword].value) for keyword in REQUIRED]


def _equipment(header: Dataset) -> list[Dataset]:
    """Equipment that contributed to the source, followed by the equipment that made it."""
    earlier = Dataset()
    keep(earlier, ("ContributingEquipmentSequence",), [header])
    maker = Dataset()
    keep(maker, attributes.EQUIPMENT, [header])
    maker.Manufacturer = maker.get("Manufacturer") or "unknown"
    derived = "DERIVED" in (header.get("ImageType") or ())
    role = codes.DCM.ProcessingEquipment if derived else codes.DCM.AcquisitionEquipment
    maker.PurposeOfReferenceCodeSequence = [_code(role)]
    return [*earlier.get("ContributingEquipmentSequence", ()), maker]


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if header.SOPClassUID != CTImageStorage:
        item.ReferencedFrameNumber = header.InstanceNumber
    item.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
