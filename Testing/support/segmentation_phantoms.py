"""Two blocks in a CT of few voxels, and writers of segmentations as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from MedFMLib.core.geometry import Geometry

SHAPE = (48, 40, 10)
LPS = np.array([[2.0, 0, 0, -47], [0, 2.0, 0, -39], [0, 0, 5.0, 0], [0, 0, 0, 1]])
RAS = np.diag([-1.0, -1, 1, 1]) @ LPS
GRID = Geometry(SHAPE, RAS)


def uid(*parts) -> str:
    """The same UID for the same words."""
    return generate_uid(entropy_srcs=["medfm-segmentation-phantom", *map(str, parts)])


def blocks() -> tuple[np.ndarray, np.ndarray]:
    """Return two (I, J, K) bool blocks of 400 and 200 voxels: 8 mL on the patient's right, 4 mL on the left."""
    one, two = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[8:16, 10:20, 2:7] = True
    two[30:40, 12:22, 3:5] = True
    return one, two


def label_map() -> np.ndarray:
    """(I, J, K) uint8: 1 and 2 in the blocks."""
    one, two = blocks()
    return (one + 2 * two).astype(np.uint8)


def write_nifti_with_nibabel(path: Path, values: np.ndarray, affine: np.ndarray = RAS) -> Path:
    """Write a NIfTI file with both transforms."""
    import nibabel

    image = nibabel.Nifti1Image(values, affine, dtype=values.dtype)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def ct_slices(folder: Path, values: np.ndarray | None = None, lps: np.ndarray = LPS) -> list[FileDataset]:
    """Write a CT series, one file a slice, and return its data sets.

    Args:
        folder: destination.
        values: (I, J, K) HU; the blocks in air by default.
        lps: 4×4, index → LPS mm.
    """
    if values is None:
        one, two = blocks()
        values = -1000 + 1100 * one + 1200 * two
    folder.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    found = []
    for k in range(values.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid("image", folder.name, k)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = uid("study"), uid("series"), uid("frame")
        d.Modality, d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "CT", "Phantom^Block", "P", "", ""
        d.StudyDate, d.StudyTime, d.StudyID, d.AccessionNumber = "20200101", "120000", "1", ""
        d.ReferringPhysicianName, d.Manufacturer, d.PositionReferenceIndicator = "", "Phantom", ""
        d.SeriesNumber, d.InstanceNumber = 1, k + 1
        d.ImagePositionPatient = [round(float(v), 6) for v in (lps @ (0, 0, k, 1))[:3]]
        d.ImageOrientationPatient = [round(float(v), 8) for v in [*lps[:3, 0] / spacing[0], *lps[:3, 1] / spacing[1]]]
        d.PixelSpacing, d.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
        d.SamplesPerPixel, d.PhotometricInterpretation, d.Columns, d.Rows = 1, "MONOCHROME2", *values.shape[:2]
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation, d.RescaleSlope, d.RescaleIntercept = 15, 1, 1, 0
        d.PixelData = np.ascontiguousarray(values[:, :, k].T.astype("<i2")).tobytes()
        d.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
        found.append(d)
    return found


def write_seg(
    path: Path, sources: list, masks: np.ndarray, kind: str = "BINARY", labels=("Liver", "Spleen"), **options
):
    """Write a DICOM SEG with highdicom.

    Args:
        path: the file.
        sources: data sets of the series.
        masks: (K, J, I) or (K, J, I, segments), as highdicom takes them.
        kind: BINARY, FRACTIONAL or LABELMAP.
        labels: of the segments.
        options: of `highdicom.seg.Segmentation`.
    """
    import highdicom as hd

    codes = {"Liver": ("10200004", "Liver"), "Spleen": ("78961009", "Spleen")}
    count = masks.shape[3] if masks.ndim == 4 else int(masks.max()) if kind == "LABELMAP" else 1
    described = [
        hd.seg.SegmentDescription(
            n + 1, labels[n], hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"),
            hd.sr.CodedConcept(codes.get(labels[n], codes["Liver"])[0], "SCT", codes.get(labels[n], codes["Liver"])[1]), "MANUAL",
            display_color=hd.color.CIELabColor.from_rgb(255, min(255, 128 * n), 0),
        )
        for n in range(count)
    ]  # fmt: skip
    made = hd.seg.Segmentation(
        sources, masks, kind, described, uid("seg series", path.name), 5, uid("seg", path.name), 1, "Phantom", "Phantom",
        "1", "1", **options,
    )  # fmt: skip
    made.save_as(path)
    return path


def write_rtstruct(path: Path, structures: dict[str, list[np.ndarray]], kind: str = "CLOSED_PLANAR") -> Path:
    """Write an RTSTRUCT with pydicom.

    Args:
        path: the file.
        structures: name → contours, each (n, 3) LPS mm.
        kind: Contour Geometric Type of all.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = uid("rt", path.name), ExplicitVRLittleEndian
    r = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    r.SOPClassUID, r.SOPInstanceUID, r.Modality = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
        "RTSTRUCT",
    )
    r.StudyInstanceUID, r.SeriesInstanceUID, r.PatientName, r.PatientID = (
        uid("study"),
        uid("rt series"),
        "Phantom^Block",
        "P",
    )
    rois, contours, observations = [], [], []
    for number, (name, lines) in enumerate(structures.items(), 1):
        roi, drawn, observed = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, uid("frame")
        roi.ROIGenerationAlgorithm = "MANUAL"
        drawn.ReferencedROINumber, drawn.ROIDisplayColor, items = number, [255, 0, 51], []
        for line in lines:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(line)
            item.ContourData = [f"{value:.6f}"[:16] for value in np.asarray(line, float).ravel()]
            items.append(item)
        drawn.ContourSequence = Sequence(items)
        observed.ObservationNumber, observed.ReferencedROINumber, observed.RTROIInterpretedType = (
            number,
            number,
            "ORGAN",
        )
        observed.ROIInterpreter = ""
        rois.append(roi), contours.append(drawn), observations.append(observed)
    r.StructureSetROISequence, r.ROIContourSequence = Sequence(rois), Sequence(contours)
    r.RTROIObservationsSequence = Sequence(observations)
    r.save_as(path, enforce_file_format=True)
    return path
