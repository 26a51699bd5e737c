"""The embedded model on real images, through the command: what is written opens elsewhere and lies where it should.

How good the model is, is measured by `medfm bench-tiny`; here it only has to be better than nothing.
"""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from cli.conftest import medfm_process

from MedFMLib.cli.demo import find_scan
from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.files.sitk import geometry_of


def shipped_scan():
    try:
        return find_scan()
    except InputError:
        pytest.skip("the package nilearn, which ships the scan, is not installed")


def check_segmentation(path, source):
    """Opens in SimpleITK and slicer-core, on the input's grid."""
    picture = sitk.ReadImage(str(path))
    assert geometry_of(picture).matches(source.geometry)
    slicer = pytest.importorskip("slicer")
    from MedFMLib.scene.session import SceneSession

    session = SceneSession()
    storage = session.scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    node = session.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    assert isinstance(node, slicer.vtkMRMLSegmentationNode)
    return [
        node.GetSegmentation().GetNthSegment(n).GetName() for n in range(node.GetSegmentation().GetNumberOfSegments())
    ]


CASES = {
    "CT DICOM folder": (("dicom_ct_chest",), ("lung",)),
    "T1 NIfTI": (("brain_t1", "t1_head.nii.gz"), ("brain", "cerebellum")),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_segment_ask_and_report_on_a_real_image(case, open_data, tmp_path):
    pytest.importorskip("torch")
    parts, labels = CASES[case]
    path = open_data(*parts)
    source = read_image(path)
    name = path.name.removesuffix(".nii.gz")
    options = [word for label in labels for word in ("--label", label)]
    done = medfm_process("segment", path, "--output", tmp_path, "--json", "--step", 12, *options)
    assert done.returncode == 0, done.stderr
    names = check_segmentation(tmp_path / f"{name}.seg.nrrd", source)
    assert set(names) == set(json.loads(done.stdout)["segments"])

    done = medfm_process("ask", path, "which modality is this?", "--json")
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["answers"]
    assert source.modality in answer["answer"]
    assert answer["slices"] == []  # what the header says was seen on no slice

    done = medfm_process("report", path, "--output", tmp_path / "report", "--step", 12, *options)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / f"{name}.report.html").read_text(encoding="utf-8")
    assert "MedFM-tiny" in page
    assert "data:image/png;base64," in page


def test_the_brain_of_the_shipped_scan_is_found_where_it_is():
    pytest.importorskip("torch")
    from MedFMLib.core.request import Request, SliceChoice
    from MedFMLib.engine import Engine

    image = read_image(shipped_scan(), modality="MR")
    response = Engine().run(Request("segment", image, ("brain",), slices=SliceChoice(step=16)))
    brain = response.segmentation["brain"].mask
    volume = next(m.value for m in response.measurements if m.name == "volume")
    assert 900 < volume < 2300  # mL; this average head's brain has about 1,900 with its CSF spaces
    center = image.geometry.to_world(np.argwhere(brain).mean(axis=0))
    np.testing.assert_allclose(center, (0, -20, 15), atol=15)  # the template's origin is the anterior commissure
