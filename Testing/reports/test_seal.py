"""Report files that somebody changed, made, or took from another installation."""

from __future__ import annotations

import stat
import sys
import types

import pytest

from MedFMLib.core.findings import SignOff
from MedFMLib.core.request import Response
from MedFMLib.execution import serialization
from MedFMLib.exports.fhir import STATUS
from MedFMLib.reports import seal
from MedFMLib.reports.revising import edit, keep, read_editable_report, sign, with_report
from MedFMLib.storage import secrets


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    """An installation of its own, without a keyring."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    return tmp_path / "config" / "MedFM" / secrets.FILE


@pytest.fixture
def signed(response, tmp_path):
    """The file of a signed report."""
    return keep(tmp_path / "case.medfm-report", with_report(response, sign(response.report, "Dr A. B.")))


def test_a_signature_holds_in_the_file_as_it_was_written(signed):
    report = read_editable_report(signed).report
    assert (
        report.is_signed and report.state.startswith("Signed: Dr A. B., ") and "not a digital signature" in report.state
    )
    assert "not a digital signature" in report.text and "not a digital signature" in report.html


def forged(response, path, changes):
    """Write a signed report with other words, as somebody does who knows the format."""
    report = edit(response.report, changes)
    report = sign(report, "Dr A. B.")
    content = serialization.dumps(with_report(response, report))
    return path.write_bytes(content), content


def test_an_edited_file_is_shown_as_changed_and_its_signature_does_not_hold(signed, response, tmp_path):
    line = signed.read_bytes().partition(b"\n")[0]
    _, content = forged(response, tmp_path / "x", {"Impression": "No tumour."})
    signed.write_bytes(line + b"\n" + content)
    report = read_editable_report(signed).report
    assert not report.is_signed and seal.CHANGED in report.state
    for shown in (report.text, report.html):
        assert "does not hold" in shown and "Signed: Dr" not in shown


@pytest.mark.parametrize("flip", range(0, 400, 37))
def test_one_changed_byte_breaks_the_seal(flip, signed):
    raw = bytearray(signed.read_bytes())
    raw[-1 - flip] ^= 1
    content, doubt = seal.opened(bytes(raw))
    assert doubt == seal.CHANGED and content == bytes(raw).partition(b"\n")[2]


def test_a_file_without_a_seal_or_of_another_installation_is_not_taken_for_signed(signed, response, tmp_path, own_key):
    unsealed = tmp_path / "unsealed.medfm-report"
    forged(response, unsealed, {"Impression": "No tumour."})
    assert seal.NONE in read_editable_report(unsealed).report.state
    own_key.unlink()
    assert seal.OTHER in read_editable_report(signed).report.state
    keep(tmp_path / "new.medfm-report", response)  # makes another key
    assert seal.OTHER in read_editable_report(signed).report.state


def test_saving_a_doubtful_report_again_does_not_make_its_signature_hold(signed, response, tmp_path):
    unsealed = tmp_path / "unsealed.medfm-report"
    forged(response, unsealed, {"Impression": "No tumour."})
    again = keep(tmp_path / "again.medfm-report", read_editable_report(unsealed))
    report = read_editable_report(again).report
    assert not report.is_signed and seal.NONE in report.state
    assert sign(report, "Dr C. D.").is_signed


def test_a_doubtful_signature_is_a_draft_for_every_export(response):
    report = with_report(response, sign(response.report, "A B")).report
    doubtful = type(report)(**{**vars(report), "signed": SignOff("A B", report.signed.when, seal.CHANGED)})
    assert report.is_signed and not doubtful.is_signed
    assert STATUS["signed" if doubtful.is_signed else "draft"] == "preliminary"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_without_a_keyring_only_the_user_can_read_the_key(signed, own_key):
    assert stat.S_IMODE(own_key.stat().st_mode) == 0o600
    assert len(secrets.site_keys()) == 1


def test_with_a_keyring_the_key_is_in_it_and_in_no_file(response, tmp_path, monkeypatch, own_key):
    kept, module = {}, types.ModuleType("keyring")
    module.get_keyring = lambda: kept
    module.set_password = lambda service, user, text: kept.__setitem__((service, user), text)
    module.get_password = lambda service, user: kept.get((service, user))
    monkeypatch.setitem(sys.modules, "keyring", module)
    path = keep(tmp_path / "x.medfm-report", with_report(response, sign(response.report, "A B")))
    assert read_editable_report(path).report.is_signed and len(kept) == 1 and not own_key.exists()


def test_a_damaged_key_file_is_not_used_as_a_key(own_key, response, tmp_path):
    own_key.parent.mkdir(parents=True)
    own_key.write_text("0000")
    assert secrets.site_keys() == []
    with pytest.raises(Exception, match="remove it"):
        keep(tmp_path / "x.medfm-report", response)


def test_drafts_need_no_seal(response):
    content = serialization.dumps(Response(response.findings, response.provenance))
    assert seal.opened(content)[0] == content
