"""Make the turns of a chat for OpenAI-compatible endpoints: pictures as data URLs, then the question."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

JPEG_QUALITY = 92


def first_turn(pictures: Sequence[str], question: str) -> list[dict[str, Any]]:
    """Return the content of the first turn: pictures, numbered if there are several, then the question.

    Args:
        pictures: data URLs.
        question: the question.
    """
    parts = []
    for number, url in enumerate(pictures, 1):
        parts += [{"type": "text", "text": f"Picture {number}: "}] if len(pictures) > 1 else []
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [*parts, {"type": "text", "text": question}]


def encode(picture: np.ndarray, form: str) -> str:
    """Return a picture as a data URL with nothing but the pixels.

    Args:
        picture: (H, W, 3) uint8.
        form: "png", or "jpeg" of quality 92.
    """
    from PIL import Image as Picture

    stream = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if form == "jpeg" else {}
    Picture.fromarray(np.ascontiguousarray(picture)).save(stream, form.upper(), **options)
    return f"data:image/{form};base64,{base64.b64encode(stream.getvalue()).decode()}"
