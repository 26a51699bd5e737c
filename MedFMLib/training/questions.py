"""Prompts with their right answers, made from what is certain about a picture. Knows names and boxes; no torch.

Every answer follows from parts, plane, modality and region, so nothing is made up; what the picture can't tell is
answered with `REFUSAL`. Wordings vary; the first of each kind is the plain one that tests and the panel use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..models.parts import location_tokens as tokens
from .labels import LABELS, SPOKEN, SPOKEN_HEAD, TORSO_STRUCTURES
from .objects import Seen

REFUSAL = "cannot be answered from this image"
NO_STRUCTURE = "none of the known structures"


@dataclass(frozen=True)
class Scene:
    """What is certain about one picture.

    Args:
        modality: "MR" or "CT"; `plane`; `region`: "head" or "torso"; `chest`: the torso is (mostly) its upper part.
        visible: structures in it, by name, in the order of `STRUCTURES`.
        missing: structures that are surely not in it.
        complete: everything of `STRUCTURES` that is visible is labelled.
        stripped: only the brain of the head is shown.
    """

    modality: str
    plane: str
    region: str
    visible: dict[str, Seen]
    missing: tuple[str, ...]
    complete: bool = True
    stripped: bool = False


@dataclass(frozen=True)
class Exchange:
    """A prompt, its answer, and the kind of question for counting.

    `asked` are the names of a `segment` or `detect` prompt in its order, with what there is to see (None: absent).
    """

    prompt: str
    answer: str
    kind: str
    asked: tuple[tuple[str, Seen | None], ...] = ()


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
    "patient side": ("on which side of the patient is the {}?", "on which side of the body is the {}?"),
    "largest": ("which structure is the largest?", "what is the largest structure?", "which organ is the largest?"),
    "refusal": ("how old is the patient?", "what is the name of the patient?", "is the patient male or female?",
                "what was the patient's blood pressure?", "is there a tumour?", "what is the diagnosis?",
                "when was this scan taken?", "does the patient smoke?", "how tall is the patient?",
                "which hospital made this scan?", "does the patient have diabetes?", "is this malignant?",
                "what treatment should the patient get?", "how much does the patient weigh?", "is there a fracture?",
                "which scanner was used?", "what is the prognosis?", "has the patient had surgery?",
                "does the patient have a fever?", "what medication does the patient take?"),
}  # fmt: skip
"""Kind → wordings; `{}` is a structure. Refusals are different questions rather than wordings of one."""

HELD_OUT_REFUSALS = ("what is the phone number of the patient?", "does the patient have a headache?", "is there an infection?",
                     "what does the patient do for work?", "how long will the patient live?")  # fmt: skip
"""Never trained; measure whether refusing is more than memory."""


def _center(seen: Seen) -> tuple[float, float]:
    y0, x0, y1, x1 = seen.box
    rows, columns = np.nonzero(seen.mask)
    if not len(rows):
        return (y0 + y1) / 2, (x0 + x1) / 2
    return y0 + (rows.mean() + 0.5) / 64 * (y1 - y0), x0 + (columns.mean() + 0.5) / 64 * (x1 - x0)


def _elementary(scene: Scene) -> list[str]:
    """Visible structures without those that a larger one contains ("brain" stands for its parts only if alone)."""
    return [n for n in scene.visible if n != "brain"] or list(scene.visible)


def picture_side(seen: Seen) -> str | None:
    """ "left" or "right" of the picture, None near its middle."""
    x = _center(seen)[1]
    return None if abs(x - 0.5) < 0.06 else "left" if x < 0.5 else "right"


def patient_side(scene: Scene, name: str) -> str | None:
    """Side of the patient: from the name, or from the picture in the planes that show both sides."""
    if name.startswith(("left ", "right ")):
        return name.split()[0]
    if scene.plane == "sagittal" or scene.region == "head":
        return None
    side = picture_side(scene.visible[name])
    return {"left": "right", "right": "left", None: None}[side]


def body_part(scene: Scene) -> str:
    """ "head", or the part of the torso that its structures tell."""
    if scene.region == "head":
        return "head"
    names = set(scene.visible)
    chest, pelvis = names & {"left lung", "right lung"}, names & {"urinary bladder", "left hip bone", "right hip bone"}
    abdomen = names & {"liver", "spleen", "left kidney", "right kidney", "stomach"}
    found = [n for n, there in (("chest", chest), ("abdomen", abdomen), ("pelvis", pelvis)) if there]
    return " and ".join(found[:2]) if 0 < len(found) < 3 else "torso"


def _listed(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) if names else NO_STRUCTURE


def caption(scene: Scene) -> str:
    """One short sentence."""
    part = "skull-stripped brain" if scene.stripped else body_part(scene)
    return f"{scene.plane} {scene.modality} image of the {part}"


def description(scene: Scene) -> str:
    """The caption with what is visible."""
    names = _elementary(scene)
    return caption(scene) + (f" showing {_listed(names, 7)}." if names else ".")


# -- one maker per kind: scene, rng, wording → exchange or None ------------------------------------


def _object_prompt(
    scene: Scene, rng: np.random.Generator, encode: Callable[[np.ndarray], np.ndarray] | None
) -> Exchange | None:
    """`segment` if masks can be encoded, else `detect`, of one to six names in random order."""
    visible, missing = list(scene.visible), list(scene.missing)
    own = LABELS[scene.modality]
    near = [n for n in missing if n in own and (n in SPOKEN_HEAD) == (scene.region == "head")]
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
    return Exchange(prompt, answer, "segment" if encode else "detect", asked)


def _answer(scene: Scene, kind: str, name: str, rng: np.random.Generator) -> Exchange | None:
    """The answer of one kind about `name` (if the kind needs one), None where it isn't certain."""
    words = WORDINGS[kind]
    wording = words[0] if rng.random() < 0.4 else str(rng.choice(words))
    seen = scene.visible.get(name)
    match kind:
        case "modality":
            answer = scene.modality
        case "plane":
            answer = scene.plane
        case "body part":
            answer = body_part(scene) if scene.complete else None
        case "visible structures":
            answer = _listed(_elementary(scene), 8) if scene.complete else None
        case "presence":
            answer = "yes" if seen else "no" if name in scene.missing else None
        case "side":
            answer = picture_side(seen) if seen else f"the {name} is not visible" if name in scene.missing else None
        case "patient side":
            answer = (
                patient_side(scene, name) if seen else f"the {name} is not visible" if name in scene.missing else None
            )
        case "largest":
            ranked = sorted((scene.visible[n].pixels, n) for n in _elementary(scene))[::-1]
            clear = ranked and (len(ranked) == 1 or ranked[0][0] > 1.15 * ranked[1][0])
            answer = ranked[0][1] if clear and scene.complete else None
        case _:
            answer = REFUSAL
    return None if answer is None else Exchange(tokens.answer_prompt(wording.format(name)), answer, kind)


_KINDS = {"segment": 0.60, "detect": 0.08, "modality": 0.025, "plane": 0.03, "body part": 0.03, "visible structures": 0.05,
          "presence": 0.055, "side": 0.03, "patient side": 0.02, "largest": 0.025, "refusal": 0.025, "caption": 0.015,
          "describe": 0.015}  # fmt: skip


def ask(scene: Scene, rng: np.random.Generator, encode: Callable[[np.ndarray], np.ndarray]) -> Exchange:
    """A random exchange about a scene, in the proportions of training.

    Args:
        encode: (N, 64, 64) bool masks → (N, 16) codes.
    """
    kinds, shares = list(_KINDS), np.array(list(_KINDS.values()))
    while True:
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        exchange = exchange_of(scene, kind, rng, encode)
        if exchange is not None:
            return exchange


def exchange_of(
    scene: Scene, kind: str, rng: np.random.Generator, encode: Callable[[np.ndarray], np.ndarray] | None = None
) -> Exchange | None:
    """An exchange of one kind, or None if this scene has no certain answer for it."""
    if kind in ("segment", "detect"):
        return _object_prompt(scene, rng, encode if kind == "segment" else None)
    if kind in ("caption", "describe"):
        if not scene.complete:
            return None
        prompt = tokens.caption_prompt() if kind == "caption" else tokens.describe_prompt()
        return Exchange(prompt, caption(scene) if kind == "caption" else description(scene), kind)
    names = list(scene.visible)
    absent_share = {"presence": 0.5, "side": 0.12, "patient side": 0.12}.get(kind, 0.0)
    if not names or rng.random() < absent_share:
        near = [n for n in scene.missing if (n in SPOKEN_HEAD) == (scene.region == "head")]
        names = near if near and rng.random() < 0.7 else list(scene.missing) or names
    name = str(rng.choice(names)) if names else "liver"
    return _answer(scene, kind, name, rng)


def corpus() -> list[str]:
    """Every word that prompts and answers can hold, for the tokenizer; independent of pictures."""
    names = list(SPOKEN)
    lines = [w.format(n) for words in WORDINGS.values() for w in words for n in names]
    lines += list(HELD_OUT_REFUSALS) + [REFUSAL, NO_STRUCTURE, "none", "yes", "no", "left", "right"] * 20
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
