"""DICOM phantoms of the kinds that scanners, archives and anonymisers write, with values and places that are known.

Every function takes voxels in the order of files, (k, row, column), and positions and directions in LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTDoseStorage,
    generate_uid,
)

ORIGIN, SPACING, THICK = np.array([-47.0, -39.0, -30.0]), (2.0, 2.0), 5.0
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


def uid(*parts) -> str:
    """The same UID for the same words."""
    return generate_uid(entropy_srcs=["medfm-phantom", *map(str, parts)])


def body(columns=48, rows=40, slices=12) -> np.ndarray:
    """(k, row, column) HU: a body of 40 HU in air, a block of 100 HU on the patient's right, every slice different."""
    _, y, x = np.mgrid[:slices, :rows, :columns]
    values = np.full((slices, rows, columns), -1000, np.int32)
    inside = ((x - columns / 2 + 0.5) / (columns * 0.42)) ** 2 + ((y - rows / 2 + 0.5) / (rows * 0.42)) ** 2 < 1
    values[inside] = 40
    values[2 : slices - 2, rows // 2 - 5 : rows // 2 + 5, 8:18] = 100
    values[:, 0, 0] = 10 * np.arange(slices)
    return values


def dataset(sop_class: str, modality: str, *names) -> FileDataset:
    """An empty image of a phantom's study, with every tag that is required of the patient and the study."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid("instance", *names)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = (
        uid("study"),
        uid("series", names[0]),
        uid("frame"),
    )
    made.Modality, made.PatientName, made.PatientID = modality, "Phantom^Field", "PHANTOM"
    made.PatientBirthDate, made.PatientSex, made.StudyDate, made.StudyTime = "", "", "20200101", "120000"
    made.StudyID, made.AccessionNumber, made.ReferringPhysicianName, made.Manufacturer = "1", "", "", "Phantom"
    made.SeriesNumber, made.InstanceNumber, made.PositionReferenceIndicator = 1, 1, ""
    return made


def pixels(made: FileDataset, values: np.ndarray) -> FileDataset:
    """Put 16-bit grey pixels, one or several frames, into a dataset."""
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = values.shape[-2:]
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, int(values.dtype.kind == "i")
    made.PixelData = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return made


def slice_dataset(plane: np.ndarray, position, *, number=1, modality="CT", series="s", directions=AXIAL, spacing=SPACING,
                  thickness=THICK, slope=1.0, intercept=-1024.0, **tags) -> FileDataset:  # fmt: skip
    """One classic image; `tags` override attributes, None deletes them."""
    stored = np.rint((plane - intercept) / slope)
    made = pixels(
        dataset(CLASSES[modality], modality, series, number, position, *tags.items()), stored.astype(np.uint16)
    )
    made.InstanceNumber = number
    made.ImagePositionPatient, made.ImageOrientationPatient = (
        [float(v) for v in position],
        [float(v) for v in directions],
    )
    made.PixelSpacing, made.SliceThickness = [float(v) for v in spacing], thickness
    made.RescaleSlope, made.RescaleIntercept = slope, intercept
    for name, value in tags.items():
        if value is not None:
            setattr(made, name, value)
        elif name in made:
            delattr(made, name)
    return made


def save(made: FileDataset, path: Path) -> Path:
    """Write a dataset and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def write_slices(folder: Path, values: np.ndarray, places: Sequence[float] | None = None, **options) -> list[Path]:
    """Write one file a slice at z = `places`, every 5 mm by default."""
    places = [ORIGIN[2] + THICK * k for k in range(len(values))] if places is None else places
    return [
        save(slice_dataset(plane, (*ORIGIN[:2], z), number=k + 1, **options), folder / f"IM{k:04d}")
        for k, (plane, z) in enumerate(zip(values, places, strict=True))
    ]


def write_enhanced(path: Path, frames: Sequence[dict], *, modality="CT", series="enhanced", spacing=SPACING) -> Path:
    """Write a multi-frame file.

    Args:
        path: the file.
        frames: of each: `plane` (row, column), `position`; optionally `directions`, `slope`, `intercept`, `stack`,
            `time`, `echo`, `phase` (magnitude or phase), `b_value`.
        modality: CT or MR.
        series: name of the series.
        spacing: mm between (rows, columns).
    """
    sop = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    stored, groups = [], []
    for number, frame in enumerate(frames):
        slope, intercept = frame.get("slope", 1.0), frame.get("intercept", -1024.0)
        stored.append(np.rint((frame["plane"] - intercept) / slope).astype(np.uint16))
        group = Dataset()
        group.PlanePositionSequence = [item(ImagePositionPatient=[float(v) for v in frame["position"]])]
        group.PlaneOrientationSequence = [
            item(ImageOrientationPatient=[float(v) for v in frame.get("directions", AXIAL)])
        ]
        group.PixelValueTransformationSequence = [
            item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU" if modality == "CT" else "US")
        ]
        content = {
            "StackID": str(frame.get("stack", 1)),
            "InStackPositionNumber": number + 1,
            "DimensionIndexValues": [1, number + 1],
        }
        if "time" in frame:
            content["TemporalPositionIndex"] = frame["time"]
        group.FrameContentSequence = [item(**content)]
        if "echo" in frame:
            group.MREchoSequence = [item(EffectiveEchoTime=float(frame["echo"]))]
        if "phase" in frame:
            group.MRImageFrameTypeSequence = [
                item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ComplexImageComponent=frame["phase"])
            ]
        if "b_value" in frame:
            group.MRDiffusionSequence = [item(DiffusionBValue=float(frame["b_value"]))]
        groups.append(group)
    made = pixels(dataset(sop, modality, series, path.name), np.stack(stored))
    made.NumberOfFrames, made.ImageType = len(frames), ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    made.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[item(PixelSpacing=list(spacing), SliceThickness=THICK)])
    ]
    made.PerFrameFunctionalGroupsSequence = groups
    made.DimensionOrganizationSequence = [item(DimensionOrganizationUID=uid("dimensions"))]
    made.DimensionIndexSequence = [
        item(DimensionOrganizationUID=uid("dimensions"), DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111)
        for tag in (0x00209056, 0x00209057)
    ]
    return save(made, path)


def item(**values) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def frames_of(values: np.ndarray, order=None, *, spacing=THICK, **options) -> list[dict]:
    """Frames of a volume in an order; options of a frame that are functions are called with k."""
    order = range(len(values)) if order is None else order
    return [
        {"plane": values[k], "position": (*ORIGIN[:2], ORIGIN[2] + spacing * int(k)),
         **{name: value(int(k)) if callable(value) else value for name, value in options.items()}}
        for k in order
    ]  # fmt: skip


def write_dose(path: Path, values: np.ndarray, scaling: float, offsets: Sequence[float]) -> Path:
    """Write an RTDOSE grid; `values` are stored, `offsets` mm along z."""
    made = pixels(dataset(RTDoseStorage, "RTDOSE", "dose", path.name), values.astype(np.uint16))
    made.ImagePositionPatient, made.ImageOrientationPatient = list(ORIGIN), list(AXIAL)
    made.PixelSpacing, made.NumberOfFrames = list(SPACING), len(values)
    made.FrameIncrementPointer, made.GridFrameOffsetVector = 0x3004000C, [float(v) for v in offsets]
    made.DoseUnits, made.DoseType, made.DoseSummationType, made.DoseGridScaling = "GY", "PHYSICAL", "PLAN", scaling
    return save(made, path)
