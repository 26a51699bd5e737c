"""Writes real DICOM series from Images, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from MedFMLib.core.geometry import lps_from_ras
from MedFMLib.core.image import Image


def write_series(image: Image, folder: Path, *, shuffle: bool = True, **tags) -> list[Path]:
    """One file a slice (along k), in shuffled name order; `tags` override attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = lps_from_ras(image.geometry.affine)
    spacing = image.geometry.spacing
    series, frame = generate_uid(), image.geometry.frame_of_reference or generate_uid()
    order = np.random.default_rng(0).permutation(image.geometry.shape[2]) if shuffle else range(image.geometry.shape[2])
    paths = []
    for name, k in enumerate(order):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage if image.modality == "CT" else MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, generate_uid(), frame
        data.Modality, data.PatientName, data.PatientID = image.modality, "Secret^Name", "42"
        data.Columns, data.Rows = image.geometry.shape[:2]
        data.InstanceNumber = int(k) + 1
        data.ImageOrientationPatient = [
            float(v) for v in [*(affine[:3, 0] / spacing[0]), *(affine[:3, 1] / spacing[1])]
        ]
        data.ImagePositionPatient = [float(v) for v in affine @ (0, 0, k, 1)][:3]
        data.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        data.SliceThickness = float(spacing[2])
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        for tag, value in tags.items():
            setattr(data, tag, value)
        data.PixelData = (image.scalars[:, :, k].T + 1024).astype("<u2").tobytes()
        path = folder / f"{name:04d}.dcm"
        pydicom.dcmwrite(path, data)
        paths.append(path)
    return paths
