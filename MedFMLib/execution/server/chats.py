"""Read the body of a chat completion, within limits and in linear time. Decodes no picture and knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.image import Image
from ...core.request import Request
from ...errors import InputError
from ...interfaces import registry
from ...storage import installed_models
from .hardening import UnknownModel
from .service import cards
from .settings import ServerLimits

REFUSED = ("tools", "functions", "logprobs", "audio", "modalities", "prediction")

MOST_MESSAGES = 1000
MOST_PARTS = 2000
"""Largest number of texts and pictures in all messages."""

LONGEST_STOP = 200
"""Letters of a text that ends the answer; all of them are compared with each piece."""


@dataclass(frozen=True, eq=False)
class Chat:
    """A parsed chat completion.

    Args:
        name: name of the model as the client gave it.
        model: id of the model.
        adapter: name of the adapter, as in a request.
        turns: texts of user, assistant, …, user.
        pictures: their data URLs.
        max_tokens: longest answer.
        stop: texts that end the answer.
        stream: stream the answer.
        usage: send the token counts at the end of a stream.
        outside_domain: answer about pictures that the model was not made for, too; such answers are marked.
    """

    name: str
    model: str
    adapter: str
    turns: tuple[str, ...]
    pictures: tuple[str, ...]
    max_tokens: int
    stop: tuple[str, ...]
    stream: bool
    usage: bool
    outside_domain: bool = False

    def request(self, image: Image) -> Request:
        """Return the request to run.

        Args:
            image: the chat's pictures.
        """
        *earlier, question = self.turns
        return Request(
            "ask",
            image,
            question=question,
            history=tuple(zip(earlier[::2], earlier[1::2], strict=True)),
            max_tokens=self.max_tokens,
            model=self.model,
            adapter=self.adapter,
            outside_domain=self.outside_domain,
        )


def read_chat(content: dict, limits: ServerLimits) -> Chat:
    """Return the chat that the body of a chat completion describes.

    Args:
        content: JSON object of the body.
        limits: limits of the server.

    Raises:
        InputError: if something is missing, malformed or not supported.
        UnknownModel: if there is no such model or adapter.
    """
    for name in REFUSED:
        if content.get(name):
            raise InputError(f"MedFM does not support '{name}'; leave it out.")
    if content.get("n") not in (None, 1):
        raise InputError("MedFM gives one answer; leave 'n' out or send 1.")
    form = content.get("response_format")
    if form is not None and (not isinstance(form, dict) or form.get("type") != "text"):
        raise InputError("MedFM answers in plain text; leave 'response_format' out.")
    name = content.get("model")
    if not isinstance(name, str) or not name:
        raise InputError("'model' is missing; /v1/models lists the names.")
    model_id, _, adapter = name.partition(":")
    card = cards().get(model_id)
    if card is None:
        raise UnknownModel(f"This server has no model '{name[:100]}'; /v1/models lists those that it has.")
    if adapter and adapter not in (*card.adapters, *installed_models.adapters()):
        raise UnknownModel(f"{card.title} has no adapter '{adapter[:100]}'; /v1/models lists those that it has.")
    turns, pictures, system = _turns(content.get("messages"))
    if not pictures:
        raise InputError("MedFM answers questions about pictures; send one as an image_url part with a data: URL.")
    single = not registry.traits(card).converses
    most = min(limits.pictures, 1 if single else limits.pictures)
    if len(pictures) > most:
        raise InputError(
            f"{card.title} takes {most} picture{'s' if most > 1 else ''} here, not {len(pictures)}; send fewer."
        )
    *earlier, question = turns
    if system and not single:
        question = f"{system}\n\n{question}"
    length = content.get("max_completion_tokens", content.get("max_tokens"))
    length = 256 if length is None else length
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise InputError(f"The token limit must be a whole number of at least 1, not {str(length)[:40]}.")
    stop = content.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stop, list | tuple) or not all(isinstance(s, str) and s for s in stop) or len(stop) > 16:
        raise InputError("'stop' must be a string or a list of at most 16 strings.")
    if any(len(text) > LONGEST_STOP for text in stop):
        raise InputError(f"A text of 'stop' must have at most {LONGEST_STOP} letters; send a shorter one.")
    outside = content.get("outside_domain", False)
    if not isinstance(outside, bool):
        raise InputError(f"'outside_domain' must be true or false, not {str(outside)[:40]}.")
    options = content.get("stream_options")
    return Chat(
        name,
        model_id,
        adapter or "none" if adapter != "automatic" else adapter,
        (*earlier, question),
        tuple(pictures),
        min(length, limits.tokens),
        tuple(stop),
        bool(content.get("stream")),
        isinstance(options, dict) and bool(options.get("include_usage")),
        outside,
    )


def _turns(messages) -> tuple[list[str], list[str], str]:
    """Return (texts of user, assistant, …, user; URLs of pictures; system text) of a chat's messages."""
    if not isinstance(messages, list) or not messages:
        raise InputError("'messages' is missing; send at least one message with role 'user'.")
    if len(messages) > MOST_MESSAGES:
        raise InputError(f"The chat has {len(messages)} messages; this server reads {MOST_MESSAGES}. Send fewer.")
    turns: list[list[str]] = []
    pictures: list[str] = []
    system: list[str] = []
    parts = 0
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if role else ""
        parts += len(content) if isinstance(content, list) else 1
        if parts > MOST_PARTS:
            raise InputError(f"The chat has more than {MOST_PARTS} parts, the limit of this server; send fewer.")
        text, found = _parts(content)
        pictures += found
        if role in ("system", "developer"):
            system.append(text)
        elif role == ("user", "assistant")[len(turns) % 2]:
            turns.append([text])
        elif role == "user":  # consecutive messages of the user are joined
            turns[-1].append(text)
        else:
            raise InputError("Messages must alternate between 'user' and 'assistant', each with 'role' and 'content'.")
    if len(turns) % 2 == 0:
        raise InputError("The last message must have the role 'user'.")
    joined = [texts[0] if len(texts) == 1 else "\n".join(texts).strip() for texts in turns]
    return joined, pictures, "\n".join(system).strip()


def _parts(content) -> tuple[str, list[str]]:
    """Return (text, URLs of pictures) of one message's content."""
    if isinstance(content, str):
        return content, []
    texts, pictures = [], []
    for part in content if isinstance(content, list) else [None]:
        kind = part.get("type") if isinstance(part, dict) else None
        url = part.get("image_url") if kind == "image_url" else None
        url = url.get("url") if isinstance(url, dict) else url
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(url, str):
            pictures.append(url)
        else:
            raise InputError("A message's content must be a string, or a list of 'text' and 'image_url' parts.")
    return "\n".join(texts), pictures
