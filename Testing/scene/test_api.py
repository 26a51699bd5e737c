"""The Python console: functions on nodes return nodes."""

import numpy as np
import pytest
from support.phantoms import ct_phantom
from support.scripted_model import ScriptedModel, engine

import MedFMLib as medfm
from MedFMLib.core.request import ReliabilityChoice
from MedFMLib.errors import InputError
from MedFMLib.measure import measure


@pytest.fixture
def console(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel({"liver": image.scalars == 90}, image.geometry, {"What is it?": "a phantom"})
    monkeypatch.setattr("MedFMLib.api._engine", engine(model, monkeypatch))
    return image


def test_a_node_gives_nodes_in_its_scene(session, console):
    node = session.add_volume(console)
    written = medfm.segment(node, "liver", step=1)
    assert written.segmentation.GetScene() is session.scene
    assert written.segmentation.GetSegmentation().GetNthSegment(0).GetName() == "liver"
    assert written.measurements.GetNumberOfRows() == 1
    assert written.response.provenance.task == "segment"
    answered = medfm.ask(node, "What is it?")
    assert answered.conversation.GetCellText(0, 1) == "a phantom"
    reported = medfm.report(node)
    assert "LIVER" in reported.report_text.GetText().upper()


def test_an_answer_is_looked_into_explained_and_compared_in_the_nodes_scene(session, console, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    node = session.add_volume(console)
    looked = medfm.ask(node, "What is it?", reliability=ReliabilityChoice(blind=True))
    assert looked.response.answers[0].reliability.blind == "stands"
    assert "did not come from the image" in looked.texts[0].GetText()
    assert "The model said: a phantom" in looked.texts[0].GetText()
    with pytest.raises(InputError, match="can't explain"):
        medfm.explain(node, "What is it?")
    written = medfm.segment(node, "liver", step=1)
    entry = medfm.add_healthy(node, "adult torso", written.segmentation, licence="CC0")
    assert (entry.id, entry.labels, entry.licence) == ("adult-torso", ("liver",), "CC0")
    with pytest.raises(InputError, match="without names or dates"):
        medfm.add_healthy(node, "1970", written.segmentation)
    compared = medfm.compare(node, "liver")
    assert compared.response.comparison.reference == "adult-torso"
    assert compared.reference.GetName() == "Healthy reference: adult torso"
    assert medfm.compare(console, reference="computed-torso").comparison.generated


def test_an_image_gives_a_response(console):
    response = medfm.segment(console, ["liver"], step=1)
    assert response.segmentation["liver"].mask.any()
    assert measure(response.segmentation, console) == tuple(response.measurements)


def test_anything_else_is_refused(console):
    with pytest.raises(
        InputError, match=r"must be a path, an Image, a volume node.*got numpy.ndarray of shape \(3, 3, 3\)"
    ):
        medfm.segment(np.zeros((3, 3, 3)))
    with pytest.raises(InputError, match="no file or folder"):
        medfm.ask("nowhere.nii", "What?")
    with pytest.raises(AttributeError, match="no attribute 'dance'"):
        medfm.dance  # noqa: B018


def test_the_image_cache_is_reported_and_cleared(console, monkeypatch):
    pytest.importorskip("torch")
    from MedFMLib import api as functions

    class Keeping:
        bytes, reused = 12_000_000, 0

        def drop(self):
            self.bytes = 0

    assert medfm.cache_bytes() == medfm.clear_cache() == 0  # the scripted model keeps nothing
    medfm.ask(console, "What is it?")
    functions._engine._model.image_cache = Keeping()
    assert medfm.cache_bytes() == 12_000_000
    assert medfm.clear_cache() == 12_000_000
    assert medfm.cache_bytes() == 0
    monkeypatch.setattr(functions, "_engine", None)
    assert medfm.cache_bytes() == medfm.clear_cache() == 0
