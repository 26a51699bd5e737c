"""Reports on pictures without a place in the patient are exported: PDF, key images and FHIR, no segmentation."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from support.dicom_readers import validator_errors

from MedFMLib.core.findings import KeyImage, Report, ReportSection, SliceReference
from MedFMLib.core.geometry import picture_geometry
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import InputError
from MedFMLib.exports import check, read_source, write_dicom
from MedFMLib.files import read_image


@pytest.fixture
def radiographs(tmp_path):
    """A study of two views of different sizes in one series, as DX."""
    series, study = generate_uid(), generate_uid()
    for number, (rows, columns) in enumerate(((64, 48), (40, 56)), 1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
        data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality, data.InstanceNumber = study, series, "DX", number
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelData = np.random.default_rng(number).integers(0, 4000, (rows, columns)).astype("<u2").tobytes()
        pydicom.dcmwrite(tmp_path / f"{number}.dcm", data)
    return tmp_path


def test_a_report_on_two_views_is_exported_with_the_view_that_it_shows(radiographs, tmp_path):
    image, source = read_image(radiographs), read_source(radiographs)
    assert image.geometry.is_picture and len(source.slices) == 2
    check(source, tmp_path / "out", image.geometry, pdf=True)
    picture = KeyImage("lateral", SliceReference("picture", 1, (0.0, 0.0, 1.0)), b"", b"")
    report = Report("Chest", (ReportSection("Findings", ("None.",)),), (picture,))
    files = write_dicom(tmp_path / "out", "x", Response((report,), Provenance("report", "m")), source, b"%PDF-1.4")
    assert [path.name for path in files] == ["x.report.pdf", "x.fhir.json", "x.pdf.dcm", "x.kos.dcm"]
    for path in files[2:]:
        assert validator_errors(path, source.headers)[0] == []
    chosen = [
        item.ReferencedSOPSequence[0] for item in pydicom.dcmread(files[3]).ContentSequence if item.ValueType == "IMAGE"
    ]
    assert [str(item.ReferencedSOPInstanceUID) for item in chosen] == [source.slices[1].instance]


def test_segments_on_a_picture_are_refused_with_another_way(radiographs):
    with pytest.raises(InputError, match="no position in the patient"):
        check(read_source(radiographs), None)
    with pytest.raises(InputError, match="the series has 56×64×2"):
        check(read_source(radiographs), None, picture_geometry(48, 64, 2), pdf=True)
