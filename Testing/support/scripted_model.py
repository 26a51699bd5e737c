"""A model that finds exactly the known truth, with the interface of real ones, for tests of tasks and front ends."""

from __future__ import annotations

import numpy as np

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.view import SeenObject, display_slice
from MedFMLib.engine import Engine
from MedFMLib.errors import Cancelled
from MedFMLib.interfaces.model import Callbacks, LoadedFacts
from MedFMLib.storage.model_card import ModelCard


class ScriptedModel:
    """Draws given masks and says given things.

    Args:
        truth: label → (I, J, K) bool on `geometry`.
        answers: question (or "describe") → answer, or a function of (view, question).
        max_views: pictures a question may have.
    """

    def __init__(self, truth, geometry: Geometry, answers=None, max_views: int = 1):
        self.truth, self.geometry, self.answers, self.max_views = truth, geometry, answers or {}, max_views
        self.facts = LoadedFacts("scripted-revision", "fp32", "none", "")
        self.seen: list = []

    def write(self, views, text="", *, kind="answer", history=(), max_tokens=64, callbacks=Callbacks()):
        callbacks.on_prompt(f"{kind} {text}".strip())
        self.seen.append((list(views), text, tuple(history)))
        if callbacks.cancelled():
            raise Cancelled
        answer = self.answers(views[0], text) if callable(self.answers) else self.answers.get(text or kind, "yes")
        for word in answer.split(" "):
            callbacks.on_text(word + " ")
        return answer

    def segment(self, views, labels, *, callbacks=Callbacks()):
        callbacks.on_prompt("segment " + " ; ".join(labels))
        found = []
        for n, view in enumerate(views):
            if callbacks.cancelled():
                raise Cancelled
            found.append([seen for label in labels if (seen := self._see(view, label)) is not None])
            callbacks.on_fraction((n + 1) / len(views))
        return found

    def locate(self, views, labels, *, callbacks=Callbacks()):
        return [
            [SeenObject(o.label, o.box) for o in objects]
            for objects in self.segment(views, labels, callbacks=callbacks)
        ]

    def _see(self, view, label):
        if label not in self.truth:
            return None
        picture = display_slice(self.truth[label], self.geometry, view.plane, view.number)
        if not picture.any():
            return None
        y, x = view.positions()
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        half_y, half_x = (y[-1] - y[0]) / (len(y) - 1) / 2, (x[-1] - x[0]) / (len(x) - 1) / 2
        box = (y[rows[0]] - half_y, x[columns[0]] - half_x, y[rows[-1]] + half_y, x[columns[-1]] + half_x)
        part = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        fine = part[(np.arange(64) * part.shape[0]) // 64][:, (np.arange(64) * part.shape[1]) // 64]
        return SeenObject(label, tuple(float(v) for v in box), fine.astype(np.float32))


def card(labels=None, **changes) -> ModelCard:
    """A card for scripted models."""
    facts = {
        "id": "scripted", "title": "Scripted", "architecture": "paligemma", "summary": "Sees what is there.",
        "licence": "none", "parameters": 1, "image_size": 64, "abilities": ("writes", "segments", "locates"),
        "precisions": ("fp32",), "labels": labels or {"CT": ("liver", "left lung", "right lung")},
    }  # fmt: skip
    return ModelCard(**{**facts, **changes})


def engine(model, monkeypatch, **changes) -> Engine:
    """An engine whose only model is a scripted one, under any name."""
    made = card(**changes)
    monkeypatch.setattr("MedFMLib.interfaces.registry.card", lambda name: made)
    return Engine(load=lambda *_: model)
