"""PaliGemma 1 and 2, the embedded MedFM-tiny included: text, boxes and masks from one slice at a time.

Prompts are those of the published mix checkpoints: `answer en Q`, `caption en`, `describe en`,
`detect a ; b`, `segment a ; b` (google-research/big_vision, configs/proj/paligemma). Boxes come as four
`<loc0000>`–`<loc1023>` tokens (y_min x_min y_max x_max), masks as sixteen `<seg000>`–`<seg127>` codes that a VQ
decoder turns into 64×64 pixels inside the box; a model that comes with a dense head draws its masks with that instead
(docs/decisions/0005). Torch and transformers are imported when weights are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import resources
from ..errors import Cancelled, InputError, ModelError
from ..model import LoadedFacts, ModelCard, SeenObject, Watch
from ..view import View
from .parts.loading import SMALL

MODEL_TYPES = ("paligemma",)

BATCH_SMALL, BATCH = 32, 2
"""Slices in one generation of a small model (where each step is mostly overhead) and of others."""

LABELS_PER_PROMPT = 6
"""Structures asked for at once; at 20 tokens each, more makes answers long and worse."""

TOKENS_PER_OBJECT = {"segment": 4 + 16, "detect": 4}
NAME_TOKENS = 8


def load(card: ModelCard, adapter: str, precision: str, progress) -> PaliGemma:
    """Load base, adapter and mask codec.

    Raises:
        ModelError: if something is missing or doesn't fit.
    """
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    from .parts import loading
    from .parts.dense_head import DenseHead
    from .parts.mask_codec import MaskCodec

    folder = loading.base_folder(card)
    try:
        processor = PaliGemmaProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The tokenizer or image processor of {card.title} is missing or damaged ({error}); copy the whole model again."
        ) from error
    model, held = loading.load_weights(PaliGemmaForConditionalGeneration, folder, precision, card.parameters)
    adapter_hash = ""
    if adapter:
        place = loading.adapter_folder(card, adapter)
        progress.stage(f"Attaching adapter {place.name}")
        model = loading.attach_adapter(model, place)
        adapter_hash = loading.sha256_of([place / "adapter_model.safetensors"])
    codec_folder = _codec_folder(card, folder)
    codec = MaskCodec.load(codec_folder) if codec_folder else None
    head = DenseHead.load(folder.parent / "dense_head") if (folder.parent / "dense_head").is_dir() else None
    revision = card.revision or loading.sha256_of(loading.check_folder(folder))
    name = Path(adapter).name if adapter else ""
    facts = LoadedFacts(revision, held, name, adapter_hash)
    return PaliGemma(model, processor, codec, facts, head)


def _codec_folder(card: ModelCard, base: Path) -> Path | None:
    for folder in (base / "mask_codec", base.parent / "mask_codec"):
        if folder.is_dir():
            return folder
    shared = resources.path("models", "paligemma-mask-codec")
    return shared if shared.is_dir() else None


def stats(card: ModelCard, precision: str = "nf4"):
    """Sizes from the config alone; see `parts.sizes`.

    Raises:
        ModelError: if no config is at hand.
    """
    from transformers import PaliGemmaForConditionalGeneration

    from .parts import loading
    from .parts.sizes import sizes_from_config

    folder = resources.path(*card.config.split("/")) if card.config else loading.base_folder(card)
    return sizes_from_config(PaliGemmaForConditionalGeneration, folder, precision)


def card_for_folder(folder: Path, config: dict[str, Any]) -> ModelCard:
    """A card for any folder with a PaliGemma model; open vocabulary."""
    return ModelCard(
        id=str(folder),
        title=folder.name,
        architecture="paligemma",
        summary="A PaliGemma model from a folder of yours; MedFM knows nothing of its quality.",
        licence="see the folder",
        parameters=0,
        image_size=int(config.get("vision_config", {}).get("image_size", 224)),
        abilities=("writes", "segments", "locates"),
        precisions=("nf4", "int8", "bf16", "fp32") if "quantization_config" not in config else ("nf4", "bf16", "fp32"),
        adapters=tuple(sorted(p.name for p in (folder / "adapters").glob("*") if p.is_dir())),
    )


class PaliGemma:
    """A loaded PaliGemma. `Writes`, `Segments` and `Locates`; one picture per question.

    Args:
        model: `PaliGemmaForConditionalGeneration`, bare or inside a PEFT model, in eval mode.
        processor: its `PaliGemmaProcessor`.
        codec: turns 16 codes into a mask; None if the model has no masks.
        facts: for provenance.
        head: draws masks straight from the vision tower; None to write them as tokens.
    """

    max_views = 1

    def __init__(self, model, processor, codec, facts: LoadedFacts, head=None):
        self.model, self.processor, self.codec, self.facts, self.head = model, processor, codec, facts, head
        size = processor.image_processor.size
        self.image_size = int(size["height"])
        self.batch = BATCH_SMALL if sum(p.numel() for p in model.parameters()) < SMALL else BATCH

    # -- abilities -------------------------------------------------------------------------------

    def write(
        self,
        views: Sequence[View],
        text: str = "",
        *,
        kind: str = "answer",
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        watch: Watch = Watch(),
    ) -> str:
        """See `Writes.write`; earlier turns are not seen by this family.

        Raises:
            InputError: if more than one view is given.
        """
        if len(views) != 1:
            raise InputError(f"PaliGemma looks at one picture per question, not {len(views)}.")
        prompt = f"answer en {text}" if kind == "answer" else f"{kind} en"
        watch.on_prompt(prompt)
        (answer,) = self._generate([prompt], views, max_tokens, watch, watch.on_text)
        return answer.strip()

    def segment(
        self, views: Sequence[View], labels: Sequence[str], *, watch: Watch = Watch()
    ) -> list[list[SeenObject]]:
        """See `Segments.segment`.

        Raises:
            ModelError: if the model came without a mask codec.
        """
        if self.head is not None:
            return self._draw(views, labels, watch)
        if self.codec is None:
            raise ModelError(
                "This model has no mask codec; convert the published vae-oid.npz with "
                "`python -m MedFMLib.models.parts.mask_codec vae-oid.npz FOLDER/mask_codec`."
            )
        return self._see("segment", views, labels, watch)

    def locate(self, views: Sequence[View], labels: Sequence[str], *, watch: Watch = Watch()) -> list[list[SeenObject]]:
        """See `Locates.locate`."""
        return self._see("detect", views, labels, watch)

    # -- how -------------------------------------------------------------------------------------

    def _draw(self, views: Sequence[View], labels: Sequence[str], watch: Watch) -> list[list[SeenObject]]:
        """Masks over whole pictures by the dense head, a batch of slices in one pass of the vision tower."""
        import torch

        watch.on_prompt(f"dense head: {' ; '.join(labels)}")
        seen: list[list[SeenObject]] = []
        core = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        for start in range(0, len(views), self.batch):
            if watch.cancelled():
                raise Cancelled
            pictures = [view.square(self.image_size) for view in views[start : start + self.batch]]
            pixels = self.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                features = core.model.vision_tower(pixels.to(core.device, core.dtype)).last_hidden_state
                found = self.head.masks(features.cpu(), labels)
            seen += [[SeenObject(name, (0.0, 0.0, 1.0, 1.0), mask) for name, mask in masks.items()] for masks in found]
            watch.on_fraction(len(seen) / len(views))
        return seen

    def _see(self, verb: str, views: Sequence[View], labels: Sequence[str], watch: Watch) -> list[list[SeenObject]]:
        from .parts.location_tokens import parse_objects

        seen: list[list[SeenObject]] = [[] for _ in views]
        chunks = [labels[i : i + LABELS_PER_PROMPT] for i in range(0, len(labels), LABELS_PER_PROMPT)]
        batches = [range(i, min(i + self.batch, len(views))) for i in range(0, len(views), self.batch)]
        done, total = 0, max(1, len(chunks) * len(batches))
        for chunk in chunks:
            prompt = f"{verb} {' ; '.join(chunk)}"
            watch.on_prompt(prompt)
            longest = len(chunk) * (TOKENS_PER_OBJECT[verb] + NAME_TOKENS)
            for batch in batches:
                texts = self._generate([prompt] * len(batch), [views[n] for n in batch], longest, watch)
                for number, text in zip(batch, texts, strict=True):
                    seen[number] += self._decode(parse_objects(text), chunk, verb == "segment")
                done += 1
                watch.on_fraction(done / total)
        return seen

    def _decode(self, objects, labels: Sequence[str], masks: bool) -> list[SeenObject]:
        """Parsed objects of the asked labels; a structure without valid mask codes is dropped when masks are asked for."""
        found = [o for o in objects if o.name in labels and (o.codes is not None or not masks)]
        if not masks or not found:
            return [SeenObject(o.name, o.box) for o in found]
        pictures = self.codec.decode([o.codes for o in found]).numpy()
        return [SeenObject(o.name, o.box, mask) for o, mask in zip(found, pictures, strict=True)]

    def _generate(self, prompts, views, max_tokens: int, watch: Watch, on_text=None) -> list[str]:
        """Greedy decoding of one answer for each (prompt, view); special tokens kept except the end."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer

        class StopWhenCancelled(StoppingCriteria):
            def __call__(self, input_ids, scores, **_):
                if watch.cancelled():
                    raise Cancelled
                return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

        class Pieces(TextStreamer):
            def on_finalized_text(self, text: str, stream_end: bool = False):
                if text:
                    on_text(text)

        if watch.cancelled():
            raise Cancelled
        tokenizer = self.processor.tokenizer
        pictures = [view.square(self.image_size) for view in views]
        texts = ["<image>" + prompt for prompt in prompts]
        inputs = self.processor(images=pictures, text=texts, return_tensors="pt", padding=True)
        inputs.pop("labels", None)  # the processor makes them even without an answer
        weights = next(p for p in self.model.parameters() if p.is_floating_point())
        inputs = {k: v.to(weights.device, weights.dtype if v.is_floating_point() else None) for k, v in inputs.items()}
        streamer = Pieces(tokenizer, skip_prompt=True, skip_special_tokens=True) if on_text else None
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([StopWhenCancelled()]),
            )
        answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
        drop = [t for t in (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) if t]
        return [_without(answer, drop) for answer in answers]


def _without(text: str, tokens: Sequence[str]) -> str:
    for token in tokens:
        text = text.replace(token, "")
    return text
