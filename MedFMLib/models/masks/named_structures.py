"""Segment and locate structures by name in a picture or a volume.

For models with a mask head, or that write locations and masks as tokens. A mask head segments whole pictures, or a
volume along three planes; without one, the prompts `segment a ; b` and `detect a ; b` are used, and the sixteen codes
of each mask are decoded. Knows masks and adapters; no text prompts for questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ...core.domain import ImageDomain
from ...core.findings import Agreement
from ...core.geometry import BoxedMask
from ...core.image import Image
from ...core.view import SeenObject, View
from ...errors import Cancelled, ModelError
from ...interfaces.model import Callbacks, LoadedFacts, agreements_in
from ..runtime.adapters import Adapters
from ..runtime.device import multiplies_bfloat16

LABELS_PER_PROMPT = 6
"""Largest number of structures per prompt; at 20 tokens each, more makes answers long and less accurate."""

LABELS_AT_A_TIME = 2
"""Number of structures of a volume that are extracted in parallel; numpy and ITK use one core for each."""

TOKENS_PER_OBJECT = {"segment": 4 + 16, "detect": 4}
NAME_TOKENS = 8


class NamedStructureMasks:
    """Mixin with `Segments`, `SegmentsVolumes` and `Locates` for a model.

    The model derives from it and has the attributes listed here, `_activate(adapter)` and `_generate(prompts, views,
    max_tokens, callbacks)`, which returns answers.
    """

    processor: object
    codec: object | None
    """Decodes 16 codes to a mask; None if the model has no masks."""
    head: object | None
    """Segments with the vision tower and the picture; None to write masks as tokens."""
    facts: LoadedFacts
    image_size: int
    batch: int
    _adapters: Adapters
    _automatic: bool
    """Whether the adapter is chosen by the requested labels."""

    def segment(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """Implement `Segments.segment`.

        Raises:
            ModelError: if the model came without a mask codec, or segments a structure in whole volumes alone.
        """
        if views and not self.draws_slices(labels, _modality(views)):
            raise ModelError(
                f"{', '.join(labels)}: segmented in whole volumes alone, not in single slices; give the whole volume."
            )
        if self._automatic and views:
            found: list[list[SeenObject]] = [[] for _ in views]
            groups = self._adapters.choose(labels, _modality(views))
            for name, some in groups.items():
                self._activate(name)
                for seen, more in zip(found, self._segment(views, some, callbacks), strict=True):
                    seen += more
            self._name_used(groups)
            return found
        return self._segment(views, labels, callbacks)

    def segment_volume(
        self, image: Image, labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> dict[str, BoxedMask]:
        """Implement `SegmentsVolumes.segment_volume`.

        Raises:
            ModelError: if the model has no mask head, or it was not trained on a label.
        """
        groups = self._adapters.choose(labels, image.modality) if self._automatic else {None: list(labels)}
        masks: dict[str, BoxedMask] = {}
        for number, (name, some) in enumerate(groups.items()):
            used = self._adapters.active if name is None else name
            if self._adapters.volume_head(used) is None:
                if name is not None:
                    self._activate(name)
                masks |= self._segment_volume(image, some, callbacks, number, len(groups))
                continue
            masks |= self._draw_volume(used, image, some, callbacks, number, len(groups))
            self.facts = replace(self.facts, adapter=used, adapter_hash=self._adapters.hash_of(used))
        if self._automatic:
            self._name_used(groups)
        return {label: masks[label] for label in labels if label in masks}

    def _name_used(self, groups) -> None:
        used = [name for name in groups if name]
        if len(used) > 1:
            self.facts = replace(self.facts, adapter=", ".join(used))

    def _segment(self, views: Sequence[View], labels: Sequence[str], callbacks: Callbacks) -> list[list[SeenObject]]:
        if self.head is not None:
            return self._draw(views, labels, callbacks)
        if self.codec is None:
            raise ModelError(
                "This model has no mask codec; convert the published vae-oid.npz with "
                "`python -m MedFMLib.models.masks.mask_codec vae-oid.npz FOLDER/mask_codec`."
            )
        return self._see("segment", views, labels, callbacks)

    def locate(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """Implement `Locates.locate`."""
        return self._see("detect", views, labels, callbacks)

    @property
    def draws_volumes(self) -> bool:
        """Whether the model segments whole volumes: with a mask head or an adapter's volume network."""
        if self.head is not None or self._adapters.volume_head(self._adapters.active) is not None:
            return True
        return self._automatic and any(self._adapters.volume_head(name) for name in self._adapters.card.adapters)

    def draws_slices(self, labels: Sequence[str], modality: str) -> bool:
        """Return whether single slices can be segmented; adapters that are only a volume network need the volume.

        Args:
            labels: names of structures.
            modality: "CT" or "MR".
        """
        names = self._adapters.choose(labels, modality) if self._automatic else [self._adapters.active]
        return all(self._adapters.draws_slices(name) for name in names)

    def agreement(self, label: str) -> Agreement | None:
        """Implement `StatesAgreement.agreement`: as measured for the first adapter whose network segments the label."""
        names = self._adapters.card.adapters if self._automatic else [self._adapters.active]
        for name in names:
            head = self._adapters.volume_head(name)
            if head is not None and label in head.structures:
                return agreements_in(head.facts).get(label)
        return None

    def domain(self, image: Image) -> ImageDomain:
        """Implement `KnowsDomain.domain`: known without adapters that can judge, else if one of them knows the image."""
        heads = {name: self._adapters.volume_head(name) for name in self._adapters.card.adapters}
        judges = {name: head for name, head in heads.items() if head is not None and head.judge is not None}
        if not judges:
            return ImageDomain(True)
        if image.is_picture:
            return ImageDomain(False, "it is a picture, and the model was made for volumes", 0.0)
        fitting = [
            head
            for head in judges.values()
            if head.judge.modality == image.modality
            and (longest_edge(image) <= head.judge.largest_mm or not head.judge.largest_mm)
        ]
        if not fitting:
            known = " and ".join(sorted({f"{h.judge.modality} of the {h.judge.region}" for h in judges.values()}))
            return ImageDomain(
                False, f"it is {image.modality or 'of unknown modality'}, and the model knows {known}", 0.0
            )
        found = [head.judge.judge(head.facts_of(image, self._half())) for head in fitting]
        return max(found, key=lambda one: (one.known, one.chance))

    # -- internals -------------------------------------------------------------------------------

    def _half(self) -> bool:
        """Return whether to compute in bfloat16: on CPUs with such instructions, half the time for the same masks."""
        import torch

        core = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        # docs/decisions/0006
        return core.device.type == "cpu" and core.dtype == torch.float32 and multiplies_bfloat16()

    def _draw_volume(self, name: str, image: Image, labels, callbacks: Callbacks, number: int, of: int) -> dict:
        """Return masks on the volume's grid from an adapter's volume network."""
        head = self._adapters.volume_head(name)
        unknown = [label for label in labels if label not in head.structures]
        if unknown:
            raise ModelError(
                f"This model was not trained on {', '.join(unknown)}; choose from {', '.join(head.structures)}."
            )
        callbacks.on_prompt(f"volume network: {' ; '.join(labels)}")

        def on_fraction(fraction: float) -> None:
            if callbacks.cancelled():
                raise Cancelled
            callbacks.on_fraction((number + fraction) / of)

        core = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        if next(head.network.parameters()).device != core.device:
            head.network.to(core.device)
        inside = head.facts.get("inside")
        if inside and longest_edge(image) > inside["largest_mm"]:
            return self._draw_inside(name, image, labels, inside, callbacks, number, of)
        wanted = {part for label in labels for part in head.structures[label]}
        named = head.name_voxels(image, wanted, self._half(), on_fraction)
        return self._masks(named, {label: head.structures[label] for label in labels}, image)

    def _draw_inside(self, name: str, image: Image, labels, inside: dict, callbacks: Callbacks, number, of) -> dict:
        """Find the regions that a network was trained for with another adapter's, and segment in a crop around each."""
        places = self._draw_volume(inside["adapter"], image, inside["labels"], callbacks, number * 2, of * 2)
        part, parts = (number * 2 + 1) * len(places), of * 2 * len(places)

        def segment(nth: int, crop: Image) -> dict[str, BoxedMask]:
            return self._draw_volume(name, crop, labels, callbacks, part + nth, parts)

        return segment_around(places.values(), image, inside["margin_mm"], segment)

    def _masks(self, named, structures: dict[str, tuple[int, ...]], image: Image) -> dict[str, BoxedMask]:
        """Return the mask of each structure that is present, without stray voxels."""
        from ...imaging.slices import drop_islands

        def draw(numbers) -> BoxedMask | None:
            found = named.structure(numbers)
            if found is None or not found[1].any():
                return None
            box, inside = found
            return BoxedMask.of(drop_islands(inside), image.geometry.shape, [s.start for s in box])

        with ThreadPoolExecutor(LABELS_AT_A_TIME) as pool:
            masks = dict(zip(structures, pool.map(draw, structures.values()), strict=True))
        return {label: mask for label, mask in masks.items() if mask is not None}

    def _chances(self, pictures: Sequence[np.ndarray], rows: slice = slice(None), columns: slice = slice(None)):
        """Return (B, parts, rows, columns) probabilities of every part for (B, S, S, 3) uint8 pictures."""
        import torch

        from ..generation.pixels import normalized

        core = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        pixels = normalized(self.processor.image_processor, pictures).to(core.device, core.dtype)
        network = self.head.network
        if next(network.parameters()).device != core.device:
            network.to(core.device)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._half()):
            features = core.model.vision_tower(pixels).last_hidden_state
            pixels = pixels.to(next(network.parameters()).dtype)
            chances = self.head.probabilities(pixels, features.float(), rows, columns)
        return chances.cpu()

    def _draw(self, views: Sequence[View], labels: Sequence[str], callbacks: Callbacks) -> list[list[SeenObject]]:
        """Segment whole pictures, a batch of slices in one pass."""
        callbacks.on_prompt(f"mask head: {' ; '.join(labels)}")
        self.head.check(labels)
        seen: list[list[SeenObject]] = []
        for start in range(0, len(views), self.batch):
            if callbacks.cancelled():
                raise Cancelled
            some = views[start : start + self.batch]
            found = self.head.masks(self._chances([view.square(self.image_size) for view in some]), labels)
            seen += [[SeenObject(name, (0.0, 0.0, 1.0, 1.0), mask) for name, mask in masks.items()] for masks in found]
            callbacks.on_fraction(len(seen) / len(views))
        return seen

    def _segment_volume(self, image: Image, labels: Sequence[str], callbacks: Callbacks, number: int, of: int) -> dict:
        """Return masks on the volume's grid with the active adapter."""
        from .volume_masks import name_voxels

        if self.head is None:
            raise ModelError(
                "This model segments slice by slice; it has no mask head for whole volumes. Choose another model."
            )
        self.head.check(labels)
        callbacks.on_prompt(f"mask head: {' ; '.join(labels)}")

        def on_fraction(fraction: float) -> None:
            if callbacks.cancelled():
                raise Cancelled
            callbacks.on_fraction((number + fraction) / of)

        inside = self.head.facts.get("inside")
        if inside and longest_edge(image) > inside["largest_mm"]:
            return self._segment_inside(image, labels, inside, callbacks, number, of)
        parts = {label: self.head.structures[label] for label in labels}
        wanted = {part for some in parts.values() for part in some}
        named = name_voxels(image, self._chances, self.image_size, self.head, wanted, on_fraction)
        return self._masks(named, parts, image)

    def _segment_inside(self, image: Image, labels, inside: dict, callbacks: Callbacks, number: int, of: int) -> dict:
        """Find the regions that a head was trained for with another adapter, and segment in a crop around each.

        `inside` is {"adapter", "labels", "margin_mm", "largest_mm"}: adapter and labels that find the regions, margin
        around them, and the largest volume that the head can process without cropping.
        """
        name = self._adapters.active
        self._activate(inside["adapter"])
        places = self._segment_volume(image, inside["labels"], callbacks, number * 2, of * 2)
        self._activate(name)
        part, parts = (number * 2 + 1) * len(places), of * 2 * len(places)

        def segment(nth: int, crop: Image) -> dict[str, BoxedMask]:
            return self._segment_volume(crop, labels, callbacks, part + nth, parts)

        return segment_around(places.values(), image, inside["margin_mm"], segment)

    def _see(
        self, verb: str, views: Sequence[View], labels: Sequence[str], callbacks: Callbacks
    ) -> list[list[SeenObject]]:
        from .location_tokens import parse_objects

        seen: list[list[SeenObject]] = [[] for _ in views]
        chunks = [labels[i : i + LABELS_PER_PROMPT] for i in range(0, len(labels), LABELS_PER_PROMPT)]
        batches = [range(i, min(i + self.batch, len(views))) for i in range(0, len(views), self.batch)]
        done, total = 0, max(1, len(chunks) * len(batches))
        for chunk in chunks:
            prompt = f"{verb} {' ; '.join(chunk)}"
            callbacks.on_prompt(prompt)
            longest = len(chunk) * (TOKENS_PER_OBJECT[verb] + NAME_TOKENS)
            for batch in batches:
                texts = self._generate([prompt] * len(batch), [views[n] for n in batch], longest, callbacks)
                for number, text in zip(batch, texts, strict=True):
                    seen[number] += self._decode(parse_objects(text), chunk, verb == "segment")
                done += 1
                callbacks.on_fraction(done / total)
        return seen

    def _decode(self, objects, labels: Sequence[str], masks: bool) -> list[SeenObject]:
        """Return the objects of the requested labels; if masks are requested, only those with valid mask codes."""
        found = [o for o in objects if o.name in labels and (o.codes is not None or not masks)]
        if not masks or not found:
            return [SeenObject(o.name, o.box) for o in found]
        pictures = self.codec.decode([o.codes for o in found]).numpy()
        return [SeenObject(o.name, o.box, mask) for o, mask in zip(found, pictures, strict=True)]


def longest_edge(image: Image) -> float:
    """Return the length of a volume's longest edge, mm."""
    return float((np.array(image.geometry.shape) * image.geometry.spacing).max())


def segment_around(places, image: Image, margin_mm: float, segment) -> dict[str, BoxedMask]:
    """Return the union of the masks from a crop around each place, on the image's grid.

    Args:
        places: masks on the image's grid.
        image: scalar volume.
        margin_mm: around each place.
        segment: (number of the place, crop) → label → mask on the crop's grid.
    """
    masks: dict[str, np.ndarray] = {}
    for nth, place in enumerate(places):
        start, stop = margin_box(place, image.geometry.spacing, margin_mm)
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        crop = Image(image.voxels[(slice(None), *box)], image.geometry.crop(start, stop), image.modality, image.name)
        for label, mask in segment(nth, crop).items():
            masks.setdefault(label, np.zeros(image.geometry.shape, bool))[box] |= mask.whole()
    return {label: BoxedMask.of(mask) for label, mask in masks.items()}


def margin_box(mask: BoxedMask, spacing, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (start, stop) indices of a mask's bounding box with a margin, clipped to the grid.

    Args:
        mask: the mask.
        spacing: (3,) mm.
        margin_mm: on every side.
    """
    margin = np.ceil(margin_mm / np.asarray(spacing)).astype(int)
    start = np.maximum(mask.start - margin, 0)
    return start, np.minimum([s.stop for s in mask.box] + margin, mask.shape)


def _modality(views: Sequence[View]) -> str:
    """Return "CT" for pictures made with CT windows, else "MR"."""
    return "CT" if any((v.pixels[..., 0] != v.pixels[..., 1]).any() for v in views) else "MR"
