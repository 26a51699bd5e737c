"""Results as DICOM objects and FHIR: they keep the study's identity and position, pass the validator, can be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from support.dicom_writer import write_series
from support.phantoms import affine, ct_phantom, rotation

from MedFMLib.core.findings import Answer, Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.request import Provenance, Request, Response
from MedFMLib.core.terminology import structure
from MedFMLib.errors import InputError, OutputError
from MedFMLib.exports import read_source, write_dicom
from MedFMLib.exports.fhir import diagnostic_report
from MedFMLib.files import read_image, write_segmentation
from MedFMLib.files.segmentations import read_segmentation
from MedFMLib.imaging.key_images import choose_slices_to_show, key_image
from MedFMLib.interfaces import registry
from MedFMLib.measure import measure
from MedFMLib.reports.document import ReportMaterial, make_report
from MedFMLib.reports.pdf import as_pdf
from MedFMLib.reports.stack import make_stack
from MedFMLib.reports.templates import choose_template

KINDS = ("seg", "sr", "pdf", "kos")
REAL = {"CT": ("dicom_seg", "ct"), "MR": ("dicom_mr_brain",)}


def study(folder: Path):
    """A phantom on an oblique grid as a CT series of one study."""
    geometry = Geometry(
        (40, 36, 12), affine(rotation(8, -11, 14), (5.0, 5.0, 9.0), (50, -40, 30)), "1.2.826.0.1.3680043.8.498.1"
    )
    tags = {
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77", "StudyDate": "20260102", "StudyTime": "101500", "StudyID": "7",
        "AccessionNumber": "A1", "PatientBirthDate": "19700101", "PatientSex": "O", "ReferringPhysicianName": "",
        "SeriesNumber": 3, "PositionReferenceIndicator": "", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    }  # fmt: skip
    write_series(ct_phantom(geometry), folder, **tags)
    return folder


def respond(image) -> Response:
    """A segmentation of two bright halves, measured and reported."""
    bright = image.scalars > np.percentile(image.scalars, 80)
    half = np.arange(image.geometry.shape[0])[:, None, None] < image.geometry.shape[0] / 2
    segments = []
    for label, mask in (("left lung", bright & half), ("liver", bright & ~half)):
        known = structure(label)
        segments.append(Segment(label, mask, known.color, known.category, known.code, known.side))
    segmentation = Segmentation(tuple(segments), image.geometry)
    measurements = measure(segmentation, image)
    provenance = Provenance("report", "medfm-tiny", "abc123", "nf4", started="2026-11-24T00:00:00+00:00")
    pictures = [key_image(image, "axial", n, segments) for n, _ in choose_slices_to_show(segmentation, "axial")]
    material = ReportMaterial(
        image, registry.card("medfm-tiny"), segmentation, measurements, ["spleen"], [Answer("What?", "A liver.")], pictures,
        provenance, "axial", "Größe ≥ 3 – “quoted”", stack=make_stack(image, segmentation, "axial"),
    )  # fmt: skip
    report = make_report(
        material, choose_template("", image.modality, ["left lung", "liver"]), Request("report", image)
    )
    return Response((report, segmentation, *measurements), provenance)


def write_with_pdf(folder, name, response, source):
    """Export a response with its report's PDF, as the command and the panel do."""
    pdf = as_pdf(response.report, response.measurements) if response.report is not None else b""
    return write_dicom(folder, name, response, source, pdf)


@pytest.fixture(scope="module", params=["phantom", *REAL])
def exported(request, open_data, tmp_path_factory):
    """(image, response, source, kind → dataset, kind → path) of a phantom's study and two real ones."""
    folder = tmp_path_factory.mktemp("out")
    path = study(tmp_path_factory.mktemp("study")) if request.param == "phantom" else open_data(*REAL[request.param])
    image, source = read_image(path), read_source(path)
    response = respond(image)
    write_with_pdf(folder, "case", response, source)
    paths = {kind: folder / f"case.{kind}.dcm" for kind in KINDS}
    return image, response, source, {kind: pydicom.dcmread(p) for kind, p in paths.items()}, paths


def test_every_object_is_of_the_study_and_the_patient(exported):
    _, _, source, objects, _ = exported
    for name in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "AccessionNumber"):
        expected = getattr(source.first, name, "") or ""
        assert {str(getattr(data, name, "") or "") for data in objects.values()} == {str(expected)}, name
    series = {data.SeriesInstanceUID for data in objects.values()}
    assert len(series) == len(KINDS)
    assert source.first.SeriesInstanceUID not in series


def test_every_object_names_the_instances_that_it_rests_on(exported):
    _, _, source, objects, _ = exported
    instances = {str(header.SOPInstanceUID) for header in source.headers}
    for kind, data in objects.items():
        named = {
            str(element.value) for element in data.iterall() if element.keyword == "ReferencedSOPInstanceUID"
        }  # fmt: skip
        assert named & instances, kind
        assert named <= instances | {str(objects["seg"].SOPInstanceUID)}, kind


def test_the_validator_finds_no_error(exported):
    """dciodvfy of dicom3tools; errors about identifiers that the study came with are the study's."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    _, _, source, _, paths = exported
    inherited = {str(e.value) for header in source.headers for e in header if e.VR == "UI"}
    for kind, path in paths.items():
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
        errors = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("Error")]
        ours = [line for line in errors if not any(f'"{uid}"' in line for uid in inherited)]
        assert not ours, (kind, ours[:5])


def test_the_segmentation_lands_on_the_source_grid(exported):
    """Frame by frame, so that series whose slices are shifted against each other count, too."""
    image, response, _, objects, paths = exported
    data = objects["seg"]
    shared = data.SharedFunctionalGroupsSequence[0]
    rows, columns = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    found = {1: set(), 2: set()}
    for frame, group in zip(data.pixel_array, data.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.nonzero(frame)
        points = corner + np.outer(column * columns, directions[0]) + np.outer(row * rows, directions[1])
        index = image.geometry.to_index(points * (-1, -1, 1))
        assert (np.abs(index - np.rint(index)) * image.geometry.spacing).max() < 0.11  # GE rounds positions to 0.1 mm
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[number] |= set(map(tuple, np.rint(index).astype(int).tolist()))
    for number, segment in enumerate(response.segmentation.segments, 1):
        assert found[number] == set(map(tuple, np.argwhere(segment.mask).tolist()))
    assert [highdicom.seg.segread(paths["seg"]).get_segment_description(n).segment_label for n in (1, 2)] == [
        "left lung",
        "liver",
    ]


def test_segments_keep_their_codes_side_and_colour(exported):
    _, response, _, objects, _ = exported
    lung, liver = objects["seg"].SegmentSequence
    assert lung.SegmentedPropertyTypeCodeSequence[0].CodeValue == response.segmentation["left lung"].code.value
    modifier = lung.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert "medfm-tiny" in liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName
    assert list(liver.RecommendedDisplayCIELabValue) != list(lung.RecommendedDisplayCIELabValue)


def test_measurements_read_back_with_unit_and_segment(exported):
    _, response, _, objects, paths = exported
    report = highdicom.sr.srread(paths["sr"])
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["left lung", "liver"]
    for group in groups:
        expected = {m.name: m for m in response.measurements if m.segment == group.tracking_identifier}
        found = {item.name.value: item for item in group.get_measurements()}
        volume = found["118565006"]
        assert volume.value == pytest.approx(expected["volume"].value, rel=1e-5)
        assert volume.unit.value == "mL"
        assert found["Q4LE"].value == pytest.approx(expected["mean intensity"].value, rel=1e-5)
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == objects["seg"].SOPInstanceUID
    assert objects["sr"].VerificationFlag == "UNVERIFIED"


def test_the_pdf_is_whole_and_says_draft(exported):
    _, _, _, objects, paths = exported
    data = objects["pdf"]
    pdf = bytes(data.EncapsulatedDocument)[: data.EncapsulatedDocumentLength]
    assert pdf == (paths["pdf"].parent / "case.report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
        for words in (
            "DRAFT, not signed",
            "Findings",
            "Liver:",
            "Größe ≥ 3 – “quoted”",
            "Key images",
            "not a medical device",
        ):
            assert words in text, words


def test_key_objects_are_the_pictures_instances(exported):
    image, response, source, objects, _ = exported
    numbers = {round(float(image.geometry.to_index(p.slice.center)[2])) for p in response.report.key_images}
    expected = {str(source.slice(n).SOPInstanceUID) for n in numbers}
    found = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in objects["kos"].ContentSequence
        if item.ValueType == "IMAGE"
    }
    assert found == expected


def test_fhir_is_valid_and_preliminary(exported):
    from fhir.resources.diagnosticreport import DiagnosticReport

    _, response, source, _, paths = exported
    content = json.loads((paths["pdf"].parent / "case.fhir.json").read_text())
    made = DiagnosticReport.model_validate(content)
    assert made.status == "preliminary"
    numbers = [m for m in response.measurements if not isinstance(m.value, str)]
    assert len(made.contained) == len(numbers) == len(made.result)
    assert source.first.StudyInstanceUID in json.dumps(content)
    assert diagnostic_report(response.report, (), None, response.provenance, state="signed")["status"] == "final"


# -- what goes wrong ---------------------------------------------------------------------------------------


@pytest.fixture
def phantom_study(tmp_path):
    return study(tmp_path / "study")


def test_a_result_of_another_series_is_refused(phantom_study, tmp_path):
    source = read_source(phantom_study)
    with pytest.raises(InputError, match=r"lies on .* voxels, the series has 40×36×12"):
        write_with_pdf(tmp_path, "x", respond(ct_phantom()), source)
    image = read_image(phantom_study)
    moved = type(image)(image.voxels, image.geometry.transformed(affine(origin=(3, 0, 0))), "CT")
    with pytest.raises(InputError, match=r"begins 3\.0 mm from"):
        write_with_pdf(tmp_path, "x", respond(moved), source)
    assert not list(tmp_path.glob("x*"))


def test_an_empty_segmentation_is_refused(phantom_study, tmp_path):
    image = read_image(phantom_study)
    empty = Segmentation((Segment("liver", np.zeros(image.geometry.shape, bool)),), image.geometry)
    with pytest.raises(InputError, match="nothing to export"):
        write_with_pdf(tmp_path, "x", Response((empty,), Provenance("segment", "m")), read_source(phantom_study))


def test_a_full_disk_leaves_no_half_file(phantom_study, tmp_path):
    import resource

    image = read_image(phantom_study)
    (tmp_path / "x.seg.dcm").write_text("from before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(OutputError, match="can't be written"):
            write_with_pdf(tmp_path, "x", respond(image), read_source(phantom_study))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "x.seg.dcm").read_text() == "from before"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["x.seg.dcm"]


def test_an_export_that_is_killed_leaves_no_half_file_under_a_final_name(phantom_study, tmp_path):
    """Killed at twelve moments; whatever stands under a final name can be read."""
    script = """
import sys; sys.path[:0] = sys.argv[1:3]
from exports.test_dicom_objects import *
image, source = read_image(Path(sys.argv[3])), read_source(Path(sys.argv[3]))
response = respond(image)
print("ready", flush=True)
write_with_pdf(Path(sys.argv[4]), "x", response, source)
"""
    here = Path(__file__).resolve().parents[1]
    for moment in range(12):
        folder = tmp_path / f"out{moment}"
        command = [sys.executable, "-c", script, str(here), str(here.parent), str(phantom_study), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
            process.stdout.readline()
            try:
                process.wait(0.03 * moment)
            except subprocess.TimeoutExpired:
                process.kill()
        for path in folder.glob("x*") if folder.exists() else ():
            if path.suffix == ".dcm":
                assert pydicom.dcmread(path).SOPInstanceUID
            elif path.suffix == ".json":
                assert json.loads(path.read_text())
            else:
                assert path.read_bytes().rstrip().endswith(b"%%EOF")


# -- segmentations from files, and the commands --------------------------------------------------------------


def test_a_written_segmentation_reads_back(tmp_path):
    image = ct_phantom()
    lungs = image.scalars < -500
    whole = np.ones_like(lungs)  # overlaps: a second layer
    segments = tuple(Segment(name, mask, (0.1, 0.5, 0.9)) for name, mask in (("left lung", lungs), ("body", whole)))
    path = write_segmentation(tmp_path / "a.seg.nrrd", Segmentation(segments, image.geometry))
    read = read_segmentation(path, image.geometry)
    assert [s.label for s in read.segments] == ["left lung", "body"]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(read.segments, segments, strict=True))
    assert read["left lung"].color == pytest.approx((0.1, 0.5, 0.9))
    assert read["left lung"].side.meaning == "Left"


def test_a_segmentation_that_slicer_cropped_is_put_where_it_belongs(tmp_path):
    image = ct_phantom()
    mask = image.scalars == 90
    path = write_segmentation(tmp_path / "a.seg.nrrd", Segmentation((Segment("liver", mask),), image.geometry))
    index = np.argwhere(mask)
    low, size = index.min(axis=0).tolist(), (np.ptp(index, axis=0) + 1).tolist()
    whole = sitk.ReadImage(str(path))
    part = sitk.RegionOfInterest(whole, size, low)
    for key in whole.GetMetaDataKeys():
        part.SetMetaData(key, whole.GetMetaData(key))
    sitk.WriteImage(part, str(path))
    assert np.array_equal(read_segmentation(path, image.geometry)["liver"].mask, mask)


def test_a_segmentation_on_another_grid_is_refused(tmp_path):
    image = ct_phantom()
    path = write_segmentation(
        tmp_path / "a.seg.nrrd", Segmentation((Segment("liver", image.scalars == 90),), image.geometry)
    )
    with pytest.raises(InputError, match="lies on another grid"):
        read_segmentation(path, image.geometry.transformed(affine(origin=(1.7, 0, 0))))


def medfm(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "MedFMLib.cli", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_measure_and_export_by_command(phantom_study, tmp_path):
    image = read_image(phantom_study)
    path = write_segmentation(
        tmp_path / "a.seg.nrrd", Segmentation((Segment("liver", image.scalars == 90),), image.geometry)
    )
    done = medfm("measure", phantom_study, path, "--output", tmp_path / "m.csv", "--json")
    measured = json.loads(done.stdout)
    volume = next(m for m in measured if m["name"] == "volume")
    assert volume["value"] == pytest.approx((image.scalars == 90).sum() * image.geometry.voxel_volume / 1000)
    assert (
        (tmp_path / "m.csv")
        .read_text()
        .startswith("number,segment,name,value,unit,method,low,high,verdict,checks\n1,liver,volume,")
    )
    done = medfm("export", phantom_study, path, "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    files = [Path(name) for name in json.loads(done.stdout)["files"]]
    assert [f.suffixes[-2:] for f in files] == [[".seg", ".dcm"], [".sr", ".dcm"]], done.stderr
    assert "no DICOM" in medfm("export", path, path).stderr
