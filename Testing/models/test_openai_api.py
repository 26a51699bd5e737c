"""Endpoints as models: requests, streams and errors; nothing leaves the machine before consent."""

import base64
import io
import json
import logging
import shutil
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from support.fake_endpoint import (
    MODEL,
    FakeEndpoint,
    breaks_after,
    chunk,
    endless,
    event,
    hangs_up,
    raw,
    refuse,
    says,
    silent,
    whole,
)
from support.phantoms import ct_phantom

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image as ImageOf
from MedFMLib.core.request import ReliabilityChoice, Request, SliceChoice
from MedFMLib.core.view import make_view
from MedFMLib.endpoints import book, client, egress, keys, probe
from MedFMLib.endpoints.failures import EndpointError, Failures
from MedFMLib.endpoints.settings import Endpoint
from MedFMLib.engine import Engine, local_runner
from MedFMLib.errors import Cancelled, InputError, ModelError
from MedFMLib.execution.serialization import dumps
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress, PartialText
from MedFMLib.interfaces.model import Callbacks
from MedFMLib.model_store import listing
from MedFMLib.models import openai_api

SECRET = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "OPENAI_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)  # not the person's own
    monkeypatch.setattr(client, "FIRST_WAIT", 0.02)
    return tmp_path


@pytest.fixture
def fake():
    with FakeEndpoint().running() as running:
        yield running


@pytest.fixture
def elsewhere(fake, monkeypatch):
    """An endpoint on another machine, reached through a proxy, which is the fake."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{fake.port}")
    return book.add("hospital", Endpoint("http://ai.hospital.test/v1", MODEL, insecure=True), picture_side=64)


def local(fake, name="here", **settings):
    adapters = settings.pop("adapters", ())
    return book.add(name, Endpoint(fake.url, MODEL, mask_text=False, **settings), adapters, 64)


def asked(card, question="Is there a liver?", progress=None, adapter="", **more):
    request = Request("ask", ct_phantom(), question=question, model=card.id, slices=SliceChoice("axial", 3, 20),
                      adapter=adapter, **more)  # fmt: skip
    return Engine().run(request, progress)


def sentence(card, kind, **more):
    """The one sentence of a failure of that kind."""
    with pytest.raises(EndpointError) as error:
        asked(card, **more)
    text = str(error.value)
    assert error.value.kind == kind, text
    assert text.endswith(".") and "\n" not in text and ". " not in text
    return text


def test_samples_are_asked_for_one_by_one_with_their_temperature(fake):
    card = local(fake, max_pictures=1)
    request = Request(
        "ask", ct_phantom(), question="Which organ?", model=card.id, reliability=ReliabilityChoice(3, temperature=0.8)
    )
    response = Engine().run(replace(request, slices=SliceChoice("axial", 7, 7)))
    assert [sent["temperature"] for sent in fake.chats] == [0, 0.8, 0.8, 0.8]
    reliability = response.answers[0].reliability
    assert len(reliability.samples) == 3 and reliability.agreement is not None and reliability.confidence is None


# -- asking ---------------------------------------------------------------------------------------------


def test_pictures_question_and_earlier_turns_are_sent_and_nothing_else(fake):
    card = local(fake, max_pictures=3, stop=("\n\n",))
    image = replace(ct_phantom(), name="DOE JANE", facts={"PatientName": "DOE JANE", "StudyInstanceUID": "1.2.3.4"})
    request = Request("ask", image, question="Which organ?", history=[("Where?", "In the abdomen.")], model=card.id)
    Engine().run(request)
    (path, headers, body), sent = fake.requests[0], fake.chats[0]
    assert path == "/v1/chat/completions" and len(fake.requests) == 1
    assert set(sent) == {"model", "messages", "max_tokens", "temperature", "stream", "stop"}
    assert (sent["model"], sent["temperature"], sent["stream"], sent["stop"]) == (MODEL, 0, True, ["\n\n"])
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert sent["messages"][2:] == [
        {"role": "assistant", "content": "In the abdomen."},
        {"role": "user", "content": "Which organ?"},
    ]
    parts = sent["messages"][1]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"] * 3 + ["text"]
    assert (parts[0]["text"], parts[-1]["text"]) == ("Picture 1: ", "Where?")
    for secret in (b"DOE", b"1.2.3.4", b"phantom"):
        assert secret not in body and secret not in json.dumps(headers).encode()
    assert "Authorization" not in headers


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_a_picture_is_the_view_in_the_cards_format_without_metadata(fake, form):
    card = local(fake, max_pictures=1, format=form)
    view = make_view(ct_phantom(), "axial", 12)
    openai_api.load(card, "", "", NoProgress()).write([view], "What?")
    url = fake.chats[0]["messages"][1]["content"][0]["image_url"]["url"]
    kind, data = url.split(",")
    assert kind == f"data:image/{form};base64"
    picture = Picture.open(io.BytesIO(base64.b64decode(data)))
    assert not set(picture.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"} and not picture.getexif()
    difference = np.abs(np.asarray(picture).astype(int) - view.square(64))
    assert difference.max() == 0 if form == "png" else 0 < difference.mean() < 8


def test_an_answer_streams_and_says_where_it_came_from(fake):
    fake.script = [says("A ", "large ", "liver.", usage={"prompt_tokens": 40, "completion_tokens": 3})]
    card = local(fake, max_pictures=2)
    job = local_runner().submit(Request("ask", ct_phantom(), question="Which?", model=card.id))
    pieces = [each.text for each in job.stream(30) if isinstance(each, PartialText)]
    response = job.result(10)
    assert pieces == ["A ", "large ", "liver."] and response.answers[0].text == "A large liver."
    p = response.provenance
    assert p.revision == f"served/{MODEL} at 127.0.0.1:{fake.port}" and p.precision == "as served"
    note = f"The answer came from 127.0.0.1:{fake.port}, which calls the model served/{MODEL} and was sent 2 pictures of 64×64"
    assert any(text.startswith(note) for text in p.notes), p.notes
    assert p.prompts and "data:" not in p.prompts[0] and p.tokens == (40, 3)


def test_an_adapter_is_asked_for_by_its_name_and_switched(fake):
    card = local(fake, adapters=("lungs",))
    assert asked(card, adapter="lungs").provenance.adapter == "lungs"
    assert asked(card).provenance.adapter == ""
    assert [sent["model"] for sent in fake.chats] == ["lungs", MODEL]
    with pytest.raises(ModelError, match=r"no adapter 'heart': it has lungs; .*--adapter`\.$"):
        asked(card, adapter="heart")


@pytest.mark.parametrize(
    "step",
    [
        says("A ", "liver.", done=False),
        whole("A liver."),
        raw(
            b": hello\r\n\r\nevent: message\r\nid: 1\r\n"
            + (chunk("A ") + chunk("liver.", "stop")).replace(b"\n", b"\r\n")
        ),
        raw(chunk("A ") + event({"choices": [], "usage": {"prompt_tokens": 1}}) + chunk("liver.") + b"data: [DONE]"),
        raw(event({"choices": [{"delta": {"reasoning_content": "hm"}}]}) + chunk("A liver.", "stop")),
    ],
    ids=["no [DONE]", "not streamed", "comments and CR LF", "usage and no last line", "thoughts"],
)
def test_servers_differ_in_how_they_answer(fake, step):
    fake.script = [step]
    assert asked(local(fake)).answers[0].text == "A liver."


def test_a_cut_answer_is_said_and_an_empty_one_is_an_error(fake):
    card = local(fake)
    fake.script = [says("A liv", finish="length"), says(finish="length")]
    assert "The answer was cut at 64 tokens." in asked(card).provenance.notes
    assert "nothing within 64 tokens" in sentence(card, "length")


# -- what goes wrong ------------------------------------------------------------------------------------


def no(status, message, **more):
    """A refusal in OpenAI's form."""
    return refuse(status, {"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("kind", "words", "step"),
    [
        ("key", "wants a key (401): set MEDFM_ENDPOINT_KEY_HERE", refuse(401, {"error": {"message": "no key"}})),
        ("key", "wants a key (403)", refuse(403, b"<html>Forbidden</html>")),
        ("model", f"has no model '{MODEL}'", no(404, "The model `x` does not exist.", code="model_not_found")),
        ("model", "has no model", no(404, 'model "x" not found, try pulling it first')),
        ("model", "has no model", refuse(400, {"detail": "Server is pinned to '/a'; requested 'b'."})),
        ("pictures", "refused the pictures", refuse(400, {"object": "error", "message": "x is not a multimodal model"})),
        ("pictures", "refused the pictures", no(500, "image input is not supported - hint: provide the mmproj")),
        ("pictures", "refused the pictures", no(400, "At most 1 image(s) may be provided in one prompt.")),
        ("length", "is too long", no(400, "This model's maximum context length is 4096 tokens", type="BadRequestError")),
        ("length", "is too long", no(400, "the request exceeds", type="exceed_context_size_error")),
        ("large", "no question this large (413)", refuse(413, b"")),
        ("busy", "no quota left", refuse(429, {"error": {"code": "insufficient_quota", "message": "see billing"}})),
        ("moved", "redirects to another address (307)", refuse(307, b"", Location="http://evil.test/v1")),
        ("refused", "no chat at http", refuse(404, {"detail": "Not Found"})),
        ("refused", "(422): “what is this”", refuse(422, {"error": "what is this"})),
        ("server", "failed (500): no reason given", refuse(500, b"<html>oops</html>")),
        ("server", "ran out of memory", refuse(500, {"error": {"message": "CUDA out of memory."}})),
        ("server", "failed (500): “boom”", raw(chunk("A ") + event({"error": {"message": "boom"}}))),
        ("nonsense", "something that is not JSON", raw(b"data: {oops\n\n")),
        ("nonsense", "something that is not JSON", raw(b"<html>a portal</html>", "text/html")),
        ("nonsense", "no chat completion", raw(b'{"hello": 1}', "application/json")),
        ("nonsense", "no chat completion", raw(event({"choices": [7]}))),
        ("nonsense", "a line without end", raw(b":" + b" " * (2**21))),
        ("down", "broke in the middle", breaks_after("A ")),
        ("down", "broke in the middle", raw(chunk("A "))),
    ],
)  # fmt: skip
def test_every_refusal_is_one_sentence(fake, kind, words, step):
    fake.script = [step]
    assert words in sentence(local(fake), kind)
    assert len(fake.chats) == 1  # none of these is asked again


def test_a_server_that_is_down_is_one_sentence_after_every_try(fake):
    card = local(fake, tries=3)
    fake.script = [hangs_up] * 3
    assert "can't be reached; check that it runs" in sentence(card, "down")
    assert len(fake.chats) == 3
    closed = book.add("closed", Endpoint("http://127.0.0.1:9/v1", MODEL), (), 64)
    assert "'closed' at 127.0.0.1:9 can't be reached" in sentence(closed, "down")


def test_too_long_a_silence_or_answer_is_one_sentence(fake):
    fake.script = [silent(30), endless]
    assert "sent nothing for 0.3 s" in sentence(local(fake, read_seconds=0.3), "timeout")
    started = time.monotonic()
    assert "took longer than 0.5 s" in sentence(local(fake, "slow", total_seconds=0.5), "timeout")
    assert time.monotonic() - started < 3
    assert fake.gone.wait(5)


def test_a_wrong_key_is_said_without_the_key(fake, monkeypatch):
    fake.key = "right"
    monkeypatch.setenv("MEDFM_ENDPOINT_KEY_HERE", SECRET)
    said = sentence(local(fake), "key")
    assert "refused the key (401)" in said and SECRET not in said


# -- again and not again ----------------------------------------------------------------------------------


def test_a_busy_endpoint_is_asked_again_as_late_as_it_says(fake):
    fake.script = [
        refuse(429, {"error": "busy"}, Retry_After="0.4"),
        refuse(503, {"error": "loading"}),
        hangs_up,
        says("Yes."),
    ]
    started = time.monotonic()
    assert asked(local(fake)).answers[0].text == "Yes."
    assert len(fake.chats) == 4 and time.monotonic() - started > 0.4


def test_a_date_is_understood_and_too_long_a_wait_is_not_begun(fake):
    fake.script = [refuse(503, b"", Retry_After=formatdate(time.time() + 2, usegmt=True)), says("Yes.")]
    card, started = local(fake), time.monotonic()
    assert asked(card).answers[0].text == "Yes."
    assert 0.5 < time.monotonic() - started < 10
    fake.script, started = [refuse(429, b"", Retry_After="86400")], time.monotonic()
    assert "is busy (429)" in sentence(card, "busy")
    assert time.monotonic() - started < 2


def test_the_waits_grow_and_differ(fake, monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.5)
    asker = client.EndpointClient("x", Endpoint(fake.url, MODEL))
    waits = [[asker._back_off(number) for _ in range(50)] for number in range(8)]
    for number, some in enumerate(waits):
        middle = min(0.5 * 2**number, client.LONGEST_WAIT)
        assert all(0.5 * middle <= wait <= 1.5 * middle for wait in some) and len(set(some)) > 40


def test_nothing_is_asked_again_after_text_began(fake, monkeypatch):
    fake.script = [breaks_after("A ")]
    monkeypatch.setattr(Failures, "broken", Failures.down)  # even if it were one that is worth asking again
    sentence(local(fake), "down")
    assert len(fake.chats) == 1


# -- cancelling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [endless, silent(30), refuse(503, b"", Retry_After="60")], ids=["writing", "reading", "waiting"]
)
def test_a_cancel_is_answered_within_200_ms_and_closes_the_connection(fake, step):
    fake.script = [step]
    model, stop, late = openai_api.load(local(fake), "", "", NoProgress()), threading.Event(), []
    seen = threading.Event()

    def ask():
        try:
            model.write(
                [make_view(ct_phantom(), "axial", 5)],
                "What?",
                callbacks=Callbacks(on_text=lambda _: seen.set(), cancelled=stop.is_set),
            )
        except Cancelled:
            late.append(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    seen.wait(0.6) if step is not endless else seen.wait(10)
    stop.set()
    asked_at = time.monotonic()
    thread.join(5)
    assert late
    print(f"cancelled after {1000 * (late[0] - asked_at):.0f} ms")
    assert late[0] - asked_at < 0.2
    assert len(fake.chats) == 1
    if step is endless or "silent" in step.__qualname__:
        assert fake.gone.wait(2)


# -- keys -------------------------------------------------------------------------------------------------


def test_a_key_is_nowhere_but_in_its_header(fake, monkeypatch, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    fake.key = SECRET
    monkeypatch.setenv("MEDFM_ENDPOINT_KEY_HERE", SECRET)
    card = local(fake)
    response = asked(card)
    assert fake.requests[-1][1]["Authorization"] == f"Bearer {SECRET}"
    fake.script = [refuse(422, {"error": f"odd header Bearer {SECRET}"}), hangs_up, raw(b"x")]
    said = [sentence(card, kind) for kind in ("refused", "nonsense")]
    book.store_found(card, probe.probe(card))
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 1
    made = openai_api.load(card, "", "", NoProgress())
    everything = [*written, *said, dumps(response).decode("latin-1"), caplog.text, str(capfd.readouterr()), repr(card),
                  repr(made.facts), json.dumps(listing.facts(card)), registry.page(card), *map(str, fake.chats)]  # fmt: skip
    assert not any(SECRET in text or SECRET[3:15] in text for text in everything)


def test_keys_come_from_the_environment_and_openais_only_if_the_card_says_so(fake, monkeypatch):
    card = local(fake, "a.b-c")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert keys.key(card) == ""
    assert keys.key(local(fake, "open", openai_key=True)) == SECRET
    monkeypatch.setenv("MEDFM_ENDPOINT_KEY_A_B_C", " other\n")
    assert keys.key(card) == "other"
    monkeypatch.setenv("MEDFM_ENDPOINT_KEY_A_B_C", f"{SECRET}\nX-Evil: 1")
    with pytest.raises(ModelError, match="no key has; copy it again") as error:
        keys.key(card)
    assert SECRET not in str(error.value)
    with pytest.raises(InputError, match="same variable"):
        local(fake, "a_b-c")


@pytest.fixture
def keyring(monkeypatch):
    """A keyring in memory, as the package offers one."""
    kept = {}
    module = types.ModuleType("keyring")
    module.get_keyring = lambda: kept
    module.set_password = lambda service, user, word: kept.update({(service, user): word})
    module.get_password = lambda service, user: kept.get((service, user))
    module.delete_password = lambda service, user: kept.pop((service, user))
    monkeypatch.setitem(sys.modules, "keyring", module)
    return kept


def test_a_key_in_the_keyring_belongs_to_one_name_at_one_address(fake, keyring):
    card = local(fake)
    keys.store(card, SECRET)
    assert keys.key(card) == SECRET
    assert keys.key(replace(card, endpoint=card.endpoint | {"url": "https://evil.test/v1"})) == ""
    book.remove(card.id)
    assert not keyring


def test_a_keyring_that_keeps_plain_files_is_none(fake, monkeypatch, keyring):
    plain = type("PlaintextKeyring", (), {"__module__": "keyrings.alt.file"})
    monkeypatch.setattr(sys.modules["keyring"], "get_keyring", plain)
    assert not keys.has_keyring()
    with pytest.raises(ModelError, match="no keyring .* set MEDFM_ENDPOINT_KEY_HERE instead"):
        keys.store(local(fake), SECRET)


def test_a_netrc_file_adds_no_password(fake, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    asked(local(fake))
    assert "Authorization" not in fake.requests[-1][1]


# -- the yes ------------------------------------------------------------------------------------------------


def test_nothing_goes_to_another_machine_before_a_yes_and_nothing_after_it_is_taken_back(fake, elsewhere):
    assert egress.needed(elsewhere)
    with pytest.raises(ModelError, match=r"was not allowed on this machine; .*`medfm endpoints allow hospital`\.$"):
        asked(elsewhere)
    assert fake.requests == []
    egress.allow(elsewhere)
    engine, request = Engine(), Request("ask", ct_phantom(), question="Which?", model="hospital")
    response = engine.run(request)
    assert fake.requests[0][0] == "http://ai.hospital.test/v1/chat/completions"  # through the proxy
    notes = " ".join(response.provenance.notes)
    assert "came from ai.hospital.test" in notes and "burned-in text was blackened before sending" in notes
    egress.revoke(elsewhere)
    with pytest.raises(ModelError, match="was not allowed"):
        engine.run(request)  # though the model is still there
    assert len(fake.requests) == 1


def test_the_yes_is_for_what_was_shown(elsewhere):
    egress.allow(elsewhere)
    assert not egress.needed(elsewhere)
    for change in ({"url": "https://other.test/v1"}, {"mask_text": False}, {"max_pictures": 40}):
        assert egress.needed(replace(elsewhere, endpoint=elsewhere.endpoint | change)), change
    assert not egress.needed(replace(elsewhere, endpoint=elsewhere.endpoint | {"found": {"writes": True}}))


def test_what_is_sent_is_said_in_full(elsewhere):
    text = egress.says(elsewhere)
    for words in ("http://ai.hospital.test/v1", "up to 8 pictures", "64×64 pixels", "PNG", "the question as you type it",
                  "earlier questions and answers", "Never sent: DICOM tags, names", "file names", "can miss",
                  "not encrypted"):  # fmt: skip
        assert words in text, words
    assert egress.sent(elsewhere, 2, 64, "What?", [("a", "b")]) == (
        "2 pictures of 64×64 pixels (PNG), a question of 5 characters and 1 earlier turn"
    )


@pytest.mark.parametrize(
    ("url", "model", "leaves"),
    [
        ("http://localhost:11434", "m", False), ("http://127.0.0.1/v1", "m", False), ("http://[::1]:8000/v1", "m", False),
        ("https://ai.hospital.test", "m", True), ("https://127.0.0.1.evil.test/v1", "m", True),
        ("https://localhost.evil.test", "m", True), ("http://localhost:11434", "gpt-oss:120b-cloud", True),
    ],
)  # fmt: skip
def test_this_machine_needs_no_yes_and_any_other_does(url, model, leaves):
    assert Endpoint(url, model).leaves is leaves
    assert egress.needed(book.make("x", Endpoint(url, model))) is leaves


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ai.hospital.test/v1", "not encrypted; use https, or add --insecure"),
        ("ftp://x", "is not the address"), ("localhost:11434", "is not the address"), ("http://", "is not the address"),
        ("http://[::1", "is not the address"), ("https://x:port/v1", "is not the address"),
        (f"https://me:{SECRET}@x/v1", "may not have a user, key"), (f"https://x/v1?key={SECRET}", "may not have a user, key"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_one_sentence(url, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")) as error:
        Endpoint(url, MODEL)
    assert SECRET not in str(error.value)


def test_addresses_are_taken_as_people_have_them():
    for given in ("http://LOCALHOST:11434", "http://localhost:11434/v1/", "http://localhost:11434/v1/chat/completions"):
        assert Endpoint(given, MODEL).url == "http://localhost:11434/v1"


def test_this_machine_is_never_asked_through_a_proxy(fake, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert asked(local(fake)).answers


# -- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate for the test, is not on this machine")
    made = (tmp_path / "cert.pem", tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hospital",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", made[0], "-keyout", made[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


def test_a_hospitals_certificates_are_honoured_by_card_and_environment(certificate, monkeypatch):
    with FakeEndpoint().running(certificate) as fake:
        said = sentence(local(fake, "strange", tries=1), "tls")
        assert "certificate" in said and "--ca FILE or REQUESTS_CA_BUNDLE" in said
        assert fake.requests == []
        assert asked(local(fake, "card", ca=str(certificate[0]))).answers
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        assert asked(local(fake, "environment")).answers
        assert "missing or damaged; correct --ca" in sentence(local(fake, "lost", ca="/no/such/file.pem"), "tls")


def test_https_where_there_is_none_is_said(fake):
    card = book.add("x", Endpoint(fake.url.replace("http", "https"), MODEL), (), 64)
    assert "there is no TLS at that port" in sentence(card, "tls")


# -- cards ------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_listed_like_any_model_until_it_is_removed(fake, elsewhere):
    card = local(fake)
    assert registry.cards()["here"] == card and registry.card("here") == card
    row = listing.facts(card)
    assert (listing.fits(row), listing.state(row)) == ("runs elsewhere", f"at 127.0.0.1:{fake.port}")
    assert listing.state(listing.facts(elsewhere)) == "at ai.hospital.test; not allowed yet"
    egress.allow(elsewhere)
    book.remove("hospital")
    assert "hospital" not in registry.cards() and "ai.hospital.test" not in egress.file().read_text()
    with pytest.raises(ModelError, match="no endpoint 'hospital'; the endpoints are here"):
        book.card("hospital")
    with pytest.raises(InputError, match="give --again"):
        local(fake)
    with pytest.raises(InputError, match="a model 'medfm-tiny' already; choose another"):
        local(fake, "medfm-tiny")


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"max_pictures": "8"}, {"mask_text": 1}, {"format": "gif"}, {"tries": 0}, {"url": 3}]
)
def test_a_card_with_a_damaged_endpoint_is_said_and_stops_no_list(fake, change):
    card = local(fake)
    book.save(replace(card, endpoint=card.endpoint | change))
    with pytest.raises(ModelError, match="endpoint"):
        asked(card)
    assert listing.state(listing.facts(registry.card("here"))).startswith("at ?")


# -- probing ----------------------------------------------------------------------------------------------------


def test_a_test_finds_models_pictures_streaming_and_context_and_is_kept(fake):
    card = local(fake, adapters=("lungs", "heart"))
    fake.script = [says("Red", ".")]
    found = probe.probe(card)
    assert (found["models"], found["offered"], found["missing"], found["context"]) == (
        [MODEL, "lungs"],
        True,
        ["heart"],
        8192,
    )
    assert (found["writes"], found["pictures"], found["streams"], found["said"]) == (True, True, True, "Red.")
    assert fake.chats[0]["messages"][0]["content"][0]["type"] == "image_url"
    book.store_found(card, found)
    assert Endpoint.of(registry.card("here")).found["reported"] == f"served/{MODEL}"


def test_a_model_that_takes_no_pictures_and_a_server_that_lists_nothing_are_found_out(fake):
    fake.models, fake.script = None, [refuse(400, {"error": "image input is not supported"}), whole("yes")]
    found = probe.probe(local(fake))
    assert (found["offered"], found["writes"], found["pictures"], found["streams"]) == (None, True, False, False)
    assert "refused the pictures" in found["problem"]
    fake.key = "right"
    with pytest.raises(EndpointError, match="wants a key"):
        probe.probe(registry.card("here"))


# -- without the AI stack -----------------------------------------------------------------------------------------


def test_an_endpoint_answers_where_there_is_no_ai_stack(fake):
    local(fake)
    root = Path(__file__).resolve().parents[2]
    code = f"""
import sys
sys.path[:0] = [{str(root)!r}, {str(root / "Testing")!r}]
for name in ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "huggingface_hub", "accelerate", "psutil"):
    sys.modules[name] = None  # as if it were not installed
from support.phantoms import ct_phantom
from MedFMLib.engine import Engine
from MedFMLib.core.request import Request, SliceChoice, ReliabilityChoice
print(Engine().run(Request("ask", ct_phantom(), question="Which organ?", model="here")).answers[0].text)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("A liver.", 0), done.stderr


# -- burned-in text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 4])
def test_burned_in_text_is_blackened_in_what_is_sent_and_counted(fake, elsewhere, scale):
    card = book.add("masked", Endpoint.of(elsewhere), picture_side=448)
    egress.allow(card)
    drawn = Picture.new("L", (400, 400))
    ImageDraw.Draw(drawn).text((10, 8), "DOE JANE 1957", fill=255, font=ImageFont.load_default(20))
    values = np.asarray(drawn.resize((400 * scale,) * 2)).T.copy()
    geometry = Geometry((*values.shape, 1), np.diag([-1.0, -1.0, 1.0, 1.0]))
    view = make_view(ImageOf(values[None, ..., None], geometry, "OT"), "axial", 0)
    notes = []
    openai_api.load(card, "", "", NoProgress()).write([view], "What?", callbacks=Callbacks(on_note=notes.append))
    url = fake.chats[0]["messages"][1]["content"][0]["image_url"]["url"]
    sent = np.asarray(Picture.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))
    assert (view.square(448)[:60] > 200).sum() > 200  # the name is there
    assert (sent > 60).sum() < 20  # and is not sent
    assert "1 area that may be burned-in text was blackened before sending." in notes
