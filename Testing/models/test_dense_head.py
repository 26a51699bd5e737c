"""The dense head: known features, known masks."""

import numpy as np
import pytest
from phantoms import ct_phantom

torch = pytest.importorskip("torch")

from MedFMLib.errors import ModelError  # noqa: E402
from MedFMLib.models.parts.dense_head import DenseHead  # noqa: E402
from MedFMLib.training.tiny import Shape, cell_parts  # noqa: E402
from MedFMLib.view import make_view  # noqa: E402


def test_cells_come_back_where_training_puts_them():
    shape = Shape(image=32, patch=8, fine=4)
    parts = torch.randint(0, 3, (2, 16, 16)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    cells = cell_parts(parts, shape)  # (B, patches, fine²), as the training target
    features = torch.nn.functional.one_hot(cells, 3).float().flatten(2) * 20  # features that are the answer
    head = DenseHead(torch.eye(48), torch.zeros(48), 4, 3, {"one": (1,), "some": (1, 2)})
    found = head.probabilities(features).argmax(dim=1)
    assert torch.equal(found, parts[:, ::2, ::2])
    masks = head.masks(features, ["one", "some"])
    assert np.array_equal(masks[0]["one"] > 0.5, (parts[0, ::2, ::2] == 1).numpy())
    assert np.array_equal(masks[1]["some"] > 0.5, (parts[1, ::2, ::2] > 0).numpy())


def test_what_has_hardly_a_cell_is_not_seen_and_unknown_labels_are_refused():
    features = torch.zeros(1, 4, 8)
    head = DenseHead(torch.zeros(8, 8), torch.tensor([5.0, 0] * 4), 2, 2, {"b": (1,)})
    assert head.masks(features, ["b"]) == [{}]
    with pytest.raises(ModelError, match="has not learned c; it knows b"):
        head.masks(features, ["c"])


def test_a_saved_head_comes_back_and_a_broken_one_is_refused(tmp_path):
    head = DenseHead(torch.randn(12, 6).half().float(), torch.randn(12).half().float(), 2, 3, {"x": (1, 2)})
    head.save(tmp_path)
    again = DenseHead.load(tmp_path)
    assert torch.equal(again.weight, head.weight)
    assert again.structures == {"x": (1, 2)}
    (tmp_path / "dense_head.json").write_text('{"fine": 3, "parts": 3, "structures": {}}')
    with pytest.raises(ModelError, match="12 rows"):
        DenseHead.load(tmp_path)
    (tmp_path / "dense_head.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="can't be read"):
        DenseHead.load(tmp_path)


def test_a_model_with_a_dense_head_draws_with_it(tiny_folder):
    from MedFMLib import registry
    from MedFMLib.engine import load_model
    from MedFMLib.model import Watch
    from MedFMLib.runner import Silent

    card = registry.card(str(tiny_folder))
    model = load_model(card, "default", "nf4", Silent())
    torch.manual_seed(0)
    model.head = DenseHead(torch.randn(4 * 4 * 5, 64), torch.zeros(80), 4, 5, {"liver": (1, 2), "left lung": (3,)})
    image = ct_phantom()
    views = [make_view(image, "axial", n) for n in range(5)]
    prompts, fractions = [], []
    seen = model.segment(views, ["liver", "left lung"], watch=Watch(prompts.append, on_fraction=fractions.append))
    assert len(seen) == 5
    assert {o.label for objects in seen for o in objects} <= {"liver", "left lung"}
    assert all(o.box == (0.0, 0.0, 1.0, 1.0) and o.mask.shape == (16, 16) for objects in seen for o in objects)
    assert prompts == ["dense head: liver ; left lung"]
    assert fractions[-1] == 1.0
