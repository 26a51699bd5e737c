"""A model that knows its domain, with the interface of real ones: what it takes an image for, and what it was asked."""

from __future__ import annotations

import numpy as np
from support.phantoms import TALL, torso
from support.scripted_model import ScriptedModel

from MedFMLib.core.domain import ImageDomain
from MedFMLib.core.geometry import BoxedMask
from MedFMLib.interfaces.model import Callbacks

ABILITIES = ("writes", "segments", "locates", "outlines", "explains")
SPINE = ImageDomain(False, "it shows a spine, not a torso", 0.02, "spine")
KNOWN = ImageDomain(True, region="torso")


class DomainModel(ScriptedModel):
    """Draws the phantom's structures in whole volumes, and knows whether it was made for an image.

    Args:
        domain: what it takes every image for.
        answers: see `ScriptedModel`.
    """

    draws_volumes = True

    def __init__(self, domain: ImageDomain = SPINE, answers=None):
        image, segmentation = torso()
        self.image = image
        super().__init__({s.label: s.mask for s in segmentation.segments}, TALL, answers)
        self._domain, self.calls = domain, []

    def domain(self, image):
        self.calls.append("domain")
        return self._domain

    def write(self, views, text="", **options):
        self.calls.append("write")
        return super().write(views, text, **options)

    def sample(self, views, text, count, **options):
        self.calls.append("sample")
        return ["yes"] * count

    def segment(self, views, labels, **options):
        self.calls.append("segment")
        return super().segment(views, labels, **options)

    def segment_volume(self, image, labels, *, callbacks=Callbacks()):
        self.calls.append("segment_volume")
        return {label: BoxedMask.of(self.truth[label]) for label in labels if label in self.truth}

    def outline(self, image, marks, *, callbacks=Callbacks()):
        self.calls.append("outline")
        return {label: self.truth["liver"].copy() for label in marks.structures}

    def score(self, shown, text, answer, **options):
        self.calls.append("score")
        return [0.0 for _ in shown]

    def attention(self, views, text, answer, **options):
        self.calls.append("attention")
        return [np.eye(16, dtype=np.float32) for _ in views]
