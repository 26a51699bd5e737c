"""Folders and zips of models whose descriptions are bombs or of the wrong types."""

from __future__ import annotations

import copy
import json
import random
import zipfile

import pytest

from MedFMLib.errors import InputError, MedFMError, ModelError
from MedFMLib.interfaces import registry
from MedFMLib.model_store.bundle import read_manifest
from MedFMLib.models.runtime import estimates
from MedFMLib.storage import resources
from MedFMLib.storage.json_text import read_json

DEEP = "[" * 200_000
CONFIG = {
    "model_type": "paligemma",
    "vision_config": {"image_size": 224, "patch_size": 14, "hidden_size": 1152, "num_hidden_layers": 27},
    "text_config": {"hidden_size": 2048, "num_hidden_layers": 18, "vocab_size": 257216}, "image_token_index": 257152,
    "quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}  # fmt: skip
ODD = (None, True, -1, 0, 1e300, 10**30, "x", "../x", [], {}, [[]], {"a": 1})


def folder(path, **files):
    """A folder of a model with these files instead of the usual ones."""
    path.mkdir()
    usual = {"config.json": json.dumps(CONFIG), "model.safetensors": "\2\0\0\0\0\0\0\0{}"}
    for name, content in {**usual, **files}.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", ["config.json", "medfm-card.json"])
@pytest.mark.parametrize(
    "content", [DEEP, '{"a": 1e999}', '{"a": NaN}', "[]", b"\xff\xfe{", "{" + '"a":[' * 99999], ids=range(6)
)
def test_a_description_that_is_a_bomb_is_one_sentence(name, content, tmp_path, attack):
    with pytest.raises(ModelError):
        registry.card(str(folder(tmp_path / "m", **{name: content})))
    attack("traceback", "one sentence")


def test_a_manifest_that_is_a_bomb_is_one_sentence(tmp_path, attack):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("medfm-manifest.json", DEEP)
    with pytest.raises(InputError, match="nested too deeply"):
        read_manifest(tmp_path / "m.zip", "model")
    attack("traceback", "one sentence")


def test_a_model_zip_that_inflates_is_refused_before_it_does(tmp_path, attack):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("medfm-manifest.json", "{}")
        with archive.open("model.safetensors", "w") as entry:
            for _ in range(128):
                entry.write(bytes(1 << 20))
    with pytest.raises(InputError, match=r"would inflate from 0.1 MB to 0.1 GB"):
        read_manifest(path, "model")
    attack("12 MB inflated to 12.9 GB", "refused by its ratio")


def places(content: dict, before=()):
    """Paths of all values of nested objects."""
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


@pytest.mark.parametrize("kind", ["config.json", "medfm-card.json"])
def test_a_description_with_any_value_of_another_type_is_one_sentence(kind, tmp_path, attack):
    cards = sorted((resources.root() / "zoo").glob("*.json"))
    good = CONFIG if kind == "config.json" else json.loads(cards[0].read_text(encoding="utf-8"))
    pick, refused = random.Random(1), 0
    for number in range(300):
        content = copy.deepcopy(good)
        inner, place = content, pick.choice(list(places(content)))
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = pick.choice(ODD)
        try:
            estimates.weight_bytes(
                registry.card(str(folder(tmp_path / str(number), **{kind: json.dumps(content)}))), "nf4"
            )
        except MedFMError:
            refused += 1
    assert 20 < refused < 300
    attack("tracebacks", f"{refused} of 300 refused, the others are read")


@pytest.mark.parametrize(
    "text", [DEEP, "[1e999]", "[Infinity]", '["\\ud800"]', "[" + "1," * 400_000 + "1]", b"\xff"], ids=range(6)
)
def test_json_of_others_has_bounds(text, attack):
    with pytest.raises(ValueError, match=r"deeply|large|JSON|surrogates|parts|decode"):
        read_json(text)
    attack("RecursionError, infinity, memory", "refused")
