"""Very small Gemma 3, Qwen-VL and LLaVA of the real classes with random weights, real processors and an adapter.

The chat templates are ours, in each family's own format; the tokenizers are byte-level BPEs trained here.
"""

from __future__ import annotations

import json

GEMMA_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
  {%- set lead = messages[0]['content'][0]['text'] + '\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set lead = '' -%}{%- set turns = messages -%}{%- endif -%}
{%- for turn in turns -%}
  {{ '<start_of_turn>' + ('model' if turn['role'] == 'assistant' else turn['role']) + '\n' + (lead if loop.first else '') }}
  {%- for part in turn['content'] -%}
    {%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}{%- else -%}{{ part['text'] | trim }}{%- endif -%}
  {%- endfor -%}
  {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""

QWEN_TEMPLATE = """{%- for turn in messages -%}
  {{ '<|im_start|>' + turn['role'] + '\n' }}
  {%- for part in turn['content'] -%}
    {%- if part['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else -%}{{ part['text'] }}
    {%- endif -%}
  {%- endfor -%}
  {{ '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""

LLAVA_TEMPLATE = """{%- for turn in messages -%}
  {%- if turn['role'] == 'system' -%}{{ raise_exception('there are no system turns') }}{%- endif -%}
  {{ turn['role'].upper() + ': ' }}
  {%- for part in turn['content'] if part['type'] == 'image' -%}{{ '<image>\n' }}{%- endfor -%}
  {%- for part in turn['content'] if part['type'] == 'text' -%}{{ part['text'] + ' ' }}{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"""

TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 4096}  # fmt: skip


def tokenizer(special, words=300, **named):
    """A byte-level BPE with control tokens; `named` are the tokens that have a name, e.g. eos_token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)  # every builder starts here
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words + len(special),
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["SLICE 1", "which plane is this?", "is the liver visible? yes no", "user model"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **named)


def gemma3(root):
    """32 pixels, patches of 8, 4 tokens a picture."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    special = ("<pad>", "<eos>", "<bos>", "<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>",
               "<end_of_turn>")  # fmt: skip
    words = tokenizer(
        special, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        extra_special_tokens={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
                              "image_token": "<image_soft_token>"},
    )  # fmt: skip
    number = words.convert_tokens_to_ids
    config = Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=len(words), sliding_window=64, query_pre_attn_scalar=4, pad_token_id=0,
            eos_token_id=1, bos_token_id=2, **TEXT,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=72, intermediate_size=80, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=8, vision_use_head=False,
        ),
        mm_tokens_per_image=4, boi_token_index=number("<start_of_image>"), eoi_token_index=number("<end_of_image>"),
        image_token_index=number("<image_soft_token>"), eos_token_id=[1, number("<end_of_turn>")],
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_pan_and_scan=False
    )
    processor = Gemma3Processor(images, words, chat_template=GEMMA_TEMPLATE, image_seq_length=4)
    return _save(root, Gemma3ForConditionalGeneration(config), processor)


def qwen_vl(root, kind="qwen2_5_vl", sections=(4, 6, 6)):
    """Patches of 14 (Qwen3: 16), four of them to a token; 56 or 64 pixels by its card, so 4 tokens a picture."""
    import transformers
    from transformers import Qwen2VLImageProcessorPil

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>")  # fmt: skip
    words = tokenizer(special, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    number = words.convert_tokens_to_ids
    patch = 16 if kind == "qwen3_vl" else 14
    vision = {"depth": 2, "num_heads": 2, "patch_size": patch, "hidden_size": TEXT["hidden_size"]}
    vision |= {
        "qwen2_vl": {"embed_dim": 72, "mlp_ratio": 1},
        "qwen2_5_vl": {
            "hidden_size": 72, "intermediate_size": 80, "out_hidden_size": TEXT["hidden_size"],
            "fullatt_block_indexes": [1],
        },
        "qwen3_vl": {
            "hidden_size": 72, "intermediate_size": 80, "out_hidden_size": TEXT["hidden_size"], "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    }[kind]  # fmt: skip
    text = {**TEXT, "vocab_size": len(words), "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    if kind != "qwen3_vl":
        del text["head_dim"]
    rope = {"rope_type": "default", "mrope_section": list(sections), "rope_theta": 10000.0}
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    config = getattr(transformers, f"{name}Config")(
        text_config={**text, "rope_parameters": rope}, vision_config=vision,
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, min_pixels=28 * 28, max_pixels=512 * 512)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    _save(root, model, None)
    words.chat_template = QWEN_TEMPLATE
    words.save_pretrained(root)
    images.save_pretrained(root)  # no whole processor: its half for videos needs torchvision
    _card(root, image_size=4 * patch)
    return root


def llava(root, kind="llava"):
    """32 pixels, patches of 8: 16 tokens a picture; LLaVA-NeXT sees 64 pixels in four tiles and a whole."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
        LlavaProcessor,
    )

    words = tokenizer(
        ("<pad>", "<s>", "</s>", "<image>"), pad_token="<pad>", eos_token="</s>", bos_token="<s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    parts = {
        "vision_config": CLIPVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=8, projection_dim=64,
        ),
        "text_config": LlamaConfig(vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=2, **TEXT),
        "image_token_index": words.convert_tokens_to_ids("<image>"),
    }  # fmt: skip
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    reported = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1,
            "chat_template": LLAVA_TEMPLATE}  # fmt: skip
    if kind == "llava":
        model = LlavaForConditionalGeneration(LlavaConfig(image_seq_length=16, **parts))
        processor = LlavaProcessor(CLIPImageProcessorPil(**size), words, **reported)
    else:
        pinpoints = [[32, 64], [64, 32], [64, 64]]
        model = LlavaNextForConditionalGeneration(LlavaNextConfig(image_grid_pinpoints=pinpoints, **parts))
        processor = LlavaNextProcessor(
            LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints, **size), words, **reported
        )
    return _save(root, model, processor)


def _save(root, model, processor):
    """Weights strong enough that the answer depends on more than the last token, and an adapter."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, 0.25)
    model.eval().save_pretrained(root)
    if processor is not None:
        processor.save_pretrained(root)
    layers = r".*language_model\.layers\.\d+\.self_attn\.(q|v)_proj"
    for name, strength in (("first", 8), ("second", -24)):
        torch.manual_seed(1)
        lora = LoraConfig(r=4, lora_alpha=strength, target_modules=layers, init_lora_weights=False)
        peft = get_peft_model(model, lora)
        peft.save_pretrained(root / "adapters" / name)
        model = peft.unload()
    return root


def _card(root, **changes):
    """A card of its own for the folder: what MedFM makes of it, changed."""
    from dataclasses import asdict

    from MedFMLib.interfaces import registry

    made = asdict(registry.card(str(root))) | {"id": str(root)} | changes
    (root / "medfm-card.json").write_text(json.dumps(made))
