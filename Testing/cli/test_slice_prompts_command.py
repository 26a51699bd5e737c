"""`medfm segment --point … --box …`: prompted structures are propagated; a malformed prompt gives one sentence."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from cli.test_command import save
from support.phantoms import ct_phantom, oblique_geometry

pytest.importorskip("torch")

from support.random_sam2 import sam2

from MedFMLib.cli.slice_prompts import read_prompts_from_options
from MedFMLib.core.prompts import Box, Scribble
from MedFMLib.errors import InputError
from MedFMLib.files.reading import read_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam2(tmp_path_factory.mktemp("sam2") / "model")


def test_points_and_boxes_are_followed_and_written_on_the_inputs_grid(medfm, one_thread, folder, tmp_path):
    scan = save(ct_phantom(), tmp_path / "scan.nii.gz")
    world = read_image(scan).geometry.to_world
    one, two = (",".join(f"{v:.1f}" for v in world(i)) for i in ((30, 40, 8), (60, 40, 8)))
    corners = ",".join(f"{v:.1f}" for v in (*world((50, 20, 9)), *world((70, 40, 9))))
    done = medfm(
        "segment", scan, "-m", folder, "-o", tmp_path, "--first", 6, "--last", 12, "--json",
        "--point", f"{one},spot", "--point", f"{two},-,spot", "--box", f"{corners},lump",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert set(facts["segments"]) <= {"spot", "lump"}
    assert "spot: axial slice 8, 1 points inside, 1 outside" in facts["provenance"]["prompts"][0]
    assert "lump: axial slice 9, 0 points inside, 0 outside, a box" in facts["provenance"]["prompts"][0]
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "scan.seg.nrrd")))
    assert written.any()


def test_marks_for_a_model_that_only_names_things_are_refused(medfm, tiny_folder, tmp_path):
    scan = save(ct_phantom(), tmp_path / "scan.nii.gz")
    done = medfm("segment", scan, "-m", tiny_folder, "-o", tmp_path, "--point", "0,0,0")
    assert done.returncode == 2
    assert "can't outline: it only writes" in done.stderr


def test_a_box_is_flat_where_its_corners_share_a_slice():
    grid = oblique_geometry()
    flat = ",".join(map(str, (*grid.to_world((3, 4, 5)), *grid.to_world((9, 14, 5)))))
    (points, thin), (thick,) = (
        read_prompts_from_options(["1,2,3", "4,5,6,-"], [flat], grid),
        read_prompts_from_options([], ["0,0,0,20,30,40,a"], grid),
    )
    assert isinstance(thin, Scribble) and thin.around
    assert isinstance(thick, Box) and thick.label == "a"
    np.testing.assert_array_equal(points.inside, [[1, 2, 3]])
    np.testing.assert_array_equal(points.outside, [[4, 5, 6]])


@pytest.mark.parametrize(
    ("points", "boxes", "sentence"),
    [
        (["1,2"], [], "A point must be R,A,S or R,A,S,-,name, with numbers in mm, not '1,2'"),
        (["1,2,x"], [], "not '1,2,x'"),
        (["1,2,3,-,a,b"], [], "not '1,2,3,-,a,b'"),
        ([], ["1,2,3"], "A box must be R,A,S,R,A,S or"),
        (["nan,2,3"], [], "must be finite RAS positions"),
    ],
)
def test_a_mark_of_another_form_is_one_sentence(points, boxes, sentence):
    with pytest.raises(InputError, match=sentence):
        read_prompts_from_options(points, boxes, oblique_geometry())
