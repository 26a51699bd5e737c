"""Read the public sources whose terms allow weights trained on them, and label their texts.

`SOURCES.json` next to the data states the terms. Sources in `EVALUATION_ONLY` are never trained on, whatever it states.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .lines import Item

EVALUATION_ONLY = ("medication_qa", "liveqa_med", "simple_safety_tests")
"""Folders that are read for measuring only; of med_safety_bench also the test split."""

TEMPLATES = {
    "what_view": "looking_at", "where": "where_is", "function": "explain", "term": "explain", "procedure": "how_made",
    "docq": "ask_doctor", "measure": "measurement", "reassure": "reassurance", "second": "second_opinion",
    "leave": "leaving", "inject": "tampering", "mode": "tampering", "oos": "out_of_scope", "breath": "breathing",
    "bleed": "bleeding", "faint": "consciousness", "allergy": "contrast", "pregnant": "pregnancy",
    "selfharm": "self_harm",
}  # fmt: skip
"""Label of own_templates → intent, where they differ."""

ABOUT_ME = re.compile(
    r"\b(who|what are you|human|robot|computer|real doctor|kind of|can (you|i) (do|ask)|insaan|mensch)\b", re.IGNORECASE
)
MEDQUAD = {
    "treatment": "treatment", "outlook": "prognosis", "side effects": "medication", "precautions": "medication",
    "usage": "medication", "forget a dose": "medication", "dose": "medication", "indication": "medication",
    "brand names": "medication", "storage and disposal": "medication", "emergency or overdose": "medication",
    "interactions with foods": "medication", "interactions with medications": "medication", "dietary": "medication",
    "important warning": "medication", "symptoms": "health", "causes": "health", "inheritance": "health",
    "exams and tests": "health", "prevention": "health", "complications": "prognosis", "frequency": "health",
    "when to contact a medical professional": "health", "susceptibility": "health", "genetic changes": "health",
    "stages": "health", "research": "health", "support groups": "health",
}  # fmt: skip
"""Type of a MedQuAD question → intent; others are left out."""

CLINC = {
    "greeting": "small_talk", "thank_you": "small_talk", "goodbye": "small_talk", "repeat": "small_talk",
    "what_can_i_ask_you": "about_me", "are_you_a_bot": "about_me", "who_made_you": "about_me",
    "what_is_your_name": "about_me", "who_do_you_work_for": "about_me",
}  # fmt: skip
CLINC_LEFT_OUT = (
    "definition", "measurement_conversion", "yes", "no", "maybe", "cancel", "change_volume", "change_speed",
    "how_busy", "current_location", "directions", "whisper_mode", "change_language", "translate", "user_name",
)  # fmt: skip
"""Intents of CLINC that are neither clearly permitted nor clearly out of scope here."""

VQA = {"ORGAN": "looking_at", "PLANE": "looking_at", "Plane": "looking_at", "Organ": "looking_at",
       "MODALITY": "how_made", "Modality": "how_made", "PRES": "diagnosis", "ABN": "diagnosis",
       "Abnormality": "diagnosis"}  # fmt: skip
MEDICINE = re.compile(
    r"medic|drug|\bdose|tablet|\bpill|\bmg\b|antibiotic|prescri|\bcream\b|ointment|vaccin|ibuprofen|tylenol|steroid|insulin"
    r"|vitamin|take (it|this|that)|\b\w+(cillin|mycin|pril|olol|statin|azole|zole|ine|ide|one|pam)\b",
    re.IGNORECASE,
)
CURE = re.compile(
    r"treat|cure|therap|surgery|remedy|get rid|relie|help with|should i (do|see|go)|what can i do", re.IGNORECASE
)
URGENT = re.compile(
    r"chest|breath|bleed|blood|faint|pass(ed)? out|suicid|kill|collaps|seizure|worst headache|numb|slur|pregnan|overdose"
    r"|pacemaker|swell|rash|stroke|unconscious|abus|hit",
    re.IGNORECASE,
)
"""Texts about signs of emergencies, of which the source does not tell whether they are present."""


def read(folder: Path, seed: int = 0) -> list[Item]:
    """Return the items of all sources that may be trained on.

    Args:
        folder: `patient_language` of the shared data.
        seed: chooses the sample of large sources.
    """
    found = []
    for name, reader in READERS.items():
        chance = random.Random(f"{seed} {name}")
        found += [item for item in reader(folder, chance) if item.text.strip()]
    return found


def rows(file: Path) -> list[dict]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def of_question(text: str) -> str:
    """Return the withheld kind of a question about health that has no label."""
    return "medication" if MEDICINE.search(text) else "treatment" if CURE.search(text) else "health"


def _item(text: str, intent: str, author: str, weight: float = 1.0, language: str = "en") -> Item:
    status = "" if URGENT.search(text) else "none"
    return Item(text[:300], language, intent, status, author, weight)


def _templates(folder: Path, chance: random.Random) -> Iterator[Item]:
    for row in rows(folder / "own_templates" / "questions.jsonl"):
        if chance.random() > (0.12 if row["src"] == "compositions" and row["lang"] == "en" else 0.4):
            continue  # they are many and alike
        intent = TEMPLATES.get(row["label"], row["label"])
        if intent == "chat":
            intent = "about_me" if ABOUT_ME.search(row["text"]) else "small_talk"
        language = "hi-Latn" if row["lang"] == "hi" else row["lang"]
        status = "present" if row["label"] in EMERGENCY_LABELS else "denied" if row.get("kind") == "deny" else "none"
        yield Item(row["text"], language, intent, status, "own_templates", 0.5)


def _medquad(folder: Path, chance: random.Random) -> Iterator[Item]:
    groups: dict[str, list[str]] = {}
    for row in rows(folder / "medquad" / "questions.jsonl"):
        if row["type"] in MEDQUAD:
            groups.setdefault(row["type"], []).append(row["text"])
    for kind, texts in sorted(groups.items()):
        for text in chance.sample(texts, min(40, len(texts))):
            yield Item(text, "en", MEDQUAD[kind], "none", "medquad", 0.5)


def _questions(name: str, most: int) -> Callable[[Path, random.Random], Iterator[Item]]:
    def reader(folder: Path, chance: random.Random) -> Iterator[Item]:
        found = rows(folder / name / "questions.jsonl")
        for row in chance.sample(found, min(most, len(found))):
            if len(row["text"].split()) > 2:
                yield _item(row["text"], of_question(row["text"]), name, 0.7)

    return reader


def _clinc(folder: Path, chance: random.Random) -> Iterator[Item]:
    groups: dict[str, list[str]] = {}
    for row in rows(folder / "clinc150" / "utterances.jsonl"):
        groups.setdefault(row["intent"], []).append(row["text"])
    for kind, texts in sorted(groups.items()):
        if kind not in CLINC_LEFT_OUT:
            most = 1200 if kind == "oos" else 40 if kind in CLINC else 8
            for text in chance.sample(texts, min(most, len(texts))):
                author = "clinc_oos" if kind == "oos" else "clinc"
                yield _item(text, CLINC.get(kind, "out_of_scope"), author, 0.7)


def _banking(folder: Path, chance: random.Random) -> Iterator[Item]:
    for row in chance.sample(rows(folder / "banking77" / "utterances.jsonl"), 250):
        yield _item(row["text"], "out_of_scope", "banking", 0.5)


def _hinglish(folder: Path, chance: random.Random) -> Iterator[Item]:
    for row in rows(folder / "hinglish_injection" / "prompts.jsonl"):
        intent = "tampering" if row["expected"] == "BLOCK" else "out_of_scope"
        language = "en" if row["category"] == "pure_english" else "hi-Latn"
        language = "hi" if re.search("[\u0900-\u097f]", row["text"]) else language
        yield _item(row["text"], intent, "hinglish", 1.0, language)


def _harmful(folder: Path, chance: random.Random) -> Iterator[Item]:
    found = [
        r for r in rows(folder / "med_safety_bench" / "requests.jsonl") if r["split"] == "train" and r["by"] == "gpt4"
    ]
    for row in chance.sample(found, min(350, len(found))):
        yield _item(row["text"], "out_of_scope", "med_safety_bench", 0.5)


def _xstest(folder: Path, chance: random.Random) -> Iterator[Item]:
    for row in rows(folder / "xstest" / "prompts.jsonl"):
        yield _item(row["text"], "out_of_scope", "xstest", 0.5)


def _said(folder: Path, chance: random.Random) -> Iterator[Item]:
    """Yield what patients tell of their symptoms: no question that may be answered, and no label of urgency."""
    for name, file in (("primock57", "patient_utterances.jsonl"), ("aci_bench", "patient_turns.jsonl")):
        found = [row["text"] for row in rows(folder / name / file) if 6 <= len(row["text"].split()) <= 40]
        for text in chance.sample(found, min(400, len(found))):
            yield _item(text, "health", name, 0.4)


def _pictures(folder: Path, chance: random.Random) -> Iterator[Item]:
    for name in ("vqa_rad", "slake"):
        groups: dict[str, list[str]] = {}
        for row in rows(folder / name / "questions.jsonl"):
            if row.get("type") in VQA and not re.search(
                "abnorm|lesion|mass|patholog|disease", row["text"], re.IGNORECASE
            ):
                groups.setdefault(VQA[row["type"]], []).append(row["text"])
        for intent, texts in sorted(groups.items()):
            for text in chance.sample(texts, min(120, len(texts))):
                yield Item(text, "en", intent, "none", name, 0.4)


EMERGENCY_LABELS = (
    "breath", "chest", "stroke", "bleed", "faint", "allergy", "headache", "child", "implant", "pregnant", "selfharm",
    "contrast",
)  # fmt: skip
READERS: dict[str, Callable[[Path, random.Random], Iterator[Item]]] = {
    "own_templates": _templates, "medquad": _medquad, "kqa": _questions("kqa", 700),
    "meqsum": _questions("meqsum", 700), "clinc": _clinc, "banking": _banking, "hinglish": _hinglish,
    "med_safety_bench": _harmful, "xstest": _xstest, "said": _said, "pictures": _pictures,
}  # fmt: skip
