"""Attributes that a derived series takes over from its source, by module of DICOM PS3.3.

Attributes not named here are dropped: private attributes, overlays, icons, and references to other
objects. Those that describe the scanner are moved: see `EQUIPMENT`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE, RAISE
from pydicom.valuerep import DSfloat


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SERIES_LEVEL = _words(
    """
    SpecificCharacterSet TimezoneOffsetFromUTC LongitudinalTemporalInformationModified

    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID
    OtherPatientIDsSequence PatientBirthDate PatientBirthTime PatientSex OtherPatientNames
    EthnicGroup PatientComments PatientSpeciesDescription PatientSpeciesCodeSequence
    PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson
    ResponsiblePersonRole ResponsibleOrganization QualityControlSubject
    PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence

    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
    ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    ClinicalTrialTimePointID ClinicalTrialTimePointDescription
    ConsentForClinicalTrialUseSequence ClinicalTrialCoordinatingCenterName

    StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber
    IssuerOfAccessionNumberSequence ReferringPhysicianName ConsultingPhysicianName
    PhysiciansOfRecord NameOfPhysiciansReadingStudy RequestingService ProcedureCodeSequence
    ReasonForPerformedProcedureCodeSequence

    AdmittingDiagnosesDescription PatientAge PatientSize PatientWeight PatientBodyMassIndex
    MedicalAlerts Allergies SmokingStatus PregnancyStatus LastMenstrualDate PatientState
    Occupation AdditionalPatientHistory AdmissionID PatientSexNeutered

    Laterality ProtocolName BodyPartExamined PatientPosition AnatomicalOrientationType
    PerformingPhysicianName RequestAttributesSequence

    FrameOfReferenceUID PositionReferenceIndicator
    """
)
"""Encoding of texts and times; Patient, Clinical Trial, General Study, Patient Study, General
Series and Frame of Reference (C.7.1 to C.7.4)."""

EQUIPMENT = _words(
    """
    Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions StationName
    InstitutionName InstitutionAddress InstitutionalDepartmentName SpatialResolution
    DateOfLastCalibration TimeOfLastCalibration
    """
)
"""General Equipment (C.7.5.1): the source's equipment becomes the contributing equipment."""

IMAGE_LEVEL = _words(
    """
    AcquisitionUID AcquisitionNumber AcquisitionDate AcquisitionTime AcquisitionDateTime
    IrradiationEventUID ImageComments BurnedInAnnotation RecognizableVisualFeatures
    LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod

    ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusRoute
    ContrastBolusAdministrationRouteSequence ContrastBolusVolume ContrastBolusStartTime
    ContrastBolusStopTime ContrastBolusTotalDose ContrastFlowRate ContrastFlowDuration
    ContrastBolusIngredient ContrastBolusIngredientConcentration

    SliceThickness KVP ScanOptions DataCollectionDiameter ReconstructionDiameter
    DataCollectionCenterPatient ReconstructionTargetCenterPatient DistanceSourceToDetector
    DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime
    XRayTubeCurrent Exposure ExposureInuAs FilterType FilterMaterial GeneratorPower FocalSpots
    ConvolutionKernel RevolutionTime SingleCollimationWidth TotalCollimationWidth TableSpeed
    TableFeedPerRotation SpiralPitchFactor ExposureModulationType CTDIvol
    CTDIPhantomTypeCodeSequence WaterEquivalentDiameter
    WaterEquivalentDiameterCalculationMethodCodeSequence
    """
)
"""General Acquisition, General Image, Contrast/Bolus and CT Image (C.7.10.1, C.7.6.1, C.7.6.4,
C.8.2.1): a slice made from two others keeps what both agree on."""

PIXEL_LEVEL = _words(
    """
    PixelSpacing ImageOrientationPatient PhotometricInterpretation PixelRepresentation
    PixelPaddingValue PixelPaddingRangeLimit RescaleIntercept RescaleSlope RescaleType
    WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    """
)
"""Image Plane, Image Pixel, and the conversion of pixels to HU and grey levels: a slice made from
two others keeps the first one's values."""

TYPE_2 = _words(
    """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName SeriesNumber PositionReferenceIndicator AcquisitionNumber KVP
    SliceThickness PatientPosition
    """
)
"""Attributes that must be present, with or without a value."""

REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
"""Attributes without which nothing can be derived."""


def keep(
    dataset: Dataset, keywords: Iterable[str], sources: Sequence[Dataset], *, strict: bool = False
) -> None:
    """Copy the attributes for which all sources have the same value.

    Values that cannot be read are left out and, if ``strict``, those that violate the standard.
    """
    for keyword in keywords:
        elements = [source[keyword] for source in sources if keyword in source]
        if len(elements) < len(sources) or any(e != elements[0] for e in elements):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset.add(_copy(elements[0], RAISE if strict else IGNORE))
            except MemoryError:
                raise
            except Exception:  # pydicom may raise any exception
                continue


def _copy(element: DataElement, mode: int) -> DataElement:
    """Copy an element without private attributes, with decimals of at most 16 characters."""
    value = copy.deepcopy(element.value)
    if element.VR == "SQ":
        for item in value:
            item.remove_private_tags()
    elif element.VR == "DS" and not element.is_empty:
        single = [value] if element.VM == 1 else value
        value = [DSfloat(number, auto_format=True) for number in single]
    return DataElement(element.tag, element.VR, value, validation_mode=mode)


def fill_up(dataset: Dataset) -> None:
    """Add attributes that must be present, empty to mean "unknown"."""
    needed = list(TYPE_2)
    if "BodyPartExamined" not in dataset:
        needed.append("Laterality")
    if dataset.dir("ContrastBolus"):
        needed.append("ContrastBolusAgent")
    for keyword in needed:
        dataset.setdefault(keyword, None)
