"""Results of one image never replace those of another."""

from __future__ import annotations

import json

import pytest
from support.segmentation_phantoms import GRID, blocks

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.request import Provenance
from MedFMLib.files import write_segmentation
from MedFMLib.files.results import free_name, image_of


@pytest.fixture
def write(tmp_path):
    """Writes a result of an image, of either kind."""

    def result(name, image, kind):
        if kind == ".seg.nrrd":
            segmentation = Segmentation((Segment("liver", blocks()[0]),), GRID)
            return write_segmentation(tmp_path / f"{name}{kind}", segmentation, Provenance("segment", "m", image=image))
        (tmp_path / f"{name}{kind}").write_text(json.dumps({"provenance": {"image": image}}))
        return tmp_path / f"{name}{kind}"

    return result


@pytest.mark.parametrize("kind", [".seg.nrrd", ".answer.json", ".measurements.json"])
def test_a_name_is_kept_for_the_same_image_and_changed_for_another(write, tmp_path, kind):
    notes = []
    assert image_of(write("scan", "abc", kind)) == "abc"
    assert free_name(tmp_path, "scan", "abc", notes.append) == "scan" and not notes
    assert free_name(tmp_path, "scan", "def", notes.append) == "scan-2"
    assert notes == [f"'{tmp_path.name}' has results of another image called 'scan'; these are called 'scan-2'."]
    write("scan-2", "def", kind)
    assert free_name(tmp_path, "scan", "def", notes.append) == "scan-2"
    assert free_name(tmp_path, "scan", "ghi", notes.append) == "scan-3"


def test_files_that_name_no_image_are_replaced_as_before(tmp_path):
    for name, content in {"a.answer.json": "{broken", "b.answer.json": "[]", "c.seg.nrrd": "NRRD0004\n\n",
                          "d.answer.json": '{"provenance": {}}'}.items():  # fmt: skip
        (tmp_path / name).write_text(content)
        assert free_name(tmp_path, name[0], "abc", pytest.fail) == name[0]
    assert free_name(tmp_path / "none", "scan", "abc", pytest.fail) == "scan"
