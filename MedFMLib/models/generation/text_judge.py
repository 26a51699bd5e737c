"""Run a causal language model that classifies texts, for the guard. Knows transformers; nothing of rules or patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import ModelError
from ...storage import installed_models, offline
from ..runtime.checkpoint import check_folder, load_pretrained, one_line
from ..runtime.device import choose_device, compute_dtype
from .templates import bounded


class TextJudge:
    """Generates a guard model's verdict on a conversation, by greedy decoding.

    Args:
        model: hub id of a model on this machine, or a folder.
        max_tokens: largest number of generated tokens.

    Raises:
        ModelError: if it is not on this machine, or can't be loaded.
    """

    def __init__(self, model: str, max_tokens: int = 64):
        import transformers

        offline.while_loading()
        folder = _folder(model)
        check_folder(folder)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            target = choose_device()
            made = load_pretrained(transformers.AutoModelForCausalLM, folder, dtype=compute_dtype(target, 10**9))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"The guard's model '{model}' can't be loaded ({one_line(error)}); get it again."
            ) from error
        self._model, self._max_tokens = made.to(target).eval(), max_tokens

    def __call__(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the model's output for a conversation, rendered with its own chat template."""
        import torch

        with bounded(self._tokenizer.chat_template or ""):
            asked = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        asked = asked.to(self._model.device)
        with torch.inference_mode():
            made = self._model.generate(**asked, max_new_tokens=self._max_tokens, do_sample=False)
        return self._tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


def _folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    found = installed_models.model_folder(model)
    if found is not None:
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"The guard's model '{model}' is not on this machine; get it with `hf download {model}`, name its folder with "
            "`medfm guard use NAME --model FOLDER`, or turn it off with `medfm guard use none`."
        ) from error
