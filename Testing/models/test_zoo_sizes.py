"""The sizes that cards state are those of the configs that come with them."""

import json

import pytest

from MedFMLib import registry, resources

CONFIGURED = [card for card in registry.cards().values() if card.config]


@pytest.mark.parametrize("card", CONFIGURED, ids=lambda card: card.id)
def test_a_card_has_as_many_parameters_as_its_config(card):
    transformers = pytest.importorskip("transformers")
    from MedFMLib.models.parts.sizes import sizes_from_config

    folder = resources.path(*card.config.split("/"))
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    assert sizes_from_config(getattr(transformers, name), folder).parameters == card.parameters
