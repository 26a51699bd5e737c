"""The sizes in cards are those of their configs, and the quick estimates are close to them."""

import json

import pytest

from MedFMLib.interfaces import registry
from MedFMLib.models.runtime import estimates
from MedFMLib.storage import resources

CONFIGURED = [card for card in registry.cards().values() if card.config]


@pytest.mark.parametrize("card", CONFIGURED, ids=lambda card: card.id)
def test_a_card_has_as_many_parameters_as_its_config(card):
    transformers = pytest.importorskip("transformers")
    from MedFMLib.models.runtime.sizes import sizes_from_config

    folder = resources.path(*card.config.split("/"))
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    assert sizes_from_config(getattr(transformers, name), folder).parameters == card.parameters


@pytest.mark.parametrize("card", CONFIGURED, ids=lambda card: card.id)
def test_the_quick_sizes_are_close_to_the_counted_ones(card):
    pytest.importorskip("transformers")
    for precision in [p for p in ("nf4", "int8") if p in card.precisions]:
        counted = registry.architecture(card.architecture).stats(card, precision).quantized_bytes
        assert estimates.weight_bytes(card, precision) == pytest.approx(counted, rel=0.02), precision
