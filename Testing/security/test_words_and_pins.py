"""Questions that cost without end or control the model, and PIN files that somebody changed."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest

from MedFMLib.batch.plan import step_from
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import MOST_LETTERS, Request
from MedFMLib.errors import InputError
from MedFMLib.guard.lock import PatientLock

IMAGE = Image(np.arange(1000.0).reshape(1, 10, 10, 10), Geometry((10, 10, 10), np.eye(4)), "MR")


@pytest.mark.parametrize(
    "text", ["word " * 8200, "a_" * 30_000, "x" * 16_000], ids=["41 KB", "a_ × 30,000", "16,000 letters"]
)
def test_a_long_question_is_refused_before_any_work(text, attack):
    for request in (
        {"question": text},
        {"history": ((text, "yes"),)},
        {"labels": (text,)},
        {"indication": text},
        {"options": {"a": text}},
    ):
        with pytest.raises(InputError, match=f"at most {MOST_LETTERS} are read"):
            Request("ask", IMAGE, **request)
    with pytest.raises(InputError, match=f"at most {MOST_LETTERS} are read"):
        step_from(f"ask:{text}")
    with pytest.raises(InputError, match="at most 20000 are read"):
        Request("ask", IMAGE, history=(("What?", text * 3),))
    attack("20 GB, or up to 73 s", "refused")


@pytest.mark.parametrize("text", ["left kidney, " * 150, "a_" * 999, "7 mm and " * 220, "(" * 2000, "liver " * 333])
def test_the_longest_question_is_handled_in_a_second(text, attack):
    import time

    from MedFMLib.core.findings import Measurement
    from MedFMLib.fact_check import check_answer
    from MedFMLib.guard import Guard

    start = time.monotonic()
    check_answer(text, text, [Measurement("liver", "volume", 1.0, "mL", number=1)])
    assert Guard().question(text).verdict
    seconds = time.monotonic() - start
    attack("grew with the square of the length", f"{seconds:.2f} s")
    assert seconds < 2


GROWING = (
    "word ",
    "a_",
    "x",
    "left kidney, ",
    "7 mm and ",
    "(",
    "a.",
    "a b ",
    "1 x ",
    "{a.b} ",
    "{a",
    "1e",
    "a-",
    "[7] ",
    "no ",
    "?! ",
)


@pytest.mark.parametrize("piece", GROWING)
def test_work_on_words_grows_with_their_number(piece, attack):
    import time

    from MedFMLib.core.findings import Measurement
    from MedFMLib.fact_check import check_answer
    from MedFMLib.guard import Guard

    guard, liver, took = Guard(), [Measurement("liver", "volume", 1.0, "mL", number=1)], []
    for length in (40_000, 80_000):  # twenty times what is read
        text = (piece * length)[:length]
        start = time.process_time()
        check_answer("Is it large?", text, liver)
        check_answer(text, "5 cm", liver)
        guard.question(text)
        took.append(time.process_time() - start)
    assert took[1] < 3.2 * took[0] + 0.2, took
    attack("grew with the square of the length", f"{took[0]:.2f} s, {took[1]:.2f} s for twice as much")


def test_names_and_tags_are_cut(attack):
    image = Image(
        IMAGE.voxels,
        IMAGE.geometry,
        "MR",
        "n" * 10**6,
        {"BodyPartExamined": "x" * 10**6, **{str(n): "y" for n in range(9999)}},
    )
    assert len(image.name) == 200 and len(image.facts) == 100 and max(map(len, image.facts.values())) == 200
    attack("went on into prompts and pages", "cut")


def test_half_a_character_becomes_a_question_mark(attack):
    assert Request("ask", IMAGE, question="a\ud800b").question == "a?b"
    attack("traceback, or a status 500", "replaced")


@pytest.mark.parametrize("token", ["<image>", "<eos>", "<bos>", "<pad>"])
def test_a_control_token_in_a_question_is_only_text(token, dense_folder, attack):
    from MedFMLib.engine import Engine

    values = np.random.default_rng(0).random((1, 32, 32, 4)).astype(np.float32)
    image = Image(values, Geometry((32, 32, 4), np.eye(4)), "MR")
    request = Request(
        "ask", image, question=f"What {token} is shown?", model=str(dense_folder), precision="fp32", max_tokens=3
    )
    assert Engine().run(request).answers
    attack("traceback", "answered")


@pytest.fixture
def lock(tmp_path):
    """Patient mode, on, with the PIN 2468."""
    made = PatientLock(tmp_path / "patient-mode.json")
    made.choose_pin("2468")
    made.enter()
    return made


@pytest.mark.parametrize("change", [
    {"on": "no"}, {"on": 0}, {"wrong": "x"}, {"wrong": -5}, {"until": []}, {"until": float("nan")}, {"salt": "zz"}, {"salt": 7},
    {"hash": None}, {"hash": ["a"]},
], ids=str)  # fmt: skip
def test_a_changed_pin_file_does_not_unlock(change, lock, attack):
    content = json.loads(lock.file.read_text())
    lock.file.write_text(json.dumps(content | change))
    assert lock.on
    with pytest.raises(InputError):
        lock.leave("2468" if "on" not in change else "1111")
    assert lock.on
    attack("raised, or unlocked", "stays locked")


@pytest.mark.parametrize("kind", ["link to nowhere", "empty", "a list"])
def test_a_damaged_pin_file_counts_as_on(kind, lock, attack):
    lock.file.unlink()
    if kind == "link to nowhere":
        lock.file.symlink_to("nowhere.json")
    else:
        lock.file.write_text("" if kind == "empty" else "[1]")
    assert lock.on
    attack("read as off", "counts as on")


@pytest.mark.parametrize("pin", ["١٢٣٤", "¹²³⁴", "１２３４", "12a4", "123", ""])
def test_a_pin_has_the_digits_of_the_keyboard(pin, tmp_path, attack):
    with pytest.raises(InputError, match="at least 4 digits"):
        PatientLock(tmp_path / "p.json").choose_pin(pin)
    attack("accepted", "refused")


def test_parallel_guesses_are_all_counted(lock, attack):
    said, threads = [], []

    def guess(pin):
        try:
            PatientLock(lock.file).leave(pin)
            said.append("open")
        except InputError as error:
            said.append(str(error))

    for number in range(20):
        threads.append(threading.Thread(target=guess, args=(f"{number:04d}",)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    tried = sum("wrong" in text and "Too many" not in text for text in said)
    counted = json.loads(lock.file.read_text())["wrong"]
    attack("tried uncounted", f"{tried} tried, {counted} counted, {20 - tried} refused")
    assert "open" not in said and counted == tried <= 3 + 1
    assert os.path.exists(lock.file)
