"""Texts of others on the terminal: what a terminal would obey is shown instead."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from support.batch_in_test import ROOT, write_volume

from MedFMLib.cli.console import Console, printable, shielded
from MedFMLib.cli.tables import print_table

TITLE = "\x1b]0;owned\x07"
EVIL = f"a{TITLE}\x1b[2J\x1b[31m\r\x9b1A\u202egnp.exe\x00\ud800b"


def obeyed(text: str) -> set[str]:
    """Characters of a text that a terminal obeys, without tab and newline."""
    return {letter for letter in text if letter != printable(letter)}


def test_controls_become_escapes_and_other_text_stays(attack):
    assert not obeyed(printable(EVIL))
    assert printable("a\tb\nc é 漢字 עברית") == "a\tb\nc é 漢字 עברית"
    assert printable("\x1b[0m\u202e") == "\\x1b[0m\\u202e"
    attack("obeyed", "shown")


@pytest.mark.parametrize("terminal", [True, False])
def test_every_way_of_printing_is_shielded(terminal, monkeypatch, attack):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with shielded():
        print(EVIL)
        print(EVIL, file=sys.stderr)
        out = Console(force_terminal=terminal, color_system=None, width=100)
        out.print(EVIL, f"[red]{EVIL}[/red] [link=http://x]y[/link]")
        print_table(out, ("name", EVIL), [(EVIL, "b"), ("c", EVIL)], title=EVIL, caption=EVIL, wide=not terminal)
    said = stream.getvalue()
    assert not obeyed(said.replace("\x1b[3m", "").replace("\x1b[0m", "")), sorted(obeyed(said))
    assert "[red]" in said and "[link" in said
    attack("obeyed", "shown")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_file_name_reaches_the_terminal_as_text(tmp_path, attack):
    volume = write_volume(tmp_path / "in.nrrd")
    name = tmp_path / f"a{TITLE}b\x1b[31m.nrrd"
    name.write_bytes(volume.read_bytes()[:-200])
    arguments = ["segment", str(name), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "MedFMLib.cli", *arguments],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode and "\\x1b]0;owned" in said and not obeyed(said)
    attack("title of the window changed", "shown")
