"""Run PaliGemma 1 and 2, including the embedded MedFM-tiny: text, boxes and masks from one slice at a time.

Prompts are those of the published mix checkpoints: `answer en Q`, `caption en`, `describe en`,
`detect a ; b`, `segment a ; b` (google-research/big_vision, configs/proj/paligemma). Boxes come as four
`<loc0000>`–`<loc1023>` tokens (y_min x_min y_max x_max), masks as sixteen `<seg000>`–`<seg127>` codes that a VQ
decoder turns into 64×64 pixels inside the box; a model that comes with a mask head segments with that instead
(docs/decisions/0006). Torch and transformers are imported when weights are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..core.view import View
from ..errors import Cancelled, InputError, ModelError
from ..interfaces.family import FamilyTraits
from ..interfaces.model import Callbacks, LoadedFacts
from ..storage import resources
from ..storage.model_card import AUTOMATIC, ModelCard
from .generation.token_sampling import GREEDY, SamplingMethod
from .masks.location_tokens import JOINT
from .masks.named_structures import NamedStructureMasks
from .runtime import model_folder
from .runtime.adapters import Adapters
from .runtime.device import input_device
from .runtime.loading import SMALL

MODEL_TYPES = ("paligemma",)

TRAITS = FamilyTraits(tied_head=True, quantizes_vision=True, converses=False)

BATCH_SMALL, BATCH = 32, 2
"""Slices in one generation of a small model (where each step is mostly overhead) and of others."""


def load(card: ModelCard, adapter: str, precision: str, progress) -> PaliGemma:
    """Load base, mask codec and mask head, and attach an adapter.

    Args:
        card: card of the model.
        adapter: name or folder; "" for none, `AUTOMATIC` to choose one by the requested labels.
        precision: one of the card's.
        progress: receives the stages.

    Raises:
        ModelError: if files are missing or incompatible.
    """
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

    from .masks.mask_codec import MaskCodec
    from .runtime import checkpoint, loading

    folder = loading.base_folder(card)
    try:
        processor = PaliGemmaProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The tokenizer or image processor of {card.title} is missing or damaged ({error}); copy the whole model again."
        ) from error
    model, held = loading.load_weights(
        PaliGemmaForConditionalGeneration, folder, precision, card.parameters, progress=progress
    )
    codec_folder = _codec_folder(card, folder)
    codec = MaskCodec.load(codec_folder) if codec_folder else None
    revision = card.revision or checkpoint.sha256_of(checkpoint.check_folder(folder))
    head = None
    if (folder.parent / "mask_head").is_dir():
        from .masks.mask_head import MaskHead

        head = MaskHead.load(folder.parent / "mask_head")
    made = PaliGemma(card, model, processor, codec, LoadedFacts(revision, held), head)
    if adapter not in ("", AUTOMATIC):
        progress.stage(f"Attaching adapter {Path(adapter).name}")
    made.use_adapter(adapter)
    return made


def _codec_folder(card: ModelCard, base: Path) -> Path | None:
    for folder in (base / "mask_codec", base.parent / "mask_codec"):
        if folder.is_dir():
            return folder
    shared = resources.path("models", "paligemma-mask-codec")
    return shared if shared.is_dir() else None


def stats(card: ModelCard, precision: str = "nf4"):
    """Return the sizes from the config alone; see `runtime.sizes`.

    Args:
        card: card of the model.
        precision: see `runtime.precision.plan`.

    Raises:
        ModelError: if there is no config on this machine.
    """
    from transformers import PaliGemmaForConditionalGeneration

    return model_folder.sizes(card, PaliGemmaForConditionalGeneration, precision, ())


def memory(card: ModelCard, precision: str, slices: int, **more):
    """Return the memory for a question, from the config alone; see `runtime.memory.parts`.

    Args:
        card: card of the model.
        precision: of the weights.
        slices: pictures per question; ignored, since PaliGemma takes one.
        more: further arguments of `runtime.memory.parts`.

    Raises:
        ModelError: if there is no config on this machine.
    """
    from transformers import PaliGemmaForConditionalGeneration

    return model_folder.memory(card, PaliGemmaForConditionalGeneration, (), reads, precision, 1, **more)


def reads(config):
    """Return the sizes of a question to a PaliGemma, from its config; see `runtime.memory.QuestionSize`."""
    from .runtime.memory import QuestionSize

    side = config.vision_config.image_size
    patches = (side // config.vision_config.patch_size) ** 2
    return QuestionSize(patches, patches, side**2, 1)


def card_for_folder(folder: Path, config: dict[str, Any]) -> ModelCard:
    """Return a card for a folder with a PaliGemma model; open vocabulary.

    Args:
        folder: folder with the weights.
        config: content of its config.json.
    """
    return ModelCard(
        id=str(folder),
        title=folder.name,
        architecture="paligemma",
        summary="A PaliGemma model from a folder of yours; MedFM knows nothing of its quality.",
        licence="see the folder",
        parameters=0,
        image_size=int(config.get("vision_config", {}).get("image_size", 224)),
        abilities=("writes", "segments", "locates", "explains"),
        precisions=("nf4", "int8", "bf16", "fp32") if "quantization_config" not in config else ("nf4", "bf16", "fp32"),
        adapters=tuple(sorted(p.name for p in (folder / "adapters").glob("*") if p.is_dir())),
    )


def random_checkpoint(folder: Path) -> Path:
    """Write a tiny PaliGemma with random weights and return its folder: 64 pixels, patches of 16, 16 tokens a picture."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    from .masks.location_tokens import LOCATION_TOKENS, MASK_TOKENS
    from .masks.mask_codec import CodecShape, MaskCodec
    from .runtime.random_checkpoint import TEXT_MODEL, byte_tokenizer, save

    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<image>")
    words = byte_tokenizer(
        special, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>", padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    words.add_tokens([*LOCATION_TOKENS, *MASK_TOKENS], special_tokens=True)
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=64,
            patch_size=16, projection_dim=64, vision_use_head=False,
        ),
        text_config=GemmaConfig(vocab_size=-(-len(words) // 64) * 64, **TEXT_MODEL, **ends),
        image_token_id=words.convert_tokens_to_ids("<image>"), projection_dim=64, tie_word_embeddings=True, **ends,
    )  # fmt: skip
    model = PaliGemmaForConditionalGeneration(config)
    for name, number in ends.items():
        setattr(model.generation_config, name, number)
    images = SiglipImageProcessor(size={"height": 64, "width": 64})
    images.image_seq_length = 16
    save(folder, model, PaliGemmaProcessor(image_processor=images, tokenizer=words))
    MaskCodec(CodecShape(16, 16, 16)).save(folder / "mask_codec")
    return folder


def object_answer(label: str, masks: bool) -> str:
    """Return an answer in which the model reports one structure, in the middle of the picture.

    Args:
        label: name of the structure.
        masks: with the sixteen codes of its mask.
    """
    codes = "".join(f"<seg{code:03}>" for code in range(16)) if masks else ""
    return f"<loc0256><loc0300><loc0767><loc0700>{codes} {label}"


class PaliGemma(NamedStructureMasks):
    """A loaded PaliGemma; one picture per question.

    Its abilities are `Writes`, `Samples`, `Explains`, `Segments`, `SegmentsVolumes` and `Locates`.

    Args:
        card: card of the model; its adapters can be switched to.
        model: `PaliGemmaForConditionalGeneration`, in eval mode.
        processor: its `PaliGemmaProcessor`.
        codec: decodes 16 codes to a mask; None if the model has no masks.
        facts: for provenance.
        head: segments with the vision tower and the picture; None to write masks as tokens.
    """

    max_views = 1

    def __init__(self, card: ModelCard, model, processor, codec, facts: LoadedFacts, head=None):
        self.processor, self.codec, self.facts, self.head = processor, codec, facts, head
        size = processor.image_processor.size
        self.image_size = int(size["height"])
        self.batch = BATCH_SMALL if sum(p.numel() for p in model.parameters()) < SMALL else BATCH
        self._adapters = Adapters(card, model, head, facts.revision)
        self._automatic = False

    @property
    def model(self):
        """The PEFT model if an adapter was ever attached, else the base model."""
        return self._adapters.model

    def use_adapter(self, name: str) -> None:
        """Switch the adapter; the base stays in memory.

        Args:
            name: one of the card's adapters, or a folder; "" for the base alone; `AUTOMATIC` to choose one by the
                requested labels.

        Raises:
            ModelError: if there is no such adapter, or it is incompatible.
        """
        self._automatic = name == AUTOMATIC
        self._activate("" if self._automatic else name)

    def _activate(self, name: str) -> None:
        """Switch the adapter, and update the facts."""
        self._adapters.activate(name)
        self.head = self._adapters.head
        self.facts = replace(self.facts, **self._adapters.facts)

    # -- abilities -------------------------------------------------------------------------------

    def write(
        self,
        views: Sequence[View],
        text: str = "",
        *,
        kind: str = "answer",
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        callbacks: Callbacks = Callbacks(),
    ) -> str:
        """Implement `Writes.write`; this family does not read earlier turns.

        Raises:
            InputError: if more than one view is given.
        """
        if len(views) != 1:
            raise InputError(f"PaliGemma takes one picture per question, not {len(views)}.")
        if self._automatic:
            self._activate("")
        prompt = f"answer en {text}" if kind == "answer" else f"{kind} en"
        callbacks.on_prompt(prompt)
        (answer,) = self._generate([prompt], views, max_tokens, callbacks, callbacks.on_text)
        return answer.strip()

    def write_many(
        self, views: Sequence[View], texts: Sequence[str], *, max_tokens: int = 64, callbacks: Callbacks = Callbacks()
    ) -> list[str]:
        """Implement `WritesMany.write_many`."""
        if self._automatic:
            self._activate("")
        prompts = [f"answer en {text}" for text in texts]
        answers: list[str] = []
        for start in range(0, len(prompts), self.batch):
            some = slice(start, start + self.batch)
            for prompt in dict.fromkeys(prompts[some]):
                callbacks.on_prompt(prompt)
            answers += self._generate(prompts[some], views[some], max_tokens, callbacks)
            callbacks.on_fraction(len(answers) / len(prompts))
        return [answer.strip() for answer in answers]

    def sample(
        self,
        views: Sequence[View],
        text: str,
        count: int,
        *,
        temperature: float = 1.0,
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        callbacks: Callbacks = Callbacks(),
    ) -> list[str]:
        """Implement `Samples.sample`; this family does not read earlier turns."""
        if self._automatic:
            self._activate("")
        prompt = f"answer en {text}"
        callbacks.on_prompt(prompt)
        answers: list[str] = []
        while len(answers) < count:
            some = min(self.batch, count - len(answers))
            drawn = SamplingMethod(temperature, len(answers))
            answers += self._generate([prompt] * some, list(views) * some, max_tokens, callbacks, drawn=drawn)
            callbacks.on_fraction(len(answers) / count)
        return [answer.strip() for answer in answers]

    def score(
        self,
        shown: Sequence[Sequence[View]],
        text: str,
        answer: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        callbacks: Callbacks = Callbacks(),
    ) -> list[float]:
        """Implement `Explains.score`."""
        from .generation.likelihood import mean_log_probability

        scores: list[float] = []
        for start in range(0, len(shown), self.batch):
            if callbacks.cancelled():
                raise Cancelled
            some = [view for (view,) in shown[start : start + self.batch]]
            scores += mean_log_probability(self.model, *self._answered(some, text, answer))
            callbacks.on_fraction(len(scores) / len(shown))
        return scores

    def attention(
        self,
        views: Sequence[View],
        text: str,
        answer: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        callbacks: Callbacks = Callbacks(),
    ) -> list[np.ndarray]:
        """Implement `Explains.attention`."""
        from .generation.attention_rollout import look

        maps: list[np.ndarray] = []
        for view in views:
            if callbacks.cancelled():
                raise Cancelled
            maps += look(self.model, *self._answered([view], text, answer), 1)
            callbacks.on_fraction(len(maps) / len(views))
        return maps

    def _answered(self, views: Sequence[View], text: str, answer: str) -> tuple[dict[str, Any], int]:
        """Return (tensors of a question with its answer about each view, position of the answer's first token)."""
        if self._automatic:
            self._activate("")
        inputs = self._inputs([f"answer en {text}"] * len(views), views, [answer] * len(views))
        return inputs, int((inputs["token_type_ids"][0] == 1).nonzero()[0])

    # -- internals -------------------------------------------------------------------------------

    def inputs_for(self, view: View, question: str) -> dict[str, Any]:
        """Return the tensors for `generate` of a question about one picture.

        Args:
            view: the slice.
            question: the question.
        """
        return self._inputs([f"answer en {question}"], [view])

    def inputs_for_objects(self, verb: str, view: View, names: Sequence[str]) -> dict[str, Any]:
        """Return the tensors for "segment" or "detect" in one picture.

        Args:
            verb: "segment" or "detect".
            view: the slice.
            names: names of the structures.
        """
        return self._inputs([f"{verb} {JOINT.join(names)}"], [view])

    answer_fill: ClassVar[dict[str, int]] = {"token_type_ids": 1}
    """Values for the tokens of an answer, 0 for a prompt's: attention is causal in an answer only."""

    def answer_part(self, question: str, answer: str) -> str:
        """Return what follows the prompt when an answer is written: the answer without control tokens, and its end.

        Args:
            question: not used; the answer's part does not depend on it.
            answer: the answer.
        """
        return _without(answer, self._control()) + self.processor.tokenizer.eos_token

    def _control(self) -> list[str]:
        """Return the tokens that a person's text must not contain: of a picture, of the prompt's start and end."""
        tokenizer = self.processor.tokenizer
        picture = tokenizer.convert_ids_to_tokens(self.processor.image_token_id)
        return [t for t in (picture, tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) if t]

    def _inputs(self, prompts: Sequence[str], views: Sequence[View], answers=None) -> dict[str, Any]:
        """Return tensors with one (prompt, view) per row, with their answers if given."""
        pictures = [view.for_model(self.image_size) for view in views]
        texts = ["<image>" + _without(prompt, self._control()) for prompt in prompts]
        given = {} if answers is None else {"suffix": list(answers)}
        inputs = self.processor(images=pictures, text=texts, return_tensors="pt", padding=True, **given)
        inputs.pop("labels", None)  # the processor makes them even without an answer
        place, dtype = input_device(self.model)
        return {k: v.to(place, dtype if v.is_floating_point() else None) for k, v in inputs.items()}

    def _generate(self, prompts, views, max_tokens: int, callbacks: Callbacks, on_text=None, drawn=GREEDY) -> list[str]:
        """Return one answer for each (prompt, view), greedy or sampled; special tokens are kept except the end."""
        import torch

        from .generation.streaming import raise_if_cancelled, stop_when_cancelled, text_streamer

        raise_if_cancelled(callbacks)
        tokenizer, inputs = self.processor.tokenizer, self._inputs(prompts, views)
        drop = [t for t in (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) if t]
        streamer = text_streamer(tokenizer, on_text, drop, special=True) if on_text else None
        with torch.inference_mode(), drawn.seeded():
            output = self.model.generate(
                **inputs,
                **drawn.options,
                max_new_tokens=max_tokens,
                num_beams=1,
                streamer=streamer,
                stopping_criteria=stop_when_cancelled(callbacks),
            )
        length = inputs["input_ids"].shape[1]
        callbacks.on_tokens(int(inputs["attention_mask"].sum()), (output.shape[1] - length) * len(output))
        answers = tokenizer.batch_decode(output[:, length:], skip_special_tokens=False)
        return [_without(answer, drop) for answer in answers]


def _without(text: str, tokens: Sequence[str]) -> str:
    for token in tokens:
        text = text.replace(token, "")
    return text
