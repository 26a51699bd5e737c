"""Reading aloud uses what is there, passes text through standard input, and a signal is a playable WAV file."""

from __future__ import annotations

import io
import sys
import time
import wave

import numpy as np
import pytest

from MedFMLib.patient import sound

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that is the whole path; returns a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    sound._speaking.cache_clear()

    def put(name: str, script: str) -> None:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    yield put
    sound._speaking.cache_clear()


def ended(voice) -> None:
    until = time.monotonic() + 10
    while voice.speaking and time.monotonic() < until:
        time.sleep(0.01)
    assert not voice.speaking


@POSIX
@pytest.mark.parametrize(
    ("name", "language", "option"),
    [("espeak-ng", "de", "-v de"), ("espeak-ng", "zh", "-v cmn"), ("spd-say", "tr", "--language tr")],
)
def test_a_text_goes_through_standard_input(programs, tmp_path, monkeypatch, name, language, option):
    monkeypatch.setattr(sys, "platform", "linux")
    out = tmp_path / "out"
    programs(name, f'echo "$@" > {out}.options; /bin/cat > {out}')
    voice = sound.Voice()
    assert voice.can_speak() and voice.say("Ihre Leber;\nist `markiert` $(x).", language)
    ended(voice)
    assert out.read_text(encoding="utf-8") == "Ihre Leber; ist `markiert` $(x).\n"
    options = (tmp_path / "out.options").read_text()
    assert option in options and "Leber" not in options


@POSIX
def test_a_new_text_takes_the_place_of_the_old_one(programs, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    programs("espeak", "exec /bin/sleep 30")
    voice = sound.Voice()
    assert voice.say("one", "en")
    first = voice._process
    assert voice.say("two", "en") and first.poll() is not None and voice.speaking
    voice.stop()
    assert not voice.speaking


@POSIX
def test_macos_chooses_a_voice_of_the_language(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    out = tmp_path / "out"
    programs("say", f'if [ "$2" = "?" ]; then echo "Anna (Enhanced)    de_DE    # Hallo"; echo "Alex  en_US  # Hi"; exit; fi; '
             f'echo "$@" > {out}.options; /bin/cat > {out}')  # fmt: skip
    voice = sound.Voice()
    assert voice.say("Hallo", "de")
    ended(voice)
    assert (tmp_path / "out.options").read_text().strip() == "-v Anna (Enhanced) -f -"


@POSIX
def test_without_a_program_nothing_is_read_or_played(programs, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    voice = sound.Voice()
    assert not voice.can_speak() and not voice.say("Hello", "en") and not sound.play(sound.signal())
    programs("espeak-ng", "exit 0")
    sound._speaking.cache_clear()
    assert voice.can_speak() and not voice.say(" \n", "en")


@POSIX
@pytest.mark.parametrize(("code", "played"), [(0, True), (1, False)])
def test_the_signal_is_a_file_that_a_player_gets(programs, tmp_path, monkeypatch, code, played):
    monkeypatch.setattr(sys, "platform", "linux")
    programs("aplay", f'/bin/cp "$1" {tmp_path}/heard.wav; exit {code}')
    assert sound.play(sound.signal()) is played
    with wave.open(str(tmp_path / "heard.wav")) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(sound.SECONDS, abs=0.01)


def test_the_signal_has_both_tones_and_does_not_clip():
    with wave.open(io.BytesIO(sound.signal())) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    assert 8_000 < np.abs(values).max() < 30_000
    for tone, half in zip(sound.TONES, np.array_split(values, 2), strict=True):
        spectrum = np.abs(np.fft.rfft(half))
        assert np.fft.rfftfreq(len(half), 1 / sound.RATE)[spectrum.argmax()] == pytest.approx(tone, abs=4)
