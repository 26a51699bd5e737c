"""A very small PaliGemma of the real classes with random weights, quantized, with an adapter and a mask codec."""

import json


def build(root, quantized):
    """A folder of a very small PaliGemma of the real classes with random weights.

    Args:
        root: where.
        quantized: NF4 base, an adapter and a mask codec as the embedded model has; else dense as a hub folder is.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration

    from MedFMLib.models.masks.mask_codec import CodecShape, MaskCodec
    from MedFMLib.models.runtime.checkpoint import train_guard_4bit
    from MedFMLib.training.embedded.tiny import ModelShape, make_model, make_processor, make_tokenizer

    torch.manual_seed(0)
    shape = ModelShape(
        image=64, vision_width=64, vision_layers=2, vision_mlp=128, text_width=64, text_layers=2, text_mlp=128,
        heads=2, text_heads=1, head_dim=64,
    )  # fmt: skip
    tokenizer = make_tokenizer(300)
    model = make_model(shape, tokenizer).eval()
    with torch.no_grad():  # strong enough layers that the answer depends on more than the last token
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, 0.25)
    base = root / "base" if quantized else root
    dense = root / "dense" if quantized else root
    model.save_pretrained(dense)
    if quantized:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
        model = PaliGemmaForConditionalGeneration.from_pretrained(dense, quantization_config=config)
        model.save_pretrained(base)
        import shutil

        shutil.rmtree(dense)
        train_guard_4bit(model)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(root / "adapters" / "default")
    make_processor(shape, tokenizer).save_pretrained(base)
    MaskCodec(CodecShape(16, 16, 16)).save(root / "mask_codec")
    card = {
        "id": "random-tiny" if quantized else "random-dense", "title": "Random tiny", "architecture": "paligemma",
        "summary": "Random weights, for tests.", "licence": "none", "parameters": 1, "image_size": 64,
        "abilities": ["writes", "segments", "locates"],
        "precisions": ["nf4", "fp32"] if quantized else ["fp32", "nf4", "int8", "bf16"],
        "adapters": ["default"] if quantized else [],
        "labels": {"CT": ["liver", "left lung", "right lung"]} if quantized else {},
    }  # fmt: skip
    card["id"] = str(root)
    (root / "medfm-card.json").write_text(json.dumps(card))
    return root
