"""The mask head: the meaning of its scores, its two files, and its use in a loaded model."""

import json

import numpy as np
import pytest
from support.phantoms import ct_phantom

torch = pytest.importorskip("torch")

from MedFMLib.core.view import make_view  # noqa: E402
from MedFMLib.errors import ModelError  # noqa: E402
from MedFMLib.models.masks.mask_head import MaskHead, MaskNetwork  # noqa: E402


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = MaskNetwork(8, 3, (4, 6, 8))
    with torch.no_grad():  # as after training: normalisation that does something
        for name, value in network.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
    return network.eval()


def head_of(network, **facts):
    return MaskHead(network.folded(), {"one": (1,), "some": (1, 2)}, **facts)


def test_folding_the_normalisation_changes_nothing(network):
    pixels, features = torch.randn(2, 3, 32, 32), torch.randn(2, 4, 8)
    scores = network(pixels, features)
    assert scores.shape == (2, 3, 32, 32)
    assert torch.allclose(network.folded()(pixels, features), scores, atol=1e-4)
    assert not any("running" in name for name in network.folded().state_dict())


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_quarter_of_the_scores_is_what_all_of_them_say_there(network, row, column):
    pixels, features = torch.randn(1, 3, 32, 32), torch.randn(1, 4, 8)
    some = network.quarter_scores(network.hidden(pixels, features), row, column)
    assert torch.allclose(some, network(pixels, features)[:, :, row::2, column::2], atol=1e-6)


def test_a_structure_is_the_sum_of_its_parts(network):
    head = head_of(network)
    chances = torch.zeros(2, 3, 16, 16)
    chances[:, 0] = 1.0
    chances[0, :, 2:8, 3:9] = torch.tensor([0.2, 0.4, 0.4])[:, None, None]
    first, second = head.masks(chances, ["one", "some"])
    assert set(first) == {"some"}  # 0.4 of part one alone is not enough anywhere
    assert np.array_equal(np.argwhere(first["some"] > 0.5).min(0), [2, 3])
    assert (first["some"] > 0.5).sum() == 36
    assert second == {}
    with pytest.raises(ModelError, match="was not trained on c; choose from one, some"):
        head.masks(chances, ["c"])


def test_a_saved_head_comes_back_and_a_broken_one_is_refused(network, tmp_path):
    head = head_of(network, pairs=((1, 2),), focus=(1, 2), planes=("axial",), facts={"about": "a test"})
    head.save(tmp_path)
    again = MaskHead.load(tmp_path)
    assert (again.structures, again.pairs, again.focus, again.planes) == (
        head.structures,
        ((1, 2),),
        (1, 2),
        ("axial",),
    )
    pixels, features = torch.randn(1, 3, 32, 32), torch.randn(1, 4, 8)
    assert torch.allclose(again.probabilities(pixels, features), head.probabilities(pixels, features), atol=5e-3)
    assert torch.allclose(again.probabilities(pixels, features).sum(1), torch.ones(1, 32, 32), atol=1e-5)
    content = json.loads((tmp_path / "mask_head.json").read_text())
    (tmp_path / "mask_head.json").write_text(json.dumps(content | {"structures": {"x": [3]}}))
    with pytest.raises(ModelError, match="no parts for x"):
        MaskHead.load(tmp_path)
    (tmp_path / "mask_head.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="can't be read"):
        MaskHead.load(tmp_path)


@pytest.fixture
def drawing(tiny_folder):
    """The very small model, with a mask head of random weights."""
    from MedFMLib.engine import load_model
    from MedFMLib.interfaces import registry
    from MedFMLib.interfaces.jobs import NoProgress

    model = load_model(registry.card(str(tiny_folder)), "default", "nf4", NoProgress())
    torch.manual_seed(0)
    network = MaskNetwork(64, 5, (4, 6, 8)).eval()
    with torch.no_grad():
        network.score.bias[4:8] += 3.0  # sees part 1 nearly everywhere
    model.head = MaskHead(network.folded(), {"liver": (1, 2), "left lung": (3,)})
    return model


def test_a_model_with_a_mask_head_draws_with_it(drawing):
    from MedFMLib.interfaces.model import Callbacks

    image = ct_phantom()
    views = [make_view(image, "axial", n) for n in range(5)]
    prompts, fractions = [], []
    seen = drawing.segment(
        views, ["liver", "left lung"], callbacks=Callbacks(prompts.append, on_fraction=fractions.append)
    )
    assert len(seen) == 5
    assert {o.label for objects in seen for o in objects} <= {"liver", "left lung"}
    assert all(o.box == (0.0, 0.0, 1.0, 1.0) and o.mask.shape == (64, 64) for objects in seen for o in objects)
    assert prompts == ["mask head: liver ; left lung"]
    assert fractions[-1] == 1.0


def test_a_whole_volume_comes_back_on_its_own_grid(drawing):
    from MedFMLib.errors import Cancelled
    from MedFMLib.interfaces.model import Callbacks, SegmentsVolumes

    image = ct_phantom()
    assert isinstance(drawing, SegmentsVolumes)
    assert drawing.draws_volumes
    fractions = []
    masks = drawing.segment_volume(image, ["liver", "left lung"], callbacks=Callbacks(on_fraction=fractions.append))
    assert masks
    assert all(mask.shape == image.geometry.shape and mask.whole().any() for mask in masks.values())
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    with pytest.raises(Cancelled):
        drawing.segment_volume(image, ["liver"], callbacks=Callbacks(cancelled=lambda: True))
