"""Convert SAM 2 and MedSAM2 from their authors' checkpoints (.pt) to a folder of transformers' `Sam2VideoModel`.

    python -m MedFMLib.models.masks.sam2_convert MedSAM2_latest.pt medsam2 --size 512

A .pt file is a pickle, which can run code when it is opened. It is read with `torch.load(weights_only=True)` only,
which creates nothing but tensors and plain containers and refuses everything else. The names of weights are mapped
according to the two model definitions: facebookresearch/sam2, sam2/modeling, and transformers, models/sam2_video. The
picture's size is not in the weights and must be given: 1024 for Meta's models, 512 for MedSAM2.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from ...errors import InputError, ModelError, OutputError
from .sam2_frames import DEVIATION, MEAN

RENAMED = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm(\d?|_final_attn)\.", r".layer_norm\1."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    # two-layer and three-layer perceptrons
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"(_head|mlps\.\d+|^object_pointer_proj)\.layers\.0\.", r"\1.proj_in."),
    (r"(_head|mlps\.\d+|^object_pointer_proj)\.layers\.1\.", r"\1.layers.0."),
    (r"(_head|mlps\.\d+|^object_pointer_proj)\.layers\.2\.", r"\1.proj_out."),
)
"""(regular expression in the authors' name, replacement), applied one after the other."""

HIERA = {
    (96, 12): {},
    (96, 16): {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    (112, 24): {
        "hidden_size": 112, "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16], "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20], "window_positional_embedding_background_size": [14, 14],
    },
    (144, 48): {
        "hidden_size": 144, "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16], "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43], "window_positional_embedding_background_size": [7, 7],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}  # fmt: skip
"""(width, blocks) of the image encoder → differences from the tiny one, from the authors' configs (sam2/configs)."""


def read_checkpoint(path: Path) -> dict:
    """Return the tensors of a checkpoint by the authors' names.

    Raises:
        InputError: if it is missing, is not a checkpoint, or contains anything but tensors and plain containers.
    """
    import pickle

    import torch

    if not path.is_file():
        raise InputError(f"There is no file '{path}'; give the .pt file of a SAM 2 or MedSAM2.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            f"'{path.name}' can't be opened safely as a checkpoint ({type(error).__name__}); get it again from its authors."
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else {}
    if "sam_mask_decoder.iou_token.weight" not in state:
        raise InputError(f"'{path.name}' is not a SAM 2: it has no weights of its mask decoder; give another file.")
    return state


def rename(state: dict) -> dict:
    """Return the authors' state dict by transformers' names; the four point embeddings become one table."""
    import torch

    renamed, points = {}, {}
    for name, tensor in state.items():
        if found := re.match(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight", name):
            points[int(found[1])] = tensor
            continue
        if found := re.match(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(.*)", name):
            layer, part = divmod(int(found[1]), 3)
            last = int(found[1]) == 12
            inside = "final_conv" if last else f"layers.{layer}.{'layer_norm' if part else 'conv'}"
            renamed[f"memory_encoder.mask_downsampler.{inside}.{found[2]}"] = tensor
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    renamed["prompt_encoder.point_embed.weight"] = torch.cat([points[n] for n in sorted(points)])
    shared = renamed["prompt_encoder.shared_embedding.positional_embedding"]
    renamed["shared_image_embedding.positional_embedding"] = shared.clone()
    return renamed


def config_for(state: dict, size: int):
    """Return the `Sam2VideoConfig` of one of the four published sizes.

    Args:
        state: state dict by the authors' names.
        size: side of the picture, pixels; a multiple of 32, at least 128.

    Raises:
        InputError: if it is not one of them, or the size is not allowed.
    """
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    if size < 128 or size % 32:
        raise InputError(f"The picture's side must be a multiple of 32 and at least 128 pixels, not {size}.")
    width = int(state["image_encoder.trunk.patch_embed.proj.weight"].shape[0])
    blocks = len({name.split(".")[3] for name in state if name.startswith("image_encoder.trunk.blocks.")})
    if (width, blocks) not in HIERA:
        raise InputError(
            f"An image encoder of width {width} with {blocks} blocks is not one of SAM 2's (tiny, small, base+, large); "
            "EfficientTAM and other relatives can't be converted."
        )
    hiera = Sam2HieraDetConfig(**HIERA[width, blocks], image_size=[size, size])
    vision = Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=hiera.embed_dim_per_stage[::-1],
        backbone_feature_sizes=[[size // 4] * 2, [size // 8] * 2, [size // 16] * 2],
    )  # fmt: skip
    return Sam2VideoConfig(
        vision_config=vision, image_size=size, prompt_encoder_config={"image_size": size},
        memory_attention_rope_feat_sizes=[size // 16] * 2,
        enable_temporal_pos_encoding_for_object_pointers="obj_ptr_tpos_proj.weight" in state,
        enable_occlusion_spatial_embedding="no_obj_embed_spatial" in state,
    )  # fmt: skip


def convert(state: dict, config, folder: Path) -> Path:
    """Write a folder that MedFM and transformers load, and return it.

    Args:
        state: state dict by the authors' names.
        config: a `Sam2VideoConfig`.
        folder: folder to write.

    Raises:
        ModelError: if the weights don't match the config.
        OutputError: if the folder can't be written.
    """
    import torch
    import transformers
    from transformers import Sam2VideoModel

    transformers.utils.logging.disable_progress_bar()
    renamed = rename(state)
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in Sam2VideoModel(config).state_dict().items()}
    wrong = sorted(set(expected) ^ set(renamed)) or sorted(
        n for n in expected if tuple(renamed[n].shape) != expected[n]
    )
    if wrong:
        raise ModelError(
            f"{len(wrong)} weights don't fit SAM 2, such as {wrong[0]}; check that it is a SAM 2 or MedSAM2."
        )
    model = Sam2VideoModel(config)
    model.load_state_dict({name: value.float() for name, value in renamed.items()}, strict=True)
    try:
        model.save_pretrained(folder)
        processor = {
            "processor_class": "Sam2VideoProcessor", "image_mean": list(MEAN), "image_std": list(DEVIATION),
            "size": {"height": config.image_size, "width": config.image_size},
        }  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"'{folder}' can't be written ({error}); choose another folder.") from error
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Convert a SAM 2 or MedSAM2 checkpoint of its authors to safetensors.")
    parser.add_argument("checkpoint", type=Path, help="the .pt file")
    parser.add_argument("folder", type=Path, help="where to write the model")
    parser.add_argument("--size", type=int, default=1024, help="pixels along the picture's side: 1024, 512 for MedSAM2")
    given = parser.parse_args(arguments)
    state = read_checkpoint(given.checkpoint)
    print(f"Wrote {convert(state, config_for(state, given.size), given.folder)}")


if __name__ == "__main__":
    from ...errors import MedFMError

    try:
        main()
    except MedFMError as error:
        raise SystemExit(f"Error: {error}") from error
