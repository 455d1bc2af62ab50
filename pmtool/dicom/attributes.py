"""What a derived series takes over from its source, by the modules of DICOM PS3.3.

What is not named here is left behind: private attributes, overlays, icons, and references to other
objects. What describes the scanner moves: see `EQUIPMENT`.
"""

from __future__ import annotations


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

    Modality SeriesNumber SeriesDescription Laterality ProtocolName BodyPartExamined
    PatientPosition AnatomicalOrientationType PerformingPhysicianName RequestAttributesSequence

    FrameOfReferenceUID PositionReferenceIndicator
    """
)
"""Patient, Clinical Trial, General Study, Patient Study, General Series, Frame of Reference
(C.7.1 to C.7.4) and what says how they are written."""

EQUIPMENT = _words(
    """
    Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions StationName
    InstitutionName InstitutionAddress InstitutionalDepartmentName SpatialResolution
    DateOfLastCalibration TimeOfLastCalibration
    """
)
"""General Equipment (C.7.5.1): what made the source and, as the standard wants it of derived
images (C.12.1.1.5), becomes their contributing equipment."""

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
"""Image Plane, Image Pixel, and how pixels become HU and grey levels: a slice made from two others
keeps those of the first."""

TYPE_2 = _words(
    """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName SeriesNumber PositionReferenceIndicator AcquisitionNumber KVP
    SliceThickness PatientPosition
    """
)
"""Have to be there, with a value or without."""

REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
"""Without these nothing can be derived."""
