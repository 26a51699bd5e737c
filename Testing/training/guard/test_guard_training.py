"""The guard's training data, and a small training on part of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from MedFMLib.errors import InputError
from MedFMLib.guard.intent_model import IntentModel
from MedFMLib.guard.intents import EMERGENCIES, INTENTS, LANGUAGES, PERMITTED
from MedFMLib.storage import resources
from MedFMLib.training.guard import fitting, lines, measuring, public

FOLDER = resources.path("training", "guard")


def written():
    """Lines of the persona files without headings and comments."""
    return [
        line
        for file in sorted(FOLDER.glob("*.txt"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith(("#", "["))
    ]


def test_there_are_three_thousand_lines_by_six_personas_of_every_kind_and_language():
    items = lines.read_folder(FOLDER)
    assert len(set(written())) >= 3000
    assert len({item.author for item in items}) >= 6
    authors = {intent: {i.author for i in items if i.intent == intent} for intent in INTENTS}
    assert all(len(names) >= 6 for names in authors.values()), authors
    spoken = {language: {i.author for i in items if i.language == language} for language in LANGUAGES[:-1]}
    assert all(len(names) >= 2 for names in spoken.values()), spoken
    assert {"denied", "past", "other", "present", "none"} == {item.status for item in items}


def test_no_line_has_two_labels():
    labels: dict[str, set] = {}
    for item in lines.read_folder(FOLDER):
        labels.setdefault(item.text.lower().strip(" ?.!"), set()).add(item.expected)
    assert not {text: found for text, found in labels.items() if len(found) > 1}


def test_a_wrong_section_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="no persona files"):
        lines.read_folder(tmp_path)
    file = tmp_path / "someone.txt"
    for section in ("[en]", "[xx chest]", "[en nothing]", "[en chest soon]"):
        file.write_text(f"{section}\ntext\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"someone\.txt, line 1"):
            lines.read_file(file)


def test_alternatives_are_expanded():
    assert lines.expand("(where|find) is (it|)") == ["where is it", "where is", "find is it", "find is"]
    assert len(lines.expand("(a|b|c|d) (a|b|c|d)")) == lines.MOST_EXPANSIONS


def test_sources_for_evaluation_are_never_read_for_training(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(public, "rows", lambda file: opened.append(file) or [])
    for reader in public.READERS.values():
        list(reader(tmp_path, __import__("random").Random(0))) if reader is not public.READERS["banking"] else None
    assert opened and not [file for file in opened if file.parent.name in public.EVALUATION_ONLY]


def test_only_the_train_split_by_gpt4_is_trained_on(monkeypatch):
    rows = [
        {"text": f"{split} {by}", "split": split, "by": by} for split in ("train", "test") for by in ("gpt4", "llama2")
    ]
    monkeypatch.setattr(public, "rows", lambda file: rows)
    found = list(public.READERS["med_safety_bench"](Path(), __import__("random").Random(0)))
    assert [item.text for item in found] == ["train gpt4"]


@pytest.fixture
def vectors():
    names = ("▁where", "▁is", "▁my", "▁liver", "▁pain", "▁chest", "▁i", "▁have", "▁cancer", "▁it", "▁heart")
    chance = np.random.default_rng(0)
    values = chance.integers(-100, 100, (len(names), 16)).astype(np.int8)
    return fitting.Vectors(names, np.full(len(names), -5, np.float16), values, np.full(len(names), 0.02, np.float16))


def test_a_small_training_learns_three_kinds_and_is_repeatable(vectors, monkeypatch):
    pytest.importorskip("scipy")
    pytest.importorskip("torch")
    monkeypatch.setattr(fitting, "BUCKETS", 2**12)
    texts = {
        "where_is": "where is my (liver|heart)",
        "diagnosis": "is it cancer (in my liver|)",
        "chest": "i have chest pain (now|)",
    }
    items = [
        lines.Item(text, "en", intent, "present" if intent in EMERGENCIES else "none", "x")
        for intent, line in texts.items()
        for text in lines.expand(line) * 20
    ]
    settings = fitting.Settings(rounds=30, epochs=3, batch=16)
    one, other = (fitting.train(items, vectors, settings) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    judged = measuring.judge(IntentModel(one), items[::40])
    assert [j.scores.intent for j in judged] == ["where_is", "diagnosis", "chest"]
    assert Counter(one).keys() == Counter(other).keys() and set(PERMITTED) & {j.scores.suggestions[0] for j in judged}


def test_misspelt_texts_keep_most_of_their_letters():
    chance = __import__("random").Random(1)
    for _ in range(50):
        made = fitting.misspelt("where is my liver", chance)
        assert 14 <= len(made) <= 20
