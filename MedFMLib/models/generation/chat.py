"""Implement what model families with a chat template share. Knows conversations; no family's layout.

A family defines how its pictures are prepared and where they appear in a question; this module loads models, makes
cards, switches adapters, renders the conversation with the template that came with the model, and generates the answer.
User text can never act as a model's control tokens. Torch and transformers are imported when weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...core.view import View
from ...errors import Cancelled, InputError, ModelError
from ...interfaces.model import Callbacks, LoadedFacts
from ...storage.json_text import read_json
from ...storage.model_card import AUTOMATIC, ModelCard
from ..runtime.adapters import Adapters
from ..runtime.checkpoint import stored_precision
from ..runtime.device import input_device
from ..runtime.precision import PACKED
from .prefix_cache import Prefix, PrefixCache, cache_features, digest
from .templates import bounded
from .token_sampling import GREEDY, SamplingMethod

INSTRUCTION = (
    "You are asked about medical images for research, not for diagnosis. "
    "Answer from the images only, and say so when they do not show what is asked."
)
"""First turn of every conversation."""

REQUESTS = {
    "caption": "Say in one short sentence what the images show.",
    "describe": "Describe what the images show: the kind of scan, the part of the body, and the visible structures.",
}
"""Prompts for the kinds of text that have no question."""

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""A tokenizer has one of these files."""

QUANTIZED_LAYERS = ("Linear4bit", "Linear8bitLt")
STAND_INS = ("PackedLinear", "DynamicLinear")
"""Classes that replace quantized layers where that is faster (`models.cpu.engines`)."""
LAYER = re.compile(r".*\.(layers|blocks)\.\d+")
"""Names of the layers before which cancellation is checked, so that it also works while many pictures are encoded."""


def picture() -> dict[str, str]:
    """Return the placeholder of a picture in a turn."""
    return {"type": "image"}


def said(text: str) -> dict[str, str]:
    """Return text in a turn."""
    return {"type": "text", "text": text}


def uniform(count: int, most: int) -> list[int]:
    """Return the slices to show out of `count`, at most `most`: all, or round(i / most · (count − 1)), i = 1…most.

    This is the choice of the MedGemma 1.5 CT notebook (Google-Health/medgemma, high_dimensional_ct_hugging_face.ipynb),
    which leaves out the first slice.

    Args:
        count: number of slices of the volume.
        most: largest number of slices shown.
    """
    if count <= most:
        return list(range(count))
    return [round(i / most * (count - 1)) for i in range(1, most + 1)]


def are_pictures(views: Sequence[View]) -> bool:
    """Return whether views show pictures without a place in a patient."""
    return all(view.geometry.is_picture for view in views)


class ChatModel:
    """A loaded model that answers in a conversation: `Writes`, `Samples` and `Explains`. Base class of chat families.

    Args:
        card: card of the model; its adapters can be switched to.
        model: a transformers model that generates, in eval mode.
        processor: its processor, with a chat template.
        facts: for provenance.
    """

    max_views: int = 1
    remembers = True
    """Earlier turns are part of the conversation."""
    vision: ClassVar[tuple[str, ...]] = ()
    """Modules that are never quantized: few weights, and widths that 4-bit kernels don't support (1152 → 4304)."""

    def __init__(self, card: ModelCard, model, processor, facts: LoadedFacts):
        self.card, self.processor, self.facts = card, processor, facts
        self._adapters = Adapters(card, model, None, facts.revision)
        self.image_cache = PrefixCache()
        self._pictures = ""
        self.shown = 0
        """Number of pictures of the last question."""
        cache_features(model.model, self.image_cache, self._features_key)
        model.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None)

    @property
    def model(self):
        """The PEFT model if an adapter was ever attached, else the base model."""
        return self._adapters.model

    def use_adapter(self, name: str) -> None:
        """Switch the adapter; the base stays in memory.

        Args:
            name: one of the card's adapters, or a folder; "" or `AUTOMATIC` for the base alone, since adapters of these
                families don't state what they are made for.

        Raises:
            ModelError: if there is no such adapter, or it is incompatible.
        """
        name = "" if name == AUTOMATIC else name
        self._adapters.activate(name)
        self.facts = replace(self.facts, **self._adapters.facts)

    # -- implemented by families -----------------------------------------------------------------

    def side(self, count: int) -> int:
        """Return the side length in pixels of each of `count` pictures."""
        raise NotImplementedError

    def first_turn(self, count: int, question: str) -> list[dict[str, str]]:
        """Return the first turn: `count` pictures and the first question.

        Args:
            count: number of pictures.
            question: the question.
        """
        raise NotImplementedError

    def first_turn_of_pictures(self, count: int, question: str) -> list[dict[str, str]]:
        """Return the first turn about pictures that are no slices: as for slices, unless a family's recipe differs.

        Args:
            count: number of pictures.
            question: the question.
        """
        return self.first_turn(count, question)

    def pictures(self, views: Sequence[View]) -> list[np.ndarray]:
        """Return (H, W, 3) uint8 for each view: (S, S, 3) for slices, a picture as it is."""
        return [view.for_model(self.side(len(views))) for view in views]

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
        """Implement `Writes.write`; the pictures are in the first of all turns.

        Raises:
            InputError: for no views, more than `max_views`, or a conversation longer than the model's context.
        """
        if not 1 <= len(views) <= self.max_views:
            raise InputError(f"{self.card.title} takes 1 to {self.max_views} pictures per question, not {len(views)}.")
        question = text if kind == "answer" else REQUESTS[kind]
        return self._say(
            self.conversation(len(views), question, history, are_pictures(views)),
            views,
            max_tokens,
            callbacks,
            callbacks.on_text,
        )

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
        """Implement `Samples.sample`; the image cache is reused for all answers."""
        turns, answers = self.conversation(len(views), text, history, are_pictures(views)), []
        for number in range(count):
            answers.append(self._say(turns, views, max_tokens, callbacks, drawn=SamplingMethod(temperature, number)))
            callbacks.on_fraction((number + 1) / count)
        return answers

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
        from .likelihood import mean_log_probability

        scores: list[float] = []
        for views in shown:
            if callbacks.cancelled():
                raise Cancelled
            scores += mean_log_probability(self.model, *self._answered(views, text, answer, history))
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
        from .attention_rollout import look

        if callbacks.cancelled():
            raise Cancelled
        return look(self.model, *self._answered(views, text, answer, history), len(views))

    def _answered(self, views: Sequence[View], text: str, answer: str, history) -> tuple[dict[str, Any], int]:
        """Return (tensors of a conversation with its last answer, position of that answer's first token)."""
        turns = self.conversation(len(views), text, history, are_pictures(views))
        prompt, tokenizer = self._render(turns), self.processor.tokenizer
        answer = self._harmless(answer) or " "
        self._pictures = ""  # do not cache these pictures
        inputs = self._inputs(prompt + answer, self.pictures(views))
        more = len(tokenizer(prompt + answer)["input_ids"]) - len(tokenizer(prompt)["input_ids"])
        return inputs, inputs["input_ids"].shape[1] - max(1, more)

    def conversation(
        self, count: int, question: str, history: Sequence[tuple[str, str]] = (), pictures: bool = False
    ) -> list[dict[str, Any]]:
        """Return the turns for the chat template: instruction, earlier questions and answers, the question.

        Args:
            count: number of pictures.
            question: the question.
            history: earlier (question, answer) pairs, oldest first.
            pictures: whether they are pictures without a place in a patient, rather than slices of a volume.
        """
        first_turn = self.first_turn_of_pictures if pictures else self.first_turn
        turns = [{"role": "system", "content": [said(INSTRUCTION)]}]
        for number, (asked, answer) in enumerate([*history, (question, None)]):
            asked = self._harmless(asked)
            turns.append({"role": "user", "content": [said(asked)] if number else first_turn(count, asked)})
            if answer is not None:
                turns.append({"role": "assistant", "content": [said(self._harmless(answer))]})
        return turns

    # -- internals -------------------------------------------------------------------------------

    def _harmless(self, text: str) -> str:
        """Return text without the model's control tokens, which would end a turn or insert a picture."""
        for token in self.processor.tokenizer.added_tokens_decoder.values():
            if token.special and token.content in text:
                text = text.replace(token.content, " ")
        return text

    def _render(self, turns: list[dict[str, Any]], ask: bool = True) -> str:
        """Return the conversation as prompt text with picture placeholders; with `ask`, ready for the answer."""
        from jinja2.exceptions import TemplateError

        try:
            return self._rendered(turns, ask)
        except TemplateError:  # raised by templates without a system turn
            (system, first, *rest) = turns
            first = {"role": "user", "content": [*system["content"], *first["content"]]}
            return self._rendered([first, *rest], ask)

    def _rendered(self, turns: list[dict[str, Any]], ask: bool) -> str:
        template = _template(self.processor)
        with bounded(template):
            return self.processor.apply_chat_template(
                turns, chat_template=template, tokenize=False, add_generation_prompt=ask
            )

    def inputs_for(self, view: View, question: str) -> dict[str, Any]:
        """Return the tensors for `generate` of a question about one picture.

        Args:
            view: the slice.
            question: the question.
        """
        self._pictures = ""  # do not cache these pictures
        turns = self.conversation(1, question, pictures=are_pictures([view]))
        return self._inputs(self._render(turns), self.pictures([view]))

    answer_fill: ClassVar[dict[str, int]] = {}

    def answer_part(self, question: str, answer: str) -> str:
        """Return the text that follows the prompt when an answer is written: the answer and the template's end token.

        Args:
            question: the question.
            answer: the answer.
        """
        prompt, written = self._render(self.conversation(1, question)), self._harmless(answer)
        turns = [*self.conversation(1, question), {"role": "assistant", "content": [said(written)]}]
        complete = self._render(turns, False)
        part = complete[len(prompt) :] if complete.startswith(prompt) else written
        tokenizer = self.processor.tokenizer
        ends = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special and t.content in part]
        if ends:  # drop what the template writes after the end of the answer
            first = min(part.index(end) + len(end) for end in ends)
            return part[:first]
        return part.rstrip() + (tokenizer.eos_token or "")

    def _inputs(self, prompt: str, pictures: Sequence[np.ndarray]):
        """Return the tensors of one prompt, on the model's device and in its dtype."""
        start = self.processor.tokenizer.bos_token
        inputs = self.processor(
            images=list(pictures),
            text=[prompt],
            return_tensors="pt",
            add_special_tokens=not (start and prompt.startswith(start)),  # not twice
        )
        place, dtype = input_device(self.model)
        return {k: v.to(place, dtype if v.is_floating_point() else None) for k, v in inputs.items()}

    def _features_key(self):
        """Return the cache key of image features: the pictures, and the adapter if it changes the vision tower."""
        if not self._pictures:
            return None
        return "features", self._pictures, self._adapters.active if self._adapters.touches(self.vision) else ""

    def _after_pictures(self, inputs: dict) -> dict:
        """Return inputs for `generate` after the last picture; the earlier part comes from the cache or is added to it."""
        from transformers import DynamicCache

        core = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        numbers = inputs["input_ids"]
        tokens = int((numbers[0] == core.config.image_token_id).nonzero().max()) + 1
        key = (
            "prefix",
            self._pictures,
            self._adapters.active,
            tokens,
            hash(bytes(numbers[0, :tokens].numpy(force=True))),
        )
        prefix = self.image_cache.get(key)
        if prefix is None:
            past = DynamicCache(config=core.config.get_text_config())
            first = {k: v[:, :tokens] if v.shape[:2] == numbers.shape else v for k, v in inputs.items()}
            self.model(**first, past_key_values=past, use_cache=True, logits_to_keep=1)
            prefix = Prefix(tokens, past, getattr(core.model, "rope_deltas", None))
            self.image_cache.put(key, prefix)
        if prefix.position_shift is not None:
            core.model.rope_deltas = prefix.position_shift
        rest = {k: v for k, v in inputs.items() if v.shape[:2] == numbers.shape}
        return rest | {"past_key_values": prefix.fresh()}

    def _say(
        self,
        turns,
        views: Sequence[View],
        max_tokens: int,
        callbacks: Callbacks,
        on_text=None,
        drawn: SamplingMethod = GREEDY,
    ) -> str:
        """Return the answer to a conversation about views, by greedy decoding or sampling."""
        import torch

        from .streaming import raise_if_cancelled, stop_when_cancelled, text_streamer

        def stop_if_cancelled(*_) -> None:
            raise_if_cancelled(callbacks)

        self.shown = len(views)
        prompt, pictures = self._render(turns), self.pictures(views)
        callbacks.on_prompt(prompt)
        stop_if_cancelled()
        inputs = self._inputs(prompt, pictures)
        self._pictures = digest(pictures)
        length, tokenizer = inputs["input_ids"].shape[1], self.processor.tokenizer
        most = self.model.config.get_text_config().max_position_embeddings
        if length + max_tokens > most:
            raise InputError(
                f"{self.card.title} reads at most {most} tokens, and this conversation has {length} with "
                f"{max_tokens} for the answer; choose fewer slices or start a new conversation."
            )
        streamer = text_streamer(tokenizer, on_text) if on_text else None
        layers = [module for name, module in self.model.named_modules() if LAYER.fullmatch(name)]
        hooks = [layer.register_forward_pre_hook(stop_if_cancelled) for layer in layers]
        try:
            with torch.inference_mode(), drawn.seeded():
                output = self.model.generate(
                    **self._after_pictures(inputs),
                    **drawn.options,
                    max_new_tokens=max_tokens,
                    num_beams=1,
                    pad_token_id=tokenizer.pad_token_id,
                    streamer=streamer,
                    stopping_criteria=stop_when_cancelled(callbacks),
                )
        finally:
            for hook in hooks:
                hook.remove()
        callbacks.on_tokens(length, output.shape[1] - length)
        return tokenizer.decode(output[0, length:], skip_special_tokens=True).strip()


# -- loading -----------------------------------------------------------------------------------------


def load(
    family: type[ChatModel], card: ModelCard, adapter: str, precision: str, progress, model_class, processor_class
):
    """Load a base, check what was quantized, and attach an adapter.

    Args:
        family: class of the result.
        card: see `Family.load`.
        adapter: see `Family.load`.
        precision: see `Family.load`.
        progress: see `Family.load`.
        model_class: of transformers.
        processor_class: of transformers.

    Raises:
        ModelError: if files are missing or incompatible.
    """
    from ..runtime import checkpoint, loading

    folder = loading.base_folder(card)
    if not any((folder / name).is_file() for name in VOCABULARIES):  # some tokenizers would be empty otherwise
        raise ModelError(f"The tokenizer of {card.title} is missing; copy the whole model again.")
    try:
        processor = processor_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The tokenizer or image processor of {card.title} is missing or damaged "
            f"({checkpoint.one_line(error)}); copy the whole model again."
        ) from error
    if not _template(processor):
        raise ModelError(f"{card.title} came without a chat template; copy its chat_template.jinja too.")
    model, held = loading.load_weights(model_class, folder, precision, card.parameters, family.vision, progress)
    if precision in PACKED and not stored_precision(read_json((folder / "config.json").read_bytes())):
        check_quantized(model, [*family.vision, "lm_head"])
    revision = card.revision or checkpoint.sha256_of(checkpoint.check_folder(folder))
    made = family(card, model, processor, LoadedFacts(revision, held))
    check_template(made)
    if adapter not in ("", AUTOMATIC):
        progress.stage(f"Attaching adapter {Path(adapter).name}")
    made.use_adapter(adapter)
    return made


def check_template(model: ChatModel) -> None:
    """Check that the chat template inserts exactly one placeholder for a picture.

    Raises:
        ModelError: if the chat template is for text alone, or broken.
    """
    from jinja2.exceptions import TemplateError

    try:
        places = model._render(model.conversation(1, "?")).count(model.processor.image_token)
    except (TemplateError, TypeError, ValueError):
        places = 0
    if places != 1:
        raise ModelError(
            f"The chat template of {model.card.title} inserts no picture; copy chat_template.jinja from where "
            "the model was published."
        )


def check_quantized(model, skip: Sequence[str]) -> None:
    """Check that layers were quantized, and none of those under `skip`.

    Args:
        model: the loaded model.
        skip: paths of modules that stay dense.

    Raises:
        ModelError: if the library did otherwise, as it does when it renames modules.
    """
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    names = [name for name, kind in kinds.items() if kind in (*QUANTIZED_LAYERS, *STAND_INS)]
    wrong = [name for name in names if name.startswith(tuple(skip)) and kinds[name] in QUANTIZED_LAYERS]
    if wrong or not names:
        what = f"{len(wrong)} layers that must not be, such as {wrong[0]}, were" if wrong else "no layer was"
        raise ModelError(f"The model was not quantized as planned: {what}; choose bf16, and report this.")


def _template(processor) -> str:
    """Return the chat template of the processor, or of the tokenizer, as in older folders."""
    return getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None) or ""
