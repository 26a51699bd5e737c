"""A merged model answers as base and adapter do together; compared with PEFT's own merging, bit by bit where possible."""

import json
import shutil

import pytest

from MedFMLib.errors import InputError, ModelError, OutputError
from MedFMLib.interfaces import registry
from MedFMLib.model_store import adapters
from MedFMLib.models.runtime import merging
from MedFMLib.storage import installed_models

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("models_folder", "one_thread")


@pytest.fixture
def lora(dense_folder, tmp_path):
    """How to make an adapter of the dense base: (folder, PEFT's own merged model's tensors)."""
    from peft import LoraConfig, get_peft_model
    from transformers import PaliGemmaForConditionalGeneration

    def make(**options):
        torch.manual_seed(1)
        base = PaliGemmaForConditionalGeneration.from_pretrained(dense_folder, dtype=torch.float32)
        options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "fc1"]} | options
        model = get_peft_model(base, LoraConfig(init_lora_weights=False, **options))
        folder = tmp_path / "lora"
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        return folder, model.merge_and_unload()

    return make


@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.0.self_attn.v_proj": 3}}],
    ids=["plain", "rank-stabilized", "patterns"],
)
def test_merging_is_pefts_own(lora, dense_folder, tmp_path, options):
    from transformers import PaliGemmaForConditionalGeneration

    folder, expected = lora(**options)
    target = tmp_path / "merged"
    target.mkdir()
    changed = merging.merge(dense_folder, folder, target)
    made = PaliGemmaForConditionalGeneration.from_pretrained(target, dtype=torch.float32)
    base = PaliGemmaForConditionalGeneration.from_pretrained(dense_folder, dtype=torch.float32).state_dict()
    differing = 0
    for name, value in expected.state_dict().items():
        assert torch.allclose(made.state_dict()[name], value, atol=1e-5), name
        differing += not torch.equal(value, base[name])
    assert changed == differing > 5


def test_an_adapter_of_another_kind_or_base_is_refused(lora, dense_folder, tmp_path):
    target = tmp_path / "merged"
    target.mkdir()
    folder, _ = lora(use_dora=True)
    with pytest.raises(InputError, match="has use_dora = True, which MedFM can't merge"):
        merging.merge(dense_folder, folder, target)
    folder, _ = lora()
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name.replace("layers.1", "layers.7"): value for name, value in tensors.items()}, path)
    with pytest.raises(ModelError, match=r"made for another base: this one has no layer .*layers\.7"):
        merging.merge(dense_folder, folder, target)


def test_a_quantized_model_is_merged_and_answers_as_before(tiny_folder, tmp_path):
    from MedFMLib.engine import load_model
    from MedFMLib.interfaces.jobs import NoProgress

    card = registry.card(str(tiny_folder))
    target = adapters.merge_adapter(card, "default", tmp_path / "merged")
    made = registry.card(str(target))
    assert made.adapters == () and made.title == "Random tiny with default"
    assert json.loads((target / "base" / "config.json").read_text()).get("quantization_config") is None
    assert (target / "mask_codec").is_dir() and installed_models.manifest(target)["source"].endswith(
        "with adapter default"
    )
    merged = load_model(made, "", "fp32", NoProgress()).model.state_dict()
    switched = load_model(card, "default", "fp32", NoProgress()).model  # PEFT merges into float32 weights
    state = switched.get_base_model().state_dict()
    pairs = {name.replace(".base_layer", ""): value for name, value in state.items() if ".lora_" not in name}
    assert set(pairs) == set(merged)
    for name, value in pairs.items():
        assert torch.allclose(merged[name], value.float(), rtol=1e-2, atol=1e-2), name  # stored in bfloat16
    with pytest.raises(OutputError, match="already exists"):
        adapters.merge_adapter(card, "default", target / "base" / "config.json")
