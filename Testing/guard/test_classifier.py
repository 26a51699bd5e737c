"""A classifier in addition to the rules: it can only make a verdict stricter; unreadable output withholds an answer."""

import json

import pytest

from MedFMLib.errors import InputError, ModelError
from MedFMLib.guard import Guard, classifier

NAME = "qwen3guard-gen-0.6b"
CARD = classifier.classifiers()[NAME]


def guard(said):
    """A guard whose classifier always says the same, and what it was shown."""
    shown = []
    return Guard(classifier=classifier.ModelClassifier(CARD, lambda messages: shown.append(messages) or said)), shown


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Safety: Safe\nCategories: None", "allow"),
        ("Safety: Controversial\nCategories: Unethical Acts", "rephrase"),
        ("Safety: Unsafe\nCategories: Violent", "withhold"),
        ("Safety: Unsafe\nCategories: Suicide & Self-Harm", "escalate"),
        ("Safety: Safe\nCategories: Suicide & Self-Harm", "allow"),
        ("I am not sure.", "withhold"),
        ("", "withhold"),
    ],
)
def test_what_a_model_says_becomes_a_verdict(said, verdict):
    assert CARD.verdict(said) == verdict
    judge, _ = guard(said)
    assert judge.question("What am I looking at?").verdict == verdict


def test_it_never_makes_the_rules_milder():
    judge, _ = guard("Safety: Safe\nCategories: None")
    assert judge.question("Is it cancer?").verdict == "withhold"
    assert judge.question("I can't breathe").verdict == "escalate"


def test_an_answer_is_shown_to_it_as_an_answer():
    judge, shown = guard("Safety: Safe\nCategories: None")
    judge.answer("What is it?", "A liver.")
    assert [m["role"] for m in shown[0]] == ["user", "assistant"] and shown[0][1]["content"] == "A liver."


@pytest.fixture
def tiny(tmp_path):
    """A folder with a very small Qwen 3 of the real class, random weights, a tokenizer and a chat template."""
    torch = pytest.importorskip("torch")
    from support.random_families import tokenizer
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = tokenizer(["<|im_start|>", "<|im_end|>"], eos_token="<|im_end|>", pad_token="<|im_end|>")
    words.chat_template = (
        "{%- for turn in messages -%}{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    folder = tmp_path / "judge"
    Qwen3ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_a_real_model_is_asked_and_its_nonsense_lets_nothing_through(tiny):
    from MedFMLib.models.generation.text_judge import TextJudge

    judge = TextJudge(str(tiny), 8)
    messages = [{"role": "user", "content": "What am I looking at?"}]
    assert judge(messages) == judge(messages)  # without chance
    assert (
        Guard(classifier=classifier.ModelClassifier(CARD, judge)).question("What am I looking at?").verdict
        == "withhold"
    )


def test_a_clinics_choice_is_used_by_the_engine_and_a_missing_model_stops_patients_jobs(tiny, tmp_path, monkeypatch):
    from support.phantoms import ct_phantom

    from MedFMLib.core.request import PATIENT, Request
    from MedFMLib.engine import Engine

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    engine, request = Engine(), Request("ask", ct_phantom(), question="How was this picture made?", audience=PATIENT)
    assert "CT scanner" in engine.run(request).answers[0].text
    classifier.choose(NAME, str(tiny))
    assert engine.run(request).answers[0].verdict == "withhold"
    classifier.choose(NAME, "nobody/has-this")
    with pytest.raises(ModelError, match="guard's model 'nobody/has-this' is not on this machine"):
        engine.run(request)
    classifier.choose("")
    assert "CT scanner" in engine.run(request).answers[0].text


def test_an_unknown_classifier_and_a_damaged_file_are_named(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=f"no classifier 'x'.*{NAME}"):
        classifier.choose("x")
    monkeypatch.setattr(classifier.resources, "load_json", lambda *_: json.loads('{"a": {"title": "t"}}'))
    with pytest.raises(ModelError, match=r"can't be read \(a\)"):
        classifier.classifiers()
