"""Chat templates that never end, or that make texts without end."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("transformers")

from transformers.utils.chat_template_utils import render_jinja_template

from MedFMLib.errors import ModelError
from MedFMLib.models.generation.templates import bounded

LOOP = "{% for a in range(99999) %}"
ENDLESS = {
    "nested loops": LOOP * 3 + "{% endfor %}" * 3,
    "doubling": "{% set ns = namespace(x='ab') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "doubling of a variable": "{% set x = 'ab' %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "product": "{{ 'ab' * 99999 * 99999 * 999 }}",
    "power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "width": "{{ 'a'.center(9999999999) }}",
    "filter": "{{ 'a'|center(999999999) }}",
    "format": "{{ '%999999999d' % 1 }}",
    "printed without end": "{% for a in range(99999) %}{{ 'x'.center(99999) }}{% endfor %}",
    "kept without end": "{% set y = namespace(l=[]) %}"
    + LOOP
    + "{% set y.l = y.l + ['x'.center(99999)] %}{% endfor %}",
    "recursion": "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}",
    "block": "{% set t %}{% for a in range(99999) %}{{ 'x'.center(99999) }}{% endfor %}{% endset %}",
}
TURNS = [{"role": "user", "content": [{"type": "text", "text": "What is shown?"}]}]


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_without_end_is_ended(name, attack):
    start = time.monotonic()
    with pytest.raises(ModelError, match="chat template of the model"), bounded(ENDLESS[name]):
        render_jinja_template([TURNS], chat_template=ENDLESS[name])
    seconds = time.monotonic() - start
    assert seconds < 20
    attack("never ended, or took all memory", f"one sentence, {seconds:.1f} s")


def test_a_long_conversation_is_far_from_the_limits():
    template = (
        "{% for message in messages %}{{ '<turn>' + message.role }}{% for item in message.content %}{% if item.type == 'image' %}"
        "<image>{% else %}{{ item.text | trim }}{% endif %}{% endfor %}\n{% endfor %}"
    )
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x" * 2000}]}] * 400
    with bounded(template):
        said, _ = render_jinja_template([turns], chat_template=template)
    assert said[0].count("<image>") == 400


def test_a_model_with_such_a_template_is_refused_when_it_is_loaded(tmp_path, attack):
    pytest.importorskip("torch")
    from support import random_families

    from MedFMLib.engine import load_model
    from MedFMLib.interfaces import registry
    from MedFMLib.interfaces.jobs import NoProgress

    folder = random_families.gemma3(tmp_path / "evil")
    changed = 0
    for path in folder.rglob("*"):
        if path.suffix == ".jinja":
            path.write_text(ENDLESS["nested loops"])
            changed += 1
        elif path.suffix == ".json" and "chat_template" in (content := json.loads(path.read_text())):
            path.write_text(json.dumps({**content, "chat_template": ENDLESS["nested loops"]}))
            changed += 1
    assert changed
    with pytest.raises(ModelError, match="chat template of the model"):
        load_model(registry.card(str(folder)), "", "fp32", NoProgress())
    attack("the worker never answered", "one sentence")
