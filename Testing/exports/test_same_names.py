"""Identity is a segment's place, never its name: segments of one name stay apart in every object and table."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from support.dicom_readers import measurements_by_dcmqi, rebuilt_by_dcmqi
from support.dicom_writer import write_series
from support.phantoms import affine, ct_phantom

from MedFMLib.core.findings import Code, OutlineCheck, Report, Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.request import Provenance, Request, Response
from MedFMLib.errors import InputError, ModelError, OutputError
from MedFMLib.exports import check, read_source, write_dicom
from MedFMLib.exports.fhir import diagnostic_report
from MedFMLib.exports.segmentation import segmentation_object
from MedFMLib.fact_check import check as check_text
from MedFMLib.files import read_image, write_segmentation
from MedFMLib.files.tables import as_csv
from MedFMLib.interfaces import registry
from MedFMLib.measure import as_table, measure, measure_fully
from MedFMLib.patient.glossary import glossary
from MedFMLib.patient.wording import plain_lines
from MedFMLib.reports.document import ReportMaterial, make_report
from MedFMLib.reports.templates import choose_template

LONG = "a lesion that is followed since the first visit, in the liver's right lobe"
GEOMETRY = Geometry((48, 40, 10), affine(np.diag([-1.0, -1.0, 1.0]), (2.0, 2.0, 5.0), (47, 39, 0)))
STUDY = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77", "StudyDate": "20260102", "StudyTime": "101500"}
HERE = __file__


def block(i, j, k):
    mask = np.zeros(GEOMETRY.shape, bool)
    mask[slice(*i), slice(*j), slice(*k)] = True
    return mask


ONE = block((8, 16), (10, 20), (2, 7))  # 400 voxels of 20 mm³: 8 mL
TWO = block((30, 40), (12, 22), (3, 5))  # 4 mL
VOLUMES = [8.0, 4.0]


@pytest.fixture
def ct(tmp_path):
    write_series(ct_phantom(GEOMETRY), tmp_path / "ct", **STUDY)
    return tmp_path / "ct"


def two(first="lesion", second="lesion", **more):
    return Segmentation((Segment("nothing", ONE & False), Segment(first, ONE, **more), Segment(second, TWO)), GEOMETRY)


@pytest.mark.parametrize("names", [("lesion", "lesion"), (LONG, LONG + ", second"), ("", "")])
def test_two_segments_of_one_name_are_two_segments_and_two_groups(ct, tmp_path, names):
    image = read_image(ct)
    segmentation = two(*names)
    measurements = measure_fully(segmentation, image)
    response = Response((segmentation, *measurements), Provenance("segment", "m"))
    write_dicom(tmp_path, "x", response, read_source(ct))
    rebuilt = rebuilt_by_dcmqi(tmp_path / "x.seg.dcm", tmp_path / "dcmqi")
    assert [rebuilt[n][1] for n in (1, 2)] == pytest.approx(VOLUMES)
    groups = measurements_by_dcmqi(tmp_path / "x.sr.dcm", tmp_path / "sr")
    assert [g["ReferencedSegment"] for g in groups] == [1, 2]
    found = [
        [float(i["value"]) for i in g["measurementItems"] if i["quantity"]["CodeMeaning"] == "Volume"] for g in groups
    ]
    assert found == [[8.0], [4.0]]
    data = pydicom.dcmread(tmp_path / "x.seg.dcm")
    assert len({str(item.TrackingUID) for item in data.SegmentSequence}) == 2
    assert [g["TrackingUniqueIdentifier"] for g in groups] == [str(item.TrackingUID) for item in data.SegmentSequence]
    if names[0] == LONG:  # the whole name stands beside the short one
        assert [item.SegmentDescription for item in data.SegmentSequence] == list(names)
        first, second = (item.SegmentLabel for item in data.SegmentSequence)
        assert first != second and max(len(first), len(second)) <= 64
        assert first.startswith(LONG[:35]) and second.endswith(", second")
    if not names[0]:
        assert [item.SegmentLabel for item in data.SegmentSequence] == ["segment 1", "segment 2"]


def test_a_structured_report_says_which_check_an_outline_failed_and_the_interval(ct, tmp_path):
    segmentation = two()
    failed = OutlineCheck(
        "volume", "its volume is too small", "Lesion: volume 8 mL, where 20 to 30 mL are expected (x)."
    )
    measurements = [
        replace(m, checks=(failed,), verdict="flagged")
        if m.number == 2
        else replace(m, low=3.5, high=4.5)
        if m.name == "volume"
        else m
        for m in measure(segmentation, read_image(ct))
    ]
    write_dicom(tmp_path, "x", Response((segmentation, *measurements), Provenance("segment", "m")), read_source(ct))
    found = []

    def collect(item):
        if item.get("ValueType") == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == "121106":
            found.append(str(item.TextValue))
        for inner in item.get("ContentSequence", ()):
            collect(inner)

    collect(pydicom.dcmread(tmp_path / "x.sr.dcm"))
    assert found == [failed.sentence, "95 % interval 3.5 to 4.5 mL"]


def test_tables_reports_and_resources_have_a_row_for_each(ct):
    image = read_image(ct)
    segmentation = two()
    measurements = measure(segmentation, image)
    assert {m.number for m in measurements} == {2, 3}
    _, rows = as_table(measurements)
    assert [(row[0], row[2]) for row in rows] == [("lesion (segment 2)", "8.0"), ("lesion (segment 3)", "4.0")]
    material = ReportMaterial(image, registry.card("medfm-tiny"), segmentation, measurements, [], [], [],
                              Provenance("report", "m"), "axial")  # fmt: skip
    report = make_report(material, choose_template("", "CT", ["lesion"]), Request("report", image))
    findings = next(s for s in report.sections if s.title == "Findings")
    assert [p.split(",")[0] for p in findings.paragraphs] == [
        "Lesion (segment 2): 8.0 mL",
        "Lesion (segment 3): 4.0 mL",
    ]
    assert [link.segment for link in findings.links] == ["lesion (segment 2)", "lesion (segment 3)"]
    assert [link.slice.number for link in findings.links] == [2, 3]
    assert list(report.colors) == ["nothing", "lesion (segment 2)", "lesion (segment 3)"]  # numbers of the label images
    assert 'id="m-2"' in report.html and 'id="m-3"' in report.html
    assert "2 structures delineated" in report.text
    resource = diagnostic_report(report, measurements, None, Provenance("report", "m"))
    volumes = {
        o["code"]["text"]: o["valueQuantity"]["value"] for o in resource["contained"] if "volume" in o["code"]["text"]
    }
    assert volumes == {"lesion (segment 2) volume": 8.0, "lesion (segment 3) volume": 4.0}
    assert plain_lines(measurements, (), glossary()) == ()  # a lesion has no plain name
    lines = plain_lines([replace(m, segment="liver") for m in measurements], (), glossary())
    assert ["8.0 mL" in lines[0], "4.0 mL" in lines[1]] == [True, True]


def test_a_text_may_state_the_value_of_either(ct):
    measurements = measure(two(), read_image(ct))
    for text in ("The lesion has 8.0 mL.", "The lesion has 4.0 mL.", "There are 2 lesions."):
        assert not check_text(text, measurements).removed, text
    assert check_text("The lesion has 6.0 mL.", measurements).removed
    assert check_text("There are 3 lesions.", measurements).removed


def test_pandas_gets_one_row_a_segment_with_numbers(ct):
    pandas = pytest.importorskip("pandas")
    response = Response(measure(two(), read_image(ct)), Provenance("segment", "m"))
    table = response.measurements_table()
    assert isinstance(table, pandas.DataFrame)
    assert table["volume (mL)"].tolist() == pytest.approx(VOLUMES)
    assert table["number"].tolist() == [2, 3] and table["segment"].tolist() == ["lesion", "lesion"]
    assert table["mean intensity (HU)"].dtype.kind == "f"
    assert len(Response((), Provenance("segment", "m")).measurements_table()) == 0


def test_without_pandas_a_sentence_says_what_to_install(ct, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        Response((), Provenance("segment", "m")).measurements_table()


# -- how it was made, and its codes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "origin", "expected"),
    [("export", "", "MANUAL"), ("export", "AUTOMATIC", "AUTOMATIC"), ("export", "SEMIAUTOMATIC", "SEMIAUTOMATIC"),
     ("outline", "", "SEMIAUTOMATIC"), ("segment", "", "AUTOMATIC"), ("report", "", "AUTOMATIC")],
)  # fmt: skip
def test_a_segment_says_how_it_was_made(ct, task, origin, expected):
    provenance = Provenance(task, "" if task == "export" else "medfm-tiny")
    data = segmentation_object(two(origin=origin), read_source(ct), provenance)
    item = data.SegmentSequence[0]
    assert item.SegmentAlgorithmType == expected
    assert ("SegmentAlgorithmName" in item) == (expected != "MANUAL")


def test_the_files_own_codes_win_over_those_of_the_name(ct):
    own = {"category": Code("49755003", "SCT", "Morphologically Altered Structure"), "code": Code("4147007", "SCT", "Mass"),
           "side": Code("24028007", "SCT", "Right")}  # fmt: skip
    item = segmentation_object(two("liver", **own), read_source(ct), Provenance("export", "")).SegmentSequence[0]
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert (kind.CodeValue, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("4147007", "Right")


def test_overlapping_segments_are_both_whole(ct, tmp_path):
    segmentation = Segmentation((Segment("a", ONE), Segment("b", ONE | TWO)), GEOMETRY)
    data = segmentation_object(segmentation, read_source(ct), Provenance("segment", "m"))
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    rebuilt = rebuilt_by_dcmqi(tmp_path / "a.dcm", tmp_path / "dcmqi")
    assert [rebuilt[n][1] for n in (1, 2)] == pytest.approx([8.0, 12.0])
    assert (data.SegmentsOverlap, segmentation_object(two(), read_source(ct), Provenance("segment", "m")).SegmentsOverlap) == (
        "YES", "NO",
    )  # fmt: skip


# -- before the long run, and the commands -----------------------------------------------------------------


def test_what_an_export_needs_is_checked_before(ct, tmp_path, monkeypatch):
    source = read_source(ct)
    check(source, tmp_path / "new" / "folder", GEOMETRY, pdf=True, rtstruct=True)
    with pytest.raises(InputError, match="begins 3.0 mm from"):
        check(source, None, GEOMETRY.transformed(affine(origin=(3, 0, 0))))
    stretched = GEOMETRY.affine.copy()
    stretched[2, 2] *= 1.04
    with pytest.raises(InputError, match="Slice 9 of the result lies 1.8 mm"):
        check(source, None, Geometry(GEOMETRY.shape, stretched))
    turned = GEOMETRY.affine @ affine(spacing=(1.05, 1, 1))
    with pytest.raises(InputError, match="rows and columns differ"):
        check(source, None, Geometry(GEOMETRY.shape, turned))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="can't be written"):
        check(source, tmp_path / "file")
    for name, needed in (("highdicom", {}), ("contourpy", {"rtstruct": True})):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ModelError, match=name):
                check(source, None, **needed)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ModelError, match="reportlab"):
            check(source, None, pdf=True)


def medfm(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "MedFMLib.cli", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_report_checks_the_export_before_it_runs(ct, tmp_path, monkeypatch):
    """Without highdicom, the command ends before the model is loaded."""
    (tmp_path / "missing" / "highdicom").mkdir(parents=True)
    (tmp_path / "missing" / "highdicom" / "__init__.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "missing"))
    done = medfm("report", ct, "--dicom", "--model", "no-such-model", "--output", tmp_path / "out")
    assert done.returncode and "highdicom" in done.stderr, done.stderr
    assert not list((tmp_path / "out").glob("*"))


def test_one_phase_of_two_is_measured_and_exported(tmp_path):
    image = ct_phantom(GEOMETRY)
    for number in (1, 2):
        brighter = type(image)(image.voxels + 100 * (number - 1), image.geometry, "CT")
        write_series(brighter, tmp_path / "ct" / str(number), SeriesInstanceUID="1.2.3.4", AcquisitionNumber=number,
                     FrameOfReferenceUID="1.2.3.5", **STUDY)  # fmt: skip
    segments = write_segmentation(tmp_path / "a.seg.nrrd", two())
    done = medfm("measure", tmp_path / "ct", segments)
    assert "choose one with --frame" in done.stderr
    means = []
    for frame in (0, 1):
        done = medfm("measure", tmp_path / "ct", segments, "--frame", frame, "--json")
        means.append(next(m["value"] for m in json.loads(done.stdout) if m["name"] == "mean intensity"))
    assert means[1] - means[0] == pytest.approx(100)
    done = medfm("export", tmp_path / "ct", segments, "--frame", 1, "--rtstruct", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    second = {
        str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in (tmp_path / "ct" / "2").iterdir()
    }
    for kind in ("seg", "sr", "rtstruct"):
        data = pydicom.dcmread(tmp_path / "out" / f"ct.{kind}.dcm")
        named = {str(e.value) for e in data.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
        assert second & named and len(named - second) <= 1, kind  # besides the segmentation, or the study


def test_a_name_can_not_become_a_formula(ct, tmp_path):
    names = ("=HYPERLINK(1)", "@x")
    segments = write_segmentation(tmp_path / "a.seg.nrrd", two(*names))
    done = medfm("measure", ct, segments, "-o", tmp_path / "m.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "m.csv").read_text())))
    assert {row["segment"] for row in rows} == {"'" + name for name in names}
    assert {row["number"] for row in rows} == {"1", "2"}  # segments without a voxel are not in the file
    centroid = next(row["value"] for row in rows if row["name"] == "centroid R" and row["segment"] == "'@x")
    assert float(centroid) == pytest.approx(float(GEOMETRY.to_world(np.argwhere(TWO).mean(axis=0))[0]))
    assert as_csv(("a",), [(-1.5,), ("-1.5",), ("\tx",), ("+1",), ("plain",)]) == "a\n-1.5\n'-1.5\n'\tx\n'+1\nplain\n"


def test_a_report_without_a_structure_is_exported_without_a_segmentation(ct, tmp_path):
    empty = Segmentation((Segment("x", ONE & False),), GEOMETRY)
    response = Response((Report("T", ()), empty), Provenance("report", "m"))
    names = [path.name for path in write_dicom(tmp_path, "x", response, read_source(ct), b"%PDF-1.4")]
    assert names == ["x.report.pdf", "x.fhir.json", "x.pdf.dcm"]
