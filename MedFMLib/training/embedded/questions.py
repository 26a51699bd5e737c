"""Make prompts with right answers from what is certain about a picture. Depends on names and boxes; no torch.

Every answer follows from parts, plane, modality and region, so nothing is invented; what the picture can't show is
answered with `REFUSAL`. Wordings vary; the first of each kind is the plain one used by tests and the panel. Questions
that
a name alone would answer ("on which side of the patient is the left kidney?") are not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...models.masks import location_tokens as tokens
from .labels import LABELS, SPOKEN, SPOKEN_HEAD, TORSO_STRUCTURES, UNKNOWN_PART, other_side
from .objects import SeenStructure, survey

REFUSAL = "cannot be answered from this image"
NO_STRUCTURE = "none of the known structures"

PAIRED = {"cerebral hemisphere": "cerebral hemispheres", "lateral ventricle": "lateral ventricles", "thalamus": "thalami",
          "lung": "lungs", "kidney": "kidneys", "hip bone": "hip bones"}  # fmt: skip
"""Paired structures, and their plural."""


@dataclass(frozen=True)
class PictureFacts:
    """Certain facts about one picture.

    Args:
        modality: "MR" or "CT".
        plane: sagittal, coronal or axial.
        region: "head" or "torso".
        visible: structures for questions, by name, in the order of `SPOKEN`; in a sagittal slice none with a side,
            since the side can't be seen.
        missing: structures that are certainly not in it.
        complete: whether `visible` has all visible structures of `SPOKEN`.
        stripped: only the brain of the head is shown.
        names: all visible structures and their pixels, with sides in sagittal slices too.
        labelled: no pixel is of an unknown part.
    """

    modality: str
    plane: str
    region: str
    visible: dict[str, SeenStructure]
    missing: tuple[str, ...]
    complete: bool = True
    stripped: bool = False
    names: dict[str, int] = field(default_factory=dict)
    labelled: bool = True


def scene(
    modality: str, plane: str, region: str, parts: np.ndarray, known, absent, stripped: bool = False
) -> PictureFacts:
    """Return what is certain about a part picture.

    Args:
        modality: "MR" or "CT".
        plane: sagittal, coronal or axial.
        region: "head" or "torso".
        parts: (S, S) part numbers.
        known: the structures that its source labels.
        absent: structures that its source certainly hasn't.
        stripped: only the brain of the head is shown.
    """
    visible, missing = survey(parts, tuple(n for n in known if n in SPOKEN), tuple(n for n in absent if n in SPOKEN))
    names, labelled = {name: seen.pixels for name, seen in visible.items()}, UNKNOWN_PART not in parts
    complete = labelled
    if plane == "sagittal":
        complete = complete and all(other_side(name) is None for name in visible)
        visible = {name: seen for name, seen in visible.items() if other_side(name) is None}
        missing = [name for name in missing if other_side(name) is None]
    return PictureFacts(modality, plane, region, visible, tuple(missing), complete, stripped, names, labelled)


@dataclass(frozen=True)
class QuestionExchange:
    """A prompt, its answer, and the kind of question for counting.

    `asked` has the names of a `segment` or `detect` prompt in order, each with its target (None: absent).
    """

    prompt: str
    answer: str
    kind: str
    asked: tuple[tuple[str, SeenStructure | None], ...] = ()


WORDINGS: dict[str, tuple[str, ...]] = {
    "modality": ("which modality is this?", "what kind of scan is this?", "is this CT or MR?", "what modality is this image?",
                 "which imaging modality is shown?"),
    "plane": ("which plane is this?", "in which plane is this slice?", "what is the plane of this image?",
              "is this axial, coronal or sagittal?"),
    "body part": ("which part of the body is this?", "what body part is shown?", "which body region is shown?",
                  "what part of the body is in the image?"),
    "visible structures": ("which structures are visible?", "what structures can be seen?", "what organs are visible?",
                           "which organs are shown?", "what is visible in this image?"),
    "presence": ("is the {} visible?", "can you see the {}?", "is there a {} in this image?", "does the image show the {}?"),
    "side": ("on which side of the picture is the {}?", "is the {} on the left or right of the picture?"),
    "patient side": ("which {} is visible?", "is it the left or right {}?", "which {} of the patient can be seen?"),
    "largest": ("which structure is the largest?", "what is the largest structure?", "which organ is the largest?"),
    "counting": ("how many {} are visible?", "how many {} can be seen?", "how many {} does the image show?"),
    "comparison": ("which is larger, the {} or the {}?", "which looks larger in this image, the {} or the {}?"),
    "where": ("where in the picture is the {}?", "in which part of the picture is the {}?"),
    "relation": ("is the {} above the {} in the picture?", "does the {} lie above the {}?"),
    "asymmetry": ("are the two {} about the same size?", "do both {} look the same size?",
                  "is there a difference in size between the {}?"),
    "skull": ("is the skull visible?", "has the skull been removed?"),
    "refusal": ("how old is the patient?", "what is the name of the patient?", "is the patient male or female?",
                "what was the patient's blood pressure?", "is there a tumour?", "what is the diagnosis?",
                "when was this scan taken?", "does the patient smoke?", "how tall is the patient?",
                "which hospital made this scan?", "does the patient have diabetes?", "is this malignant?",
                "what treatment should the patient get?", "how much does the patient weigh?", "is there a fracture?",
                "which scanner was used?", "what is the prognosis?", "has the patient had surgery?",
                "does the patient have a fever?", "what medication does the patient take?"),
}  # fmt: skip
"""Kind → wordings; `{}` is a structure (or several). Refusals are different questions rather than wordings of one."""

HELD_OUT_REFUSALS = ("what is the phone number of the patient?", "does the patient have a headache?", "is there an infection?",
                     "what does the patient do for work?", "how long will the patient live?")  # fmt: skip
"""Never trained; they measure whether refusing generalizes."""

NEAR_MIDDLE = 0.06
"""Nearer to the middle than this fraction of the picture, nothing is called left, right, upper or lower."""


CLEARLY = 1.4
"""Smallest ratio of sizes at which a structure is called larger or largest."""

_KNOWN_OF_PATIENTS = ("age", "date of birth", "address", "weight", "height", "blood type", "heart rate",
                      "blood sugar", "insurance", "name", "nationality", "temperature", "oxygen saturation", "diet",
                      "family history", "pain score", "income", "room number", "hair colour", "email", "religion")  # fmt: skip
_HAVE = ("asthma", "cancer", "a cold", "covid", "dementia", "epilepsy", "an allergy", "hypertension", "a stroke", "back pain",
         "depression", "pneumonia", "anaemia", "high cholesterol", "a heart attack", "nausea", "arthritis",
         "migraine")  # fmt: skip
_THERE = ("a metastasis", "a cyst", "a bleeding", "a haemorrhage", "an aneurysm", "a stone", "inflammation", "a lesion",
          "an abnormality", "oedema", "a blood clot", "a hernia", "atrophy", "calcification")  # fmt: skip
_FREE = ("who ordered this scan?", "who is the radiologist?", "which contrast agent was given?", "why was this scan made?",
         "how much did the scan cost?", "where was this image taken?", "what year is it?", "which drug should be given?",
         "should the patient have an operation?", "will the patient recover?", "can the patient go home?", "is the patient ill?",
         "is this normal?", "what disease is this?", "what caused this?", "is it serious?",
         "how many children does the patient have?", "what did the patient eat?", "is the patient pregnant?",
         "is the patient a child?", "how fast is the heart beating?",
         "what is the dose of the drug?", "is the patient in pain?", "how long has the patient been ill?",
         "is it contagious?")  # fmt: skip


def _made_refusal(rng: np.random.Generator) -> str:
    """Return a question that no picture answers, composed of parts, so that refusing is learned and not memorized."""
    kind = rng.random()
    if kind < 0.3:
        return f"what is the {rng.choice(_KNOWN_OF_PATIENTS)} of the patient?"
    if kind < 0.4:
        return f"what is the patient's {rng.choice(_KNOWN_OF_PATIENTS)}?"
    if kind < 0.6:
        return f"does the patient have {rng.choice(_HAVE)}?"
    if kind < 0.75:
        return f"is there {rng.choice(_THERE)}?"
    return str(rng.choice(_FREE))


def _center(seen: SeenStructure) -> tuple[float, float]:
    y0, x0, y1, x1 = seen.box
    rows, columns = np.nonzero(seen.mask)
    if not len(rows):
        return (y0 + y1) / 2, (x0 + x1) / 2
    return y0 + (rows.mean() + 0.5) / 64 * (y1 - y0), x0 + (columns.mean() + 0.5) / 64 * (x1 - x0)


def _elementary(names) -> list[str]:
    """Return the names without those that include others ("brain" counts only if alone)."""
    return [n for n in names if n != "brain"] or list(names)


def picture_side(seen: SeenStructure) -> str | None:
    """Return "left" or "right" of the picture, None near its middle."""
    x = _center(seen)[1]
    return None if abs(x - 0.5) < NEAR_MIDDLE else "left" if x < 0.5 else "right"


def quadrant(seen: SeenStructure) -> str | None:
    """Return "upper left", "upper right", "lower left" or "lower right"; None near either middle line."""
    y, side = _center(seen)[0], picture_side(seen)
    return None if side is None or abs(y - 0.5) < NEAR_MIDDLE else f"{'upper' if y < 0.5 else 'lower'} {side}"


_REGIONS = {
    "chest": ("left lung", "right lung"),
    "abdomen": ("liver", "spleen", "left kidney", "right kidney", "stomach"),
    "pelvis": ("urinary bladder", "left hip bone", "right hip bone"),
}


def body_part(scene: PictureFacts) -> str | None:
    """Return "head", or the part of the torso with most of the picture's structures, or two if neither dominates.

    None for a torso without any of the deciding structures.
    """
    if scene.region == "head":
        return "head"
    pixels = scene.names or {name: seen.pixels for name, seen in scene.visible.items()}
    sizes = {region: sum(pixels.get(name, 0) for name in names) for region, names in _REGIONS.items()}
    first, second = sorted(sizes, key=lambda region: -sizes[region])[:2]
    if not sizes[first]:
        return None
    return first if sizes[first] >= 2 * sizes[second] else " and ".join(r for r in _REGIONS if r in (first, second))


def _listed(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) if names else NO_STRUCTURE


def caption(scene: PictureFacts) -> str:
    """Return one short sentence."""
    part = "skull-stripped brain" if scene.stripped else body_part(scene) or "torso"
    return f"{scene.plane} {scene.modality} image of the {part}"


def description(scene: PictureFacts) -> str:
    """Return the caption with the visible structures."""
    names = _elementary(scene.visible)
    return caption(scene) + (f" showing {_listed(names, 7)}." if names else ".")


# -- one function per kind: scene, rng, wording → exchange or None ---------------------------------


def _object_prompt(
    scene: PictureFacts, rng: np.random.Generator, encode: Callable[[np.ndarray], np.ndarray] | None
) -> QuestionExchange | None:
    """Return `segment` if masks can be encoded, else `detect`, of one to six names in random order."""
    visible, missing = list(scene.visible), list(scene.missing)
    near = [n for n in _near(scene) if n in LABELS[scene.modality]]
    count = int(rng.integers(1, 7))
    absent = min(int(rng.binomial(count, 0.25)), len(missing))
    pool = near if near and rng.random() < 0.75 else missing
    chosen = [str(n) for n in rng.permutation(visible)[: count - absent]] if visible else []
    chosen += [str(n) for n in rng.permutation(pool)[: max(absent, 0 if chosen else 1)]]
    if not chosen:
        return None
    chosen = [str(n) for n in rng.permutation(chosen)]
    seen = [scene.visible[n] for n in chosen if n in scene.visible]
    codes = encode(np.stack([s.mask for s in seen])) if encode and seen else [None] * len(seen)
    answer = tokens.format_objects(tokens.format_object(s.box, c, s.name) for s, c in zip(seen, codes, strict=True))
    prompt = (tokens.segment_prompt if encode else tokens.detect_prompt)(chosen)
    asked = tuple((n, scene.visible.get(n)) for n in chosen)
    return QuestionExchange(prompt, answer, "segment" if encode else "detect", asked)


def _near(scene: PictureFacts) -> list[str]:
    """Return missing structures of the same region, which are harder negatives than a liver in a head."""
    return [n for n in scene.missing if (n in SPOKEN_HEAD) == (scene.region == "head")]


def _about_one(scene: PictureFacts, kind: str, rng: np.random.Generator) -> tuple[tuple[str, ...], str] | None:
    """Return (names, answer) of a kind that asks about one structure."""
    names = list(scene.visible)
    if not names or rng.random() < {"presence": 0.5, "side": 0.1, "where": 0.05}[kind]:
        near = _near(scene)
        names = near if near and rng.random() < 0.8 else list(scene.missing) or names
    if not names:
        return None
    name = str(rng.choice(names))
    seen = scene.visible.get(name)
    if kind == "presence":
        answer = "yes" if seen else "no" if name in scene.missing else None
    elif seen is None:
        answer = f"the {name} is not visible" if name in scene.missing else None
    else:
        answer = picture_side(seen) if kind == "side" else quadrant(seen)
    return None if answer is None else ((name,), answer)


def _sides_of(scene: PictureFacts, noun: str) -> dict[str, SeenStructure | None] | None:
    """Return a mapping from side to visible structure, or None if that isn't certain for both sides."""
    names = {side: f"{side} {noun}" for side in ("left", "right")}
    if scene.plane == "sagittal" or not all(n in scene.visible or n in scene.missing for n in names.values()):
        return None
    return {side: scene.visible.get(name) for side, name in names.items()}


def _about_pairs(scene: PictureFacts, kind: str, rng: np.random.Generator) -> tuple[tuple[str, ...], str] | None:
    """Return (names, answer) of a kind that asks about a pair."""
    pairs = {noun: sides for noun in PAIRED if (sides := _sides_of(scene, noun)) is not None}
    some = [noun for noun, sides in pairs.items() if any(sides.values())]
    one = [noun for noun in some if not all(pairs[noun].values())]
    if kind == "asymmetry":
        some = [noun for noun in some if all(pairs[noun].values())]
    elif one and rng.random() < 0.6:  # prefer pairs with exactly one side visible
        some = one
    elif kind == "counting" and rng.random() < 0.25:
        own = [n for n in PAIRED if (f"left {n}" in SPOKEN_HEAD) == (scene.region == "head")]
        some = [noun for noun in pairs if noun in own and not any(pairs[noun].values())] or some
    if not some:
        return None
    noun = str(rng.choice(some))
    sides = pairs[noun]
    there = [side for side, seen in sides.items() if seen]
    if len(there) == 2 and rng.random() < {"counting": 0.5, "patient side": 0.75, "asymmetry": 0.0}[kind]:
        return None  # most slices show both
    if kind == "counting":
        return (PAIRED[noun],), str(len(there))
    if kind == "patient side":
        return (noun,), "both" if len(there) == 2 else there[0]
    left, right = (sides[side].pixels for side in ("left", "right"))
    ratio = left / right
    if 1 / 1.3 < ratio < 1.3 and rng.random() < 0.5:
        return (PAIRED[noun],), "about the same size"
    return (
        ((PAIRED[noun],), f"the {'left' if ratio > 1 else 'right'} is larger") if max(ratio, 1 / ratio) > 1.7 else None
    )


def _about_two(scene: PictureFacts, kind: str, rng: np.random.Generator) -> tuple[tuple[str, ...], str] | None:
    """Return (names, answer) of a kind that asks about two structures."""
    names = _elementary(scene.visible)
    if len(names) < 2:
        return None
    a, b = (str(n) for n in rng.permutation(names)[:2])
    first, second = scene.visible[a], scene.visible[b]
    if kind == "comparison":
        ratio = first.pixels / second.pixels
        return ((a, b), a if ratio > 1 else b) if max(ratio, 1 / ratio) > CLEARLY else None
    difference = _center(second)[0] - _center(first)[0]
    return ((a, b), "yes" if difference > 0 else "no") if abs(difference) > NEAR_MIDDLE else None


def _answer(scene: PictureFacts, kind: str, rng: np.random.Generator) -> tuple[tuple[str, ...], str] | None:
    """Return (words for the wording, answer), None where nothing is certain."""
    match kind:
        case "modality":
            return (), scene.modality
        case "plane":
            return (), scene.plane
        case "body part":
            part = body_part(scene) if scene.labelled else None
            return ((), part) if part else None
        case "visible structures":
            return ((), _listed(_elementary(scene.visible), 8)) if scene.complete else None
        case "largest":
            ranked = sorted((scene.visible[n].pixels, n) for n in _elementary(scene.visible))[::-1]
            clear = ranked and (len(ranked) == 1 or ranked[0][0] > CLEARLY * ranked[1][0])
            return ((), ranked[0][1]) if clear and scene.complete else None
        case "presence" | "side" | "where":
            return _about_one(scene, kind, rng)
        case "patient side" | "counting" | "asymmetry":
            return _about_pairs(scene, kind, rng)
        case "comparison" | "relation":
            return _about_two(scene, kind, rng)
        case "skull":
            there = scene.region == "head" and scene.modality == "MR" and scene.labelled and "brain" in scene.names
            return ((), "no" if scene.stripped else "yes") if there else None
    return (), REFUSAL


def exchange_of(
    scene: PictureFacts, kind: str, rng: np.random.Generator, encode: Callable[[np.ndarray], np.ndarray] | None = None
) -> QuestionExchange | None:
    """Return an exchange of one kind, or None if this scene has no certain answer for it.

    Args:
        scene: what is certain about the picture.
        kind: of question.
        rng: of the choice.
        encode: (N, 64, 64) bool masks → (N, 16) codes; needed for "segment".
    """
    if kind in ("segment", "detect"):
        return _object_prompt(scene, rng, encode if kind == "segment" else None)
    if kind in ("caption", "describe"):
        if not scene.complete:
            return None
        prompt = tokens.caption_prompt() if kind == "caption" else tokens.describe_prompt()
        return QuestionExchange(prompt, caption(scene) if kind == "caption" else description(scene), kind)
    found = _answer(scene, kind, rng)
    if found is None:
        return None
    names, answer = found
    words = WORDINGS[kind]
    wording = words[0] if rng.random() < 0.4 else str(rng.choice(words))
    if kind == "refusal" and rng.random() < 0.75:
        wording = _made_refusal(rng)
        while wording in HELD_OUT_REFUSALS:
            wording = _made_refusal(rng)
    if kind == "skull" and "removed" in wording:
        answer = {"yes": "no", "no": "yes"}[answer]
    if kind == "asymmetry" and "difference" in wording and answer == "about the same size":
        answer = "no, about the same size"
    return QuestionExchange(tokens.answer_prompt(wording.format(*names)), answer, kind)


def corpus() -> list[str]:
    """Return all words of prompts and answers, for the tokenizer; independent of pictures."""
    names = list(SPOKEN)
    lines = [w.format(n, n) for kind, words in WORDINGS.items() for w in words
             for n in (PAIRED.values() if kind in ("counting", "asymmetry") else names)]  # fmt: skip
    lines += list(HELD_OUT_REFUSALS) + [REFUSAL, NO_STRUCTURE, "none", "yes", "no", "left", "right", "both"] * 20
    lines += ["about the same size", "no, about the same size", "the left is larger", "the right is larger", "0", "1", "2",
              "upper left", "upper right", "lower left", "lower right"] * 10  # fmt: skip
    for group in (SPOKEN_HEAD, TORSO_STRUCTURES):
        lines += [tokens.JOINT.join(group), ", ".join(group), f"the {group[0]} is not visible"]
    for plane in ("axial", "coronal", "sagittal"):
        for modality in ("CT", "MR"):
            for part in ("head", "chest", "abdomen", "pelvis", "torso", "chest and abdomen", "skull-stripped brain"):
                lines.append(f"{plane} {modality} image of the {part} showing {', '.join(names)}.")
    prompts = [tokens.answer_prompt(line) for line in lines]
    prompts += [
        tokens.caption_prompt(),
        tokens.describe_prompt(),
        tokens.segment_prompt(names),
        tokens.detect_prompt(names),
    ]
    prompts += [
        "segment a ; b",
        "radiograph ultrasound unknown image",
        "the not is are what which who where when how many",
    ]
    return lines + prompts + [f" {n}" for n in names] * 10 + ["segment detect caption describe", REFUSAL] * 30
