"""Stream an answer's text from transformers' `generate`, and stop it when the job is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import Cancelled
from ...interfaces.model import Callbacks


def stop_when_cancelled(callbacks: Callbacks):
    """Return stopping criteria that raise `Cancelled` within one token after `callbacks.cancelled()` turns true."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class StopWhenCancelled(StoppingCriteria):
        def __call__(self, input_ids, scores, **_):
            raise_if_cancelled(callbacks)
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([StopWhenCancelled()])


def raise_if_cancelled(callbacks: Callbacks) -> None:
    """Raise `Cancelled` if the job was cancelled."""
    if callbacks.cancelled():
        raise Cancelled


def text_streamer(tokenizer, on_text: Callable[[str], None], drop: Sequence[str] = (), *, special: bool = False):
    """Return a streamer that passes on an answer's text piece by piece; joined, the pieces are the decoded answer.

    Args:
        tokenizer: of the model.
        on_text: gets each piece.
        drop: control tokens to leave out, such as the end of the text.
        special: keep other special tokens, such as those for locations, as the decoded answer does.
    """
    from transformers import TextStreamer

    class Pieces(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False):
            for token in drop:
                text = text.replace(token, "")
            if text:
                on_text(text)

    return Pieces(tokenizer, skip_prompt=True, skip_special_tokens=not special)
