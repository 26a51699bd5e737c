"""Name what a patient's text can be about: permitted intents, withheld kinds and emergencies. Judges nothing."""

from __future__ import annotations

PERMITTED = (
    "looking_at", "where_is", "explain", "how_made", "practical", "viewer", "healthy", "measurement", "ask_doctor",
    "about_me", "small_talk",
)  # fmt: skip
"""Intents that may be answered; everything else is refused."""

WITHHELD = (
    "diagnosis", "reassurance", "prognosis", "odds", "treatment", "medication", "others", "tampering",
    "second_opinion", "blame", "legal", "leaving", "distress", "health", "out_of_scope",
)  # fmt: skip
"""Kinds that are refused, each with its own text."""

EMERGENCIES = (
    "chest", "stroke", "breathing", "contrast", "bleeding", "consciousness", "headache", "self_harm", "child",
    "implant", "pregnancy", "violence",
)  # fmt: skip
"""Kinds of which the staff must know at once."""

INTENTS = (*PERMITTED, *WITHHELD, *EMERGENCIES)
KINDS = ("none", *EMERGENCIES)
"""Of an emergency that is present now; "none" also for one that is denied, past or another person's story."""

STATUSES = ("none", "present", "denied", "past", "other")
"""Whether an emergency's signs are there now, denied, over, or told of somebody who is not here."""

LANGUAGES = ("en", "de", "es", "fr", "it", "pt", "tr", "pl", "ar", "zh", "hi", "hi-Latn", "other")
"""Languages that are recognised; the last stands for all others."""
