"""Who was examined: names of every character set, headers without names, values that DICOM does not allow."""

from __future__ import annotations

import subprocess
import warnings

import numpy as np
import pydicom
import pytest
from support.dicom_readers import validator_errors
from support.dicom_writer import write_series
from support.phantoms import affine, ct_phantom

from MedFMLib.core.findings import KeyImage, Report, ReportSection, Segment, Segmentation, SignOff, SliceReference
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import InputError
from MedFMLib.exports import check, read_source, write_dicom
from MedFMLib.exports.identity import held
from MedFMLib.files import read_image
from MedFMLib.measure import measure

pytest.importorskip("contourpy", reason="contourpy is not installed")

GEOMETRY = Geometry((40, 36, 6), affine(np.diag([-1.0, -1.0, 1.0]), (8.0, 6.0, 15.0)))
TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
          "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "SeriesNumber", "Manufacturer")  # fmt: skip
SIGNER = "Łukasz Ångström-López"
NAMES = {
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "western": ("ISO_IR 100", "Müller^Jürgen"),
    "greek": ("ISO_IR 126", "Διονυσιος"),
    "russian": ("ISO_IR 144", "Люкceмбypг"),
    "unicode": ("ISO_IR 192", "Ångström^Łukasz"),
}


def series(folder, change=lambda data: None, raw=(), **tags):
    """A small CT; `change` edits each dataset before it is written, `raw` replaces bytes of the file."""
    study = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77", "StudyDate": "20260102", "StudyTime": "101500"}
    for path in write_series(ct_phantom(GEOMETRY), folder, **study, **tags):
        data = pydicom.dcmread(path)
        change(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.save_as(path)
        for old, new in raw:
            content = path.read_bytes()
            assert len(old) == len(new) and old in content
            path.write_bytes(content.replace(old, new))
    return folder


def exported(path, folder):
    """Kind → dataset of everything that can be written for a series; the validator found nothing in any."""
    image, source = read_image(path), read_source(path)
    check(source, folder, image.geometry, pdf=True, rtstruct=True)
    segmentation = Segmentation((Segment("Läsion 肝", image.scalars == 90),), image.geometry)
    place = SliceReference("axial", 2, tuple(image.geometry.to_world((5, 5, 2))))
    report = Report("Größe", (ReportSection("Findings", ("None.",)),), (KeyImage("ä", place, b"", b""),),
                    signed=SignOff(SIGNER, "2026-11-24T00:00:00+00:00"))  # fmt: skip
    response = Response((report, segmentation, *measure(segmentation, image)), Provenance("segment", "m"))
    files = write_dicom(folder, "x", response, source, b"%PDF-1.4", rtstruct=True)
    objects = {path.suffixes[-2][1:]: path for path in files if path.suffix == ".dcm"}
    assert set(objects) == {"seg", "sr", "rtstruct", "pdf", "kos"}
    for kind, path in objects.items():
        ours, _ = validator_errors(path, source.headers)
        assert not ours, (kind, ours)
    return {kind: pydicom.dcmread(path) for kind, path in objects.items()}, source


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_every_character_set_read_back_letter_by_letter(kind, tmp_path):
    charset, name = NAMES[kind]

    def change(data):
        data.SpecificCharacterSet = charset
        data.PatientName = name
        data.StudyDescription = name.split("=")[-1].replace("^", " ")

    objects, source = exported(series(tmp_path / "in", change), tmp_path / "out")
    assert not source.notes
    for data in objects.values():
        assert data.SpecificCharacterSet == "ISO_IR 192"
        assert str(data.PatientName) == name
        assert data.StudyDescription == name.split("=")[-1].replace("^", " ")
    assert objects["seg"].SegmentSequence[0].SegmentLabel == "Läsion 肝"
    assert objects["rtstruct"].StructureSetROISequence[0].ROIName == "Läsion 肝"
    assert str(objects["sr"].VerifyingObserverSequence[0].VerifyingObserverName) == "Ångström-López^Łukasz"
    assert objects["pdf"].DocumentTitle == "Größe"


def test_dcmtk_reads_the_names_as_utf_8(tmp_path):
    """The bytes in the file, without pydicom: UTF-8 of the name."""
    exported(series(tmp_path / "in", lambda d: setattr(d, "PatientName", "Muller^J")), tmp_path / "out")
    assert "Läsion 肝".encode() in (tmp_path / "out" / "x.seg.dcm").read_bytes()
    try:
        done = subprocess.run(["dcdump", tmp_path / "out" / "x.seg.dcm"], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("dcdump is not installed (Debian: dicom3tools)")
    assert b"ISO_IR 192" in done.stderr + done.stdout


@pytest.mark.parametrize("charset", [None, "UTF-8", "ISO_IR 999", ["ISO 2022 IR 9999"]])
def test_utf_8_without_or_with_a_wrong_character_set_is_recognised(charset, tmp_path):
    def change(data):
        data.PatientName = "Mueller^X"
        if charset is not None:
            data.SpecificCharacterSet = charset

    path = series(tmp_path / "in", change, [(b"Mueller^X", "Müller^X".encode())])
    objects, _ = exported(path, tmp_path / "out")
    assert {str(data.PatientName) for data in objects.values()} == {"Müller^X"}


def test_latin_1_without_a_character_set_keeps_its_letters(tmp_path):
    path = series(tmp_path / "in", lambda d: setattr(d, "PatientName", "Muxller^X"), [(b"Muxller^X", "Mü" .encode("latin-1") + b"sller^X")])  # fmt: skip # noqa: E501
    objects, _ = exported(path, tmp_path / "out")
    assert {str(data.PatientName) for data in objects.values()} == {"Müsller^X"}


def test_an_anonymised_series_is_exported_with_empty_values(tmp_path):
    def change(data):
        for name in TYPE_2:
            if name in data:
                delattr(data, name)

    objects, source = exported(series(tmp_path / "in", change), tmp_path / "out")
    assert not source.notes
    for data in objects.values():
        assert {name: str(data.get(name) or "") for name in TYPE_2[:9]} == dict.fromkeys(TYPE_2[:9], "")
        assert "PatientName" in data and "StudyID" in data


def test_values_that_dicom_does_not_allow_are_repaired_or_left_out(tmp_path):
    def change(data):
        data.PatientName = "Right^Name"
        data.PatientBirthDate, data.StudyDate, data.StudyTime = "1950", "2020.01.02", "12:00:00"
        data.PatientSex, data.PatientID, data.StudyID, data.PatientAge = "W", "P" * 80, "S" * 20, "45Y"
        data.StudyDescription = "a\\b"

    objects, source = exported(series(tmp_path / "in", change), tmp_path / "out")
    for data in objects.values():
        names = ("PatientBirthDate", "StudyDate", "StudyTime", "PatientSex", "PatientID", "StudyID")
        found = tuple(data.get(name) or "" for name in names)
        assert found == ("", "20200102", "120000", "", "P" * 64, "S" * 16)
        assert str(data.PatientName) == "Right^Name"
        assert (data.PatientAge, data.StudyDescription) == ("045Y", "a/b")
    assert "PatientBirthDate" in source.notes[0] and "PatientName" not in source.notes[0]


def test_a_series_without_a_frame_of_reference_gets_the_same_new_one_each_time(tmp_path):
    path = series(tmp_path / "in", lambda data: delattr(data, "FrameOfReferenceUID"))
    objects, source = exported(path, tmp_path / "out")
    uid = source.first.FrameOfReferenceUID
    assert uid == objects["seg"].FrameOfReferenceUID == objects["rtstruct"].FrameOfReferenceUID
    assert uid == read_source(path).first.FrameOfReferenceUID
    assert "Frame of Reference" in source.notes[0]
    other = read_source(series(tmp_path / "other", lambda data: delattr(data, "FrameOfReferenceUID")))
    assert other.first.FrameOfReferenceUID != uid


def test_codes_of_the_study_are_kept_whole_or_left_out(tmp_path):
    def code(value, meaning):
        item = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99X", meaning
        return [item]

    def change(data):
        data.SpecificCharacterSet = "ISO_IR 100"
        data.PatientIdentityRemoved, data.DeidentificationMethodCodeSequence = "YES", code("1", "Löschung")
        data.ProcedureCodeSequence = code("2" * 30, "too long a value")

    objects, source = exported(series(tmp_path / "in", change), tmp_path / "out")
    for kind in ("seg", "rtstruct", "pdf"):
        assert objects[kind].DeidentificationMethodCodeSequence[0].CodeMeaning == "Löschung"
        assert "ProcedureCodeSequence" not in objects[kind]
    assert "ProcedureCodeSequence" in source.notes[0]


def test_a_series_without_a_study_uid_is_refused_before_anything_is_written(tmp_path):
    path = series(tmp_path / "in", lambda data: delattr(data, "StudyInstanceUID"))
    with pytest.raises(InputError, match="lacks the tag StudyInstanceUID"):
        read_source(path)


@pytest.mark.parametrize(
    ("vr", "text", "expected"),
    [("DA", "20260230", ""), ("DA", "2026-02-28", "20260228"), ("TM", "2500", ""), ("TM", "1015", "1015"), ("CS", "yes", "YES"),
     ("CS", "a-b", ""), ("DS", "1,5", ""), ("DS", "1.5", "1.5"), ("LO", "a\nb", "ab"), ("LO", "ä" * 70, "ä" * 64),
     ("PN", "A" * 80 + "^B=C", "A" * 64 + "=C"), ("AS", "7 years", ""), ("ST", "a\\b\nc", "a\\b\nc")],
)  # fmt: skip
def test_a_value_is_what_its_representation_allows(vr, text, expected):
    assert held(vr, text) == expected
