"""Read text aloud, and sound a signal, with what the operating system has. Knows no texts and no widgets.

macOS has `say` and `afplay`, Windows has .NET's speech and Python's winsound, and Linux often has speech-dispatcher, eSpeak,
PulseAudio, PipeWire or ALSA. Text goes through standard input, so that no list of processes shows it.
"""

from __future__ import annotations

import io
import math
import shutil
import struct
import subprocess
import sys
import tempfile
import wave
from functools import lru_cache
from pathlib import Path

RATE, SECONDS = 22_050, 0.9
TONES = (784.0, 659.0)
"""Of the signal, in Hz, one after the other: G5 and E5, as a door bell."""

VOICES = {"zh": "zh-CN", "hi": "hi-IN", "ar": "ar-SA", "pt": "pt-BR", "en": "en-US"}
"""Language → culture of a Windows voice where the language alone is not one."""

SPEAKS = (
    "Add-Type -AssemblyName System.Speech; $s = New-Object System.Speech.Synthesis.SpeechSynthesizer; "
    "try {{ $s.SelectVoiceByHints(0, 0, 0, [Globalization.CultureInfo]::GetCultureInfo('{voice}')) }} catch {{ }}; "
    "[Console]::InputEncoding = [Text.Encoding]::UTF8; $s.Speak([Console]::In.ReadToEnd())"
)

NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)

CAN_SPEAK = ("spd-say", "espeak-ng", "espeak")
CAN_PLAY = ("afplay", "paplay", "pw-play", "aplay")


class Voice:
    """Reads aloud, one text at a time."""

    def __init__(self):
        self._process: subprocess.Popen | None = None

    @staticmethod
    def can_speak() -> bool:
        """Return whether this computer can read aloud; takes no time."""
        names = {"darwin": ("say",), "win32": ("powershell",)}.get(sys.platform, CAN_SPEAK)
        return any(map(shutil.which, names))

    @property
    def speaking(self) -> bool:
        """Whether it is reading."""
        return self._process is not None and self._process.poll() is None

    def say(self, text: str, language: str) -> bool:
        """Read a text aloud, in place of what is being read; return at once, with whether it began.

        Args:
            text: what is read.
            language: code, such as "de".
        """
        self.stop()
        command = _speaking(language)
        if not command or not text.strip():
            return False
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=NO_WINDOW,
            )
            self._process.stdin.write(" ".join(text.split()).encode("utf-8") + b"\n")
            self._process.stdin.close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop reading."""
        if self.speaking:
            self._process.kill()
            self._process.wait()
            if Path(str(self._process.args[0])).name == "spd-say":  # which only hands the text over
                subprocess.run([self._process.args[0], "--cancel"], timeout=2, capture_output=True, check=False)
        self._process = None


@lru_cache(maxsize=32)
def _speaking(language: str) -> tuple[str, ...]:
    """Return the command that reads its standard input aloud; () if there is none."""
    if sys.platform == "darwin":
        return ("say", *_mac_voice(language), "-f", "-") if shutil.which("say") else ()
    if sys.platform == "win32":
        script = SPEAKS.format(voice=VOICES.get(language, language.partition("-")[0]))
        found = shutil.which("powershell")
        return (found, "-NoProfile", "-NonInteractive", "-Command", script) if found else ()
    name = next((name for name in CAN_SPEAK if shutil.which(name)), "")
    spoken = "cmn" if language == "zh" else language.partition("-")[0]
    if name == "spd-say":
        return (shutil.which(name), "--pipe-mode", "--wait", "--language", "zh" if language == "zh" else spoken)
    return (shutil.which(name), "-v", spoken, "--stdin") if name else ()


def _mac_voice(language: str) -> tuple[str, ...]:
    """Return the option for the first voice of a language, from lines such as "Anna  de_DE  # Hallo"."""
    try:
        listed = subprocess.run(["say", "-v", "?"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    for line in listed.splitlines():
        name, _, locale = line.partition("#")[0].rstrip().rpartition(" ")
        if locale.partition("_")[0] == language:
            return ("-v", name.strip())
    return ()


def signal() -> bytes:
    """Return the signal as a WAV file: two tones, one after the other, that fade out."""
    count = int(RATE * SECONDS)
    values = bytearray()
    for n in range(count):
        part, place = divmod(n * len(TONES) / count, 1)
        level = 0.6 * (1 - place) ** 0.7 * min(1.0, 20 * place)
        values += struct.pack("<h", int(32_767 * level * math.sin(2 * math.pi * TONES[int(part)] * n / RATE)))
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(bytes(values))
    return stream.getvalue()


def play(sound: bytes) -> bool:
    """Play a WAV file and wait for its end; return whether it was played.

    Args:
        sound: the file's content.
    """
    if sys.platform == "win32":
        import winsound

        try:
            winsound.PlaySound(sound, winsound.SND_MEMORY)
        except RuntimeError:
            return False
        return True
    player = next((path for name in CAN_PLAY if (path := shutil.which(name))), "")
    if not player:
        return False
    with tempfile.TemporaryDirectory(prefix="medfm-sound-") as folder:
        file = Path(folder) / "signal.wav"
        file.write_bytes(sound)
        try:
            return subprocess.run((player, str(file)), timeout=10, capture_output=True, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False
