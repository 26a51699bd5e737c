"""Writes an Image as one enhanced multi-frame DICOM file, with its frames in any order, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from MedFMLib.core.geometry import lps_from_ras
from MedFMLib.core.image import Image


def _item(**values) -> Sequence:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return Sequence([made])


def write_enhanced(image: Image, path: Path, order=None, **tags) -> Path:
    """One enhanced CT whose n-th frame is slice `order[n]`; `tags` override attributes of the file."""
    affine, spacing, count = lps_from_ras(image.geometry.affine), image.geometry.spacing, image.geometry.shape[2]
    order = list(range(count) if order is None else order)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    data.Modality, data.PatientName, data.PatientID, data.InstanceNumber = "CT", "Secret^Name", "42", 1
    data.Columns, data.Rows, data.NumberOfFrames = *image.geometry.shape[:2], count
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    cosines = [float(v) for v in [*(affine[:3, 0] / spacing[0]), *(affine[:3, 1] / spacing[1])]]
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=cosines)
    shared.PixelMeasuresSequence = _item(PixelSpacing=[float(spacing[1]), float(spacing[0])], SliceThickness=1.0)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number, k in enumerate(order, 1):
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=[float(v) for v in (affine @ (0, 0, k, 1))[:3]])
        frame.FrameContentSequence = _item(StackID="1", InStackPositionNumber=k + 1, FrameAcquisitionNumber=number)
        frame.PixelValueTransformationSequence = _item(RescaleSlope=1.0, RescaleIntercept=-1024.0, RescaleType="HU")
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for tag, value in tags.items():
        setattr(data, tag, value)
    data.PixelData = np.stack([image.scalars[:, :, k].T + 1024 for k in order]).astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data)
    return path
