"""Run SAM 2 and MedSAM2: segment prompted structures and propagate them through the volume.

The slices of one plane are the frames of a video, as in MedSAM2 (arXiv:2504.03600; medsam2_infer_3D_CT.py): from the
first prompted slice to the last slice of the range, then, with an empty memory, to the first. Each structure is
propagated separately; all of them share the output of the image encoder, which is most of the work. Propagation of a
structure ends after `PATIENCE` slices without it.

CT is shown in one of MedSAM's windows, chosen by the values at the prompts, other modalities between the volume's
percentiles. The authors compute in bfloat16; here only the image encoder does, on devices that support it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.image import Image
from ..core.slice_prompts import SlicePrompt, SlicePrompts
from ..core.view import View, Window, display_slice, window_for
from ..core.windows import hu_range
from ..errors import Cancelled, ModelError
from ..interfaces.family import FamilyTraits
from ..interfaces.model import CacheUse, Callbacks, LoadedFacts
from ..storage.model_card import AUTOMATIC, ModelCard
from .runtime import model_folder
from .runtime.device import multiplies_bfloat16

MODEL_TYPES = ("sam2_video",)

TRAITS = FamilyTraits(converses=False)

PATIENCE = 3
"""Number of consecutive empty slices after which a structure is not propagated further in that direction."""

SOFT, LUNG, BONE = hu_range("soft tissue"), hu_range("MedSAM lung"), hu_range("bone")
"""HU ranges that the authors of MedSAM prescribe; see `core.windows`. Their fourth, for the brain, can't be chosen
automatically."""

AIR_HU, BONE_HU = -300.0, 300.0
"""Prompts with a median below the first are shown in the lung window, above the second in the bone window."""


def load(card: ModelCard, adapter: str, precision: str, progress) -> Sam2:
    """Load the model.

    Args:
        card: card of the model.
        adapter: name or folder; "" for none (SAM 2 has no adapters).
        precision: one of the card's.
        progress: receives the stages.

    Raises:
        ModelError: if files are missing or incompatible, or an adapter is requested.
    """
    from transformers import Sam2VideoModel

    from .runtime import checkpoint, loading

    if adapter not in ("", AUTOMATIC):
        raise ModelError(f"{card.title} takes no adapters; choose 'none' instead of '{adapter}'.")
    folder = _folder(card)
    model_folder.kind_of(card, MODEL_TYPES)
    if precision not in ("bf16", "fp32"):
        raise ModelError(f"{card.title} can't be held as '{precision}'; choose bf16 or fp32.")
    model, held = loading.load_weights(Sam2VideoModel, folder, "fp32", card.parameters)
    half = precision == "bf16" and _multiplies_half(model.device)
    held = f"{held}, slices encoded in bf16" if half else held
    revision = card.revision or checkpoint.sha256_of(checkpoint.check_folder(folder))
    return Sam2(card, model, folder, half, LoadedFacts(revision, held))


def stats(card: ModelCard, precision: str = "nf4"):
    """Return the sizes from the config alone; see `runtime.sizes`.

    Args:
        card: card of the model.
        precision: see `runtime.precision.plan`.

    Raises:
        ModelError: if there is no config on this machine.
    """
    from transformers import Sam2VideoModel

    return model_folder.sizes(card, Sam2VideoModel, precision, ())


def card_for_folder(folder: Path, config: dict[str, Any]) -> ModelCard:
    """Return a card for a folder with a SAM 2 for videos.

    Args:
        folder: folder with the weights.
        config: content of its config.json.
    """
    size = config.get("image_size", 1024)
    return ModelCard(
        id=str(folder),
        title=folder.name,
        architecture="sam2",
        summary="A SAM 2 from a folder of yours; MedFM knows nothing of its quality.",
        licence="see the folder",
        parameters=model_folder.count_parameters(folder),
        image_size=size if isinstance(size, int) else size[0],
        abilities=("outlines",),
        precisions=("bf16", "fp32"),
    )


RANDOM_SIZE = 64
RANDOM_HIERA = {"hidden_size": 16, "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 4],
         "blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3], "window_size_per_stage": [8, 4, 4, 2],
         "image_size": [RANDOM_SIZE, RANDOM_SIZE], "window_positional_embedding_background_size": [2, 2]}  # fmt: skip
"""Sizes of a random checkpoint."""


def random_config():
    """Return the configuration of a tiny SAM 2: 64 pixels, feature maps of 16, 8 and 4."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    vision = Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(**RANDOM_HIERA), backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=128,
    )  # fmt: skip
    return Sam2VideoConfig(
        vision_config=vision, image_size=RANDOM_SIZE,
        prompt_encoder_config={"hidden_size": 128, "image_size": RANDOM_SIZE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
        memory_attention_hidden_size=128, memory_attention_feed_forward_hidden_size=32, memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=128, memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
    )  # fmt: skip


def random_checkpoint(folder: Path) -> Path:
    """Write a tiny SAM 2 for videos with random weights, whose objects are always present, and return its folder."""
    import torch
    import transformers
    from transformers import Sam2VideoModel

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = Sam2VideoModel(random_config())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "positional" not in name:
                weight.normal_(0, 0.08)
            elif weight.ndim and not weight.any():
                weight.normal_(0, 0.02)  # zeros would hide a wrong name
        model.shared_image_embedding.positional_embedding.copy_(
            model.prompt_encoder.shared_embedding.positional_embedding
        )  # one and the same in the authors' checkpoints
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)
    model.eval().save_pretrained(folder)
    return folder


class Sam2:
    """A loaded SAM 2: `Outlines`.

    Args:
        card: card of the model.
        model: `Sam2VideoModel`, in eval mode.
        folder: folder of the model, for its processor files.
        half: encode slices in bfloat16.
        facts: for provenance.
    """

    def __init__(self, card: ModelCard, model, folder: Path, half: bool, facts: LoadedFacts):
        from .masks.sam2_frames import FrameFeatures, Preparation

        self.card, self.model, self.facts, self.half = card, model, facts, half
        self.size = int(model.prompt_encoder.input_image_size)
        self.prepare = Preparation.of_folder(folder, self.size)
        self.features = FrameFeatures()

    @property
    def image_cache(self) -> CacheUse:
        """The image cache; see `CachesImages`."""
        return self.features

    def outline(
        self, image: Image, marks: SlicePrompts, *, callbacks: Callbacks = Callbacks()
    ) -> dict[str, np.ndarray]:
        """Implement `Outlines.outline`."""
        from .masks.sam2_frames import Frames

        window = window_of(image, marks)
        callbacks.on_prompt(f"{marks} (window {' and '.join(f'{low:g} to {high:g}' for low, high in window.ranges)})")
        frames = Frames(image, marks.plane, window, self.prepare)
        self.features.start((image.digest(), marks.plane, window.ranges))
        found = {label: np.zeros(image.geometry.shape, dtype=bool) for label in marks.structures}
        axis = image.geometry.index_axis(marks.plane)
        starts = [structure[0].number for structure in marks.structures.values()]
        forward, backward = range(min(starts), marks.last + 1), range(max(starts) - 1, marks.first - 1, -1)
        done, total = 0, len(forward) + len(backward)
        for order in (forward, backward):
            tracks = [
                _Track(self, label, structure, frames, image, marks.plane, order.step < 0)
                for label, structure in marks.structures.items()
            ]
            for step, number in enumerate(order):
                for track in tracks:
                    if track.reaches(number):
                        self._stop_if(callbacks)
                        np.moveaxis(found[track.label], axis, 0)[number] = track.follow(number, callbacks)
                if all(track.over for track in tracks):
                    break
                callbacks.on_fraction((done + step + 1) / total)
            done += len(order)
        callbacks.on_fraction(1.0)
        return found

    def encode(self, number: int, frames, callbacks: Callbacks) -> None:
        """Compute the features of a slice, if they are not cached.

        Args:
            number: slice number.
            frames: the slices (`sam2_frames.Frames`).
            callbacks: for cancellation.
        """
        import torch

        if self.features.knows(number):
            return
        self._stop_if(callbacks)
        device = self.model.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            seen = self.model.get_image_features(frames[number][None].to(device), return_dict=True)
        self.features.cache_vision_features(
            number, {"vision_feats": seen.fpn_hidden_states, "vision_pos_embeds": seen.fpn_position_encoding}
        )

    @staticmethod
    def _stop_if(callbacks: Callbacks) -> None:
        if callbacks.cancelled():
            raise Cancelled


class _Track:
    """Propagation of one structure in one direction: a separate session with the shared frames and features."""

    def __init__(
        self, owner: Sam2, label: str, structure: tuple[SlicePrompt, ...], frames, image, plane, reverse: bool
    ):
        import torch
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        self.label, self.over, self._owner, self._frames = label, False, owner, frames
        self._marked = {mark.number: mark for mark in structure}
        self._start, self._reverse, self._empty = structure[0].number, reverse, 0
        self._image, self._plane = image, plane
        self._shape = display_slice(image.scalars, image.geometry, plane, 0).shape
        device = owner.model.device
        self._session = Sam2VideoInferenceSession(
            video_height=self._shape[0], video_width=self._shape[1], inference_device=device,
            inference_state_device=device, video_storage_device=device, dtype=torch.float32,
        )  # fmt: skip
        self._session.processed_frames, self._session.cache = frames, owner.features
        self._object = self._session.obj_id_to_idx(1)
        self._steps = None
        config = owner.model.config
        self._reach = 1 + max(config.num_maskmem, config.max_object_pointers_in_encoder)  # slices in its memory

    def reaches(self, number: int) -> bool:
        """Return whether this slice has to be processed."""
        return not self.over and (number < self._start if self._reverse else number >= self._start)

    def follow(self, number: int, callbacks: Callbacks) -> np.ndarray:
        """Return the structure in the next slice, 2D bool in the order of the volume's remaining index axes."""
        if self._steps is None:
            self._begin(callbacks)
        self._owner.encode(number, self._frames, callbacks)
        mask = self._mask(next(self._steps).pred_masks)
        outputs = self._session.output_dict_per_obj[self._object]
        for image_cache in outputs.values():
            image_cache.get(number, {}).pop("high_res_masks", None)  # 4 MB per slice that are never used again
        outputs["non_cond_frame_outputs"].pop(number + self._reach if self._reverse else number - self._reach, None)
        self._empty = 0 if mask.any() or number in self._marked else self._empty + 1
        later = any((n < number if self._reverse else n > number) for n in self._marked)
        self.over = self._empty >= PATIENCE and not later
        return _undisplayed(mask, self._image, self._plane)

    def _begin(self, callbacks: Callbacks) -> None:
        """Segment the structure in its prompted slices, then prepare the propagation from the first of them."""
        import torch

        for number, mark in self._marked.items():
            self._owner.encode(number, self._frames, callbacks)
            self._session.add_point_inputs(self._object, number, _inputs(mark, self._shape, self._owner.size))
            self._session.obj_with_new_inputs = [1]
            with torch.inference_mode():
                self._owner.model(self._session, frame_idx=number)
        self._steps = self._owner.model.propagate_in_video_iterator(
            self._session, start_frame_idx=self._start, reverse=self._reverse
        )
        if self._reverse:
            next(self._steps)  # the first slice itself was segmented in the forward direction

    def _mask(self, logits) -> np.ndarray:
        """Return (H, W) bool at the slice's own voxels, as the processor's `post_process_masks` does."""
        from torch.nn import functional

        full = functional.interpolate(logits.float(), self._shape, mode="bilinear", align_corners=False)
        return (full[0, 0] > 0).cpu().numpy()


def _inputs(mark: SlicePrompt, shape: tuple[int, int], size: int) -> dict:
    """Return a slice's prompts as model input: x, y in pixels of its square; box corners first, labelled 2 and 3.

    The model adds half of *its* pixel to a position; this is replaced by half of the *slice's* pixel, so that the centre
    of a voxel stays the centre of a voxel at any size.
    """
    import torch

    corners = [] if mark.box is None else [mark.box[:2], mark.box[2:]]
    places = np.concatenate([np.array(corners).reshape(-1, 2), mark.points])
    pixels = (places + 0.5) * size / np.array(shape) - 0.5
    labels = [2, 3][: len(corners)] + [int(inside) for inside in mark.inside]
    return {
        "point_coords": torch.tensor(pixels[:, ::-1].copy(), dtype=torch.float32)[None, None],
        "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
    }


def window_of(image: Image, marks: SlicePrompts) -> Window:
    """Return one grey window for the whole volume; see the module's docstring.

    Args:
        image: scalar volume.
        marks: the prompts.
    """
    if image.modality != "CT":
        return window_for(image)
    values = []
    for mark in (m for structure in marks.structures.values() for m in structure):
        picture = display_slice(image.scalars, image.geometry, marks.plane, mark.number)
        inside = np.rint(mark.points[mark.inside]).astype(int)
        values += [picture[tuple(np.clip(p, 0, np.array(picture.shape) - 1))] for p in inside]
        if mark.box is not None:
            row0, column0, row1, column1 = (max(int(np.ceil(v)), 0) for v in mark.box)
            values += list(picture[row0 : row1 + 1, column0 : column1 + 1].ravel())
    middle = float(np.median(values)) if values else 0.0
    return Window((LUNG if middle < AIR_HU else BONE if middle > BONE_HU else SOFT,))


def _undisplayed(mask: np.ndarray, image: Image, plane: str) -> np.ndarray:
    return View(mask, image.geometry, plane, 0).to_slice(mask)


def _multiplies_half(device) -> bool:
    """Return whether bfloat16 is faster than float32 on the device."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and multiplies_bfloat16()


def _folder(card: ModelCard) -> Path:
    """Return the model's folder.

    Raises:
        ModelError: if it is missing, incomplete, or in its authors' format, which transformers can't read.
    """
    from .runtime import loading

    try:
        return loading.base_folder(card)
    except ModelError:
        folder = loading.model_folder(card)
        pickles = sorted(path.name for path in folder.glob("*.pt"))
        if not pickles or any(folder.glob("*.safetensors")):
            raise
    raise ModelError(
        f"{card.title} comes in its authors' format ({', '.join(pickles)}); convert one of them with `python -m "
        f"MedFMLib.models.masks.sam2_convert FILE FOLDER --size {card.image_size}`, and give that folder as the model."
    )
