"""Write the sentences on an image that a model was not made for: what it seems to be, what the model is for, what to do.

Knows cards and domains, no models. The decision is made once, in `engine`.
"""

from __future__ import annotations

from ..core.domain import ImageDomain
from ..core.terminology import split_side
from ..storage.model_card import ModelCard

EXAMPLES = 3
"""Number of structures that a sentence names for each modality."""

DRAW_ANYWAY = (
    "Nothing was drawn: choose another model, or draw anyway with --outside-domain (panel: “Draw anyway”; Python: "
    "outside_domain=True)."
)
ASK_ANYWAY = (
    "The model was not asked: choose another model, or ask anyway with --outside-domain (panel: “Ask anyway”; Python: "
    "outside_domain=True)."
)
FORCED = "The results were computed anyway, as was asked, and are marked."


def made_for(card: ModelCard) -> str:
    """Return the kinds of images that a model was made for, with some of the structures that it knows, by its card."""
    kinds = []
    for modality in card.modalities or tuple(m for m in card.labels if m != "*"):
        asked = [label for label in card.labels_for(modality) if label not in card.on_request]
        names = list(dict.fromkeys(split_side(label)[1] for label in asked))
        shown = ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")
        kinds.append(f"{modality} images" + (f" ({shown})" if shown else ""))
    if not kinds:
        return "other images, see its card"
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"


def outside_sentence(card: ModelCard, domain: ImageDomain) -> str:
    """Return what an image seems to be, and what the model was made for.

    Args:
        card: card of the model.
        domain: what the model takes the image for; not known to it.
    """
    reason = domain.reason.strip().rstrip(".") or "it is of another kind"
    region = domain.region.strip()
    seems = f" (it seems to show the {region})" if region and region.lower() not in reason.lower() else ""
    return f"{card.title} was not made for this image: {reason}{seems}. It was made for {made_for(card)}."


def outside_of(message: str) -> str:
    """Return the message of an `OutsideDomain` without its next step, where another one is needed."""
    return message.removesuffix(DRAW_ANYWAY).rstrip()
