"""MedFM's client with another project's server: `transformers serve` with a very small random Gemma 3."""

import os
import socket
import subprocess
import sys
import time

import pytest
from support.phantoms import ct_phantom

pytest.importorskip("torch")

import requests
from support import random_families

from MedFMLib.core.request import Request
from MedFMLib.core.view import make_view
from MedFMLib.endpoints import book, probe
from MedFMLib.endpoints.failures import EndpointError
from MedFMLib.endpoints.settings import Endpoint
from MedFMLib.engine import Engine
from MedFMLib.errors import Cancelled
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import Callbacks
from MedFMLib.models import openai_api


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(base address, model's name) of a server in a process of its own."""
    root = tmp_path_factory.mktemp("served")
    folder = random_families.gemma3(root / "gemma")
    (root / "hub").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HOME": str(root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for name in ("HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(folder),
               "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]  # fmt: skip
    with open(root / "log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 90
        while True:
            assert process.poll() is None and time.monotonic() < end, (root / "log").read_text()[-2000:]
            try:
                requests.get(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except requests.RequestException:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", str(folder)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def card(served, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return book.add("others", Endpoint(*served, mask_text=False), picture_side=64)


def test_it_answers_a_question_about_a_volume_in_pieces(card):
    pieces = []
    response = Engine().run(Request("ask", ct_phantom(), question="Which organ?", model="others", max_tokens=12))
    text = openai_api.load(card, "", "", NoProgress()).write(
        [make_view(ct_phantom(), "axial", 12)],
        "Which organ?",
        max_tokens=12,
        callbacks=Callbacks(on_text=pieces.append),
    )
    assert len(pieces) > 3 and "".join(pieces).strip() == text
    assert response.answers[0].text and len(response.answers[0].evidence) == 8
    assert card.endpoint["model"] in response.provenance.revision
    assert response.provenance.tokens[1] == 12
    assert "The answer was cut at 12 tokens." in response.provenance.notes


def test_the_pictures_reach_the_model(card):
    model, image = openai_api.load(card, "", "", NoProgress()), ct_phantom()
    tokens = {}
    for count in (1, 3):
        callbacks = Callbacks(on_tokens=lambda read, written, count=count: tokens.update({count: read}))
        model.write(
            [make_view(image, "axial", n + 8) for n in range(count)], "Which organ?", max_tokens=2, callbacks=callbacks
        )
    assert tokens[3] > tokens[1] + 2 * 4  # four tokens a picture


def test_earlier_turns_are_read(card):
    model, view, tokens = openai_api.load(card, "", "", NoProgress()), make_view(ct_phantom(), "axial", 12), []
    for history in ((), [("Where is it?", "In the abdomen, on the right.")]):
        callbacks = Callbacks(on_tokens=lambda read, _: tokens.append(read))
        model.write([view], "Which organ?", history=history, max_tokens=2, callbacks=callbacks)
    assert tokens[1] > tokens[0] + 10


def test_a_test_finds_what_it_can(card):
    found = probe.probe(card)
    assert (found["writes"], found["pictures"], found["streams"], found["problem"]) == (True, True, True, "")


def test_another_models_name_is_refused_in_a_sentence(served, card):
    other = book.add("wrong", Endpoint(served[0], "nobody/nothing", mask_text=False), picture_side=64)
    with pytest.raises(EndpointError, match=r"^'wrong' at .* has no model 'nobody/nothing'; .*\.$"):
        Engine().run(Request("ask", ct_phantom(), question="What?", model=other.id))


def test_a_cancel_while_it_writes_is_answered_within_200_ms(card):
    pieces, seen = [], []

    def cancelled():
        if pieces and not seen:
            seen.append(time.monotonic())
        return bool(pieces)

    callbacks = Callbacks(on_text=pieces.append, cancelled=cancelled)
    with pytest.raises(Cancelled):
        openai_api.load(registry.card("others"), "", "", NoProgress()).write(
            [make_view(ct_phantom(), "axial", 12)], "Which organ?", max_tokens=512, callbacks=callbacks
        )
    assert time.monotonic() - seen[0] < 0.2
