"""`medfm endpoints …`: adding, using and removing an endpoint as a user does."""

import json
import sys
import types

import pytest
import SimpleITK as sitk
import typer
from support.fake_endpoint import MODEL, FakeEndpoint, refuse, says
from support.phantoms import ct_phantom

SECRET = "sk-verysecret0123456789"


@pytest.fixture(autouse=True)
def fake(models_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with FakeEndpoint().running() as running:
        yield running


def sentence(done, code):
    assert done.returncode == code, done
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("Error: ")
    return lines[0]


def test_an_endpoint_is_added_tested_asked_and_removed(medfm, fake, tmp_path):
    assert "no endpoints; add one" in medfm("endpoints", "list").stdout
    done = medfm("endpoints", "add", "ours", fake.url, "--model", MODEL, "--adapter", "lungs", "--max-pictures", "2")
    assert "ours was added. Try it with `medfm endpoints test ours`." in done.stdout
    fake.script = [says("Red.")]
    done = medfm("endpoints", "test", "ours")
    for words in ("eyes-7b, lungs", "8192 tokens", "Red.", f"served/{MODEL}"):
        assert words in done.stdout
    row = json.loads(medfm("endpoints", "list", "--json").stdout)[0]
    assert row["endpoint"]["found"]["pictures"] is True and row["endpoint"]["mask_text"] is False and not row["leaves"]
    listed = {row["id"]: row for row in json.loads(medfm("models", "list", "--json").stdout)}
    assert listed["ours"]["host"] == f"127.0.0.1:{fake.port}"
    assert "runs elsewhere" in medfm("models", "list", "--search", "ours").stdout
    scan = tmp_path / "scan.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(ct_phantom().scalars.T.copy()), str(scan))
    done = medfm("ask", scan, "Which organ?", "--model", "ours", "--adapter", "lungs")
    assert "A liver." in done.stdout and fake.chats[-1]["model"] == "lungs"
    assert "up to 2 pictures" in medfm("endpoints", "show", "ours").stdout
    assert "That address is this machine." in medfm("endpoints", "show", "ours").stdout
    for what in ("stats", "plan"):
        assert "runs on a server" in sentence(medfm("models", what, "ours"), 2)
    assert "ours was removed" in medfm("endpoints", "remove", "ours", "--yes").stdout
    assert "There is no endpoint 'ours'" in sentence(medfm("endpoints", "show", "ours"), 3)


def test_another_machine_is_allowed_after_reading_what_is_sent(medfm, fake, monkeypatch):
    assert "use https, or add --insecure" in sentence(
        medfm("endpoints", "add", "far", "http://far.test/v1", "-m", MODEL), 2
    )
    done = medfm("endpoints", "add", "far", "https://far.test", "-m", MODEL, "--json")
    row = json.loads(done.stdout)
    assert row["leaves"] and not row["allowed"] and row["endpoint"]["mask_text"]
    assert "nothing can be asked; add --yes" in sentence(medfm("endpoints", "allow", "far", "--json"), 2)
    answers = [False, True]
    monkeypatch.setattr(typer, "confirm", lambda *_: answers.pop(0))
    done = medfm("endpoints", "allow", "far")
    assert "Never sent: DICOM tags" in done.stdout and "Nothing will be sent to far.test" in done.stderr
    assert "may send images to far.test" in medfm("endpoints", "allow", "far").stdout
    assert json.loads(medfm("endpoints", "show", "far", "--json").stdout)["allowed"]
    assert "may not send images" in medfm("endpoints", "allow", "far", "--forget").stdout


def test_a_key_is_typed_without_being_shown_and_never_printed(medfm, fake, monkeypatch):
    medfm("endpoints", "add", "ours", fake.url, "--model", MODEL)
    assert "pip install keyring" in sentence(medfm("endpoints", "key", "ours"), 3)
    kept, module = {}, types.ModuleType("keyring")
    module.get_keyring = lambda: kept
    module.set_password = lambda service, user, word: kept.update({(service, user): word})
    module.get_password = lambda service, user: kept.get((service, user))
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setattr(typer, "prompt", lambda *_, hide_input: SECRET if hide_input else "")
    printed = str(medfm("endpoints", "key", "ours"))
    assert "was stored" in printed and list(kept.values()) == [SECRET]
    fake.key, fake.script = SECRET, [refuse(422, {"error": f"Bearer {SECRET}"})] * 2
    for more in (["list"], ["show", "ours"], ["show", "ours", "--json"], ["test", "ours"]):
        printed += str(medfm("endpoints", *more))
    assert "refused the question" in printed and SECRET not in printed
