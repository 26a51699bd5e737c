"""A very small SAM 2 for videos of the real class with random weights."""

from __future__ import annotations

SIZE = 64
HIERA = {"hidden_size": 16, "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 4],
         "blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3], "window_size_per_stage": [8, 4, 4, 2],
         "image_size": [SIZE, SIZE], "window_positional_embedding_background_size": [2, 2]}  # fmt: skip


def config():
    """64 pixels: feature maps of 16, 8 and 4."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    vision = Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(**HIERA), backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=128,
    )  # fmt: skip
    return Sam2VideoConfig(
        vision_config=vision, image_size=SIZE,
        prompt_encoder_config={"hidden_size": 128, "image_size": SIZE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
        memory_attention_hidden_size=128, memory_attention_feed_forward_hidden_size=32, memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=128, memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
    )  # fmt: skip


def sam2(root):
    """A folder as `save_pretrained` writes it, with objects that are always there."""
    import torch
    import transformers
    from transformers import Sam2VideoModel

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = Sam2VideoModel(config())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "positional" not in name:
                weight.normal_(0, 0.08)
            elif weight.ndim and not weight.any():
                weight.normal_(0, 0.02)  # what starts at zero would hide a wrong name
        model.shared_image_embedding.positional_embedding.copy_(
            model.prompt_encoder.shared_embedding.positional_embedding
        )  # one and the same in the authors' checkpoints
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)
    model.eval().save_pretrained(root)
    return root
