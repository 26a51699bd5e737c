"""An adapter that is a network for volumes alone: used without a LoRA, judged, and never asked for single slices."""

import json
import shutil

import numpy as np
import pytest
import torch
from support.phantoms import ct_phantom

from MedFMLib.core.domain import ImageDomain
from MedFMLib.core.image import Image
from MedFMLib.core.view import make_view
from MedFMLib.engine import load_model
from MedFMLib.errors import ModelError
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import KnowsDomain, StatesAgreement
from MedFMLib.models.masks.domain import DomainJudge, PartLayout
from MedFMLib.models.masks.volume_head import VolumeHead
from MedFMLib.models.masks.volume_network import VolumeNetwork

AGREEMENT = {"mandible": {"bias": 1.0, "low": -9.0, "high": 11.0, "cases": 10}}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """The tiny model with the adapter `jaws`: a volume network for CT that judges images."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_folder, copy)
    torch.manual_seed(1)
    parts = np.zeros((20, 20, 20), np.uint8)
    parts[4:9, 4:9, 4:9], parts[12:16, 4:9, 4:9] = 1, 2
    layout = PartLayout.of([(parts, np.ones(3)), (np.roll(parts, 1, 2), np.ones(3))], (1, 2))
    judge = DomainJudge("CT", "jaw", layout, (9.0,) * 7, -60.0, 0.5)  # so strict that nothing is known
    head = VolumeHead(VolumeNetwork(2, 3, (8, 8, 8, 8)).eval(), {"mandible": (1,), "larynx": (2,)}, 2.5, 32, judge=judge,
                      facts={"agreement": AGREEMENT, "agreement_source": "ten of others"})  # fmt: skip
    head.save(copy / "adapters" / "jaws")
    card = json.loads((copy / "medfm-card.json").read_text())
    card["id"] = str(copy)
    card["adapters"] = ["default", "jaws"]
    card["labels"] = {"CT": ["liver", "mandible", "larynx"]}
    card["adapter_labels"] = {"default": {"CT": ["liver"]}, "jaws": {"CT": ["mandible", "larynx"]}}
    (copy / "medfm-card.json").write_text(json.dumps(card))
    return copy


def load(folder, adapter):
    return load_model(registry.card(str(folder)), adapter, "nf4", NoProgress())


def test_it_segments_volumes_without_attaching_a_lora(folder):
    model, image = load(folder, "automatic"), ct_phantom()
    assert model.draws_volumes
    masks = model.segment_volume(image, ["mandible", "larynx"])
    assert masks and all(mask.shape == image.geometry.shape for mask in masks.values())
    assert model.facts.adapter == "jaws" and len(model.facts.adapter_hash) == 64
    assert not hasattr(model.model, "peft_config")


def test_it_can_be_chosen_and_left_again(folder):
    model, image = load(folder, "jaws"), ct_phantom()
    assert model.facts.adapter == "jaws"
    first = model.segment_volume(image, ["mandible"])
    model.use_adapter("default")
    assert model.facts.adapter == "default" and hasattr(model.model, "peft_config")
    model.use_adapter("jaws")
    again = model.segment_volume(image, ["mandible"])
    assert np.array_equal(first["mandible"].whole(), again["mandible"].whole())
    assert isinstance(model.write([make_view(image, "axial", 4)], "which plane is this?"), str)


def test_single_slices_are_refused_with_a_sentence_and_the_task_takes_the_volume(folder):
    model, image = load(folder, "automatic"), ct_phantom()
    assert not model.draws_slices(["mandible"], "CT") and model.draws_slices(["liver"], "CT")
    with pytest.raises(ModelError, match="whole volume"):
        model.segment([make_view(image, "axial", 4)], ["mandible"])


def test_unknown_labels_are_named(folder):
    with pytest.raises(ModelError, match="not trained on tooth"):
        load(folder, "jaws").segment_volume(ct_phantom(), ["tooth"])


def test_the_judge_is_asked_for_its_modality_alone(folder, tiny_folder):
    model, image = load(folder, "automatic"), ct_phantom()
    assert isinstance(model, KnowsDomain)
    verdict = model.domain(image)
    assert not verdict.known and "jaw" in verdict.reason
    other = model.domain(Image(image.voxels, image.geometry, "MR", "phantom"))
    assert not other.known and "CT of the jaw" in other.reason
    assert load(tiny_folder, "").domain(image) == ImageDomain(True)


def test_agreement_is_stated_for_what_was_measured(folder):
    model = load(folder, "automatic")
    assert isinstance(model, StatesAgreement)
    stated = model.agreement("mandible")
    assert (stated.low, stated.high, stated.source) == (-9.0, 11.0, "ten of others")
    assert model.agreement("larynx") is None and model.agreement("liver") is None
