"""Read and write the clinic's choices for patient mode: language, time-out, approved texts, and what a model may do.

Everything that lets a language model near the screen is off by default.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ..storage import paths, resources, user_settings

SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 20, 3600
"""Seconds without a touch or key after which the start screen comes back."""

FREE_TEXT_WARNING = (
    "With this switch a language model's own sentences are shown to patients, after rules that cannot find every harmful "
    "sentence. Leave it off unless a doctor sits beside the patient."
)


@dataclass(frozen=True)
class PatientSettings:
    """The clinic's choices.

    Args:
        language: of the start screen, and for patients whose language is unknown.
        timeout: seconds without a touch or key until everything is forgotten and the start screen comes back.
        model_chooses: whether a model may choose which approved text answers a question that was not recognised.
        free_text: whether a model's own sentences may be shown, with a warning.
        texts: approved by the clinic: language → kind of text ("practical") → the text.
        place: where this computer is, such as "Waiting room 2"; a call of the staff names it.
        call_url: address on the local network that a call is sent to; "" for none.
        call_sound: whether a call sounds here, too.
        read_aloud: whether answers may be read aloud, if the computer can.
    """

    language: str = "en"
    timeout: int = 180
    model_chooses: bool = False
    free_text: bool = False
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    place: str = ""
    call_url: str = ""
    call_sound: bool = True
    read_aloud: bool = True

    def spoken(self, language: str) -> str:
        """Return the language of the answers: the patient's if there are texts in it, else the clinic's."""
        known = languages()
        return language if language in known else self.language if self.language in known else "en"

    def text(self, language: str, kind: str) -> str:
        """Return a text that the clinic approved; "" if there is none.

        Args:
            language: of the text.
            kind: for example "practical".
        """
        return self.texts.get(language, {}).get(kind, "")


def languages() -> tuple[str, ...]:
    """Return the languages of patient mode, English first."""
    found = sorted(path.stem for path in resources.path("patient").glob("*.json"))
    return ("en", *(name for name in found if name != "en"))


def settings_file() -> Path:
    """Return the file of the choices."""
    return paths.settings() / "patient-settings.json"


def read_settings(file: Path | None = None) -> PatientSettings:
    """Return the clinic's choices; what is missing or of a wrong type has its default, which is the stricter one.

    Args:
        file: another file than the user's.
    """
    stored, default = user_settings.read(file or settings_file()), PatientSettings()
    kept = {
        f.name: stored[f.name] for f in fields(default) if type(stored.get(f.name)) is type(getattr(default, f.name))
    }
    timeout = min(max(kept.get("timeout", default.timeout), SHORTEST_TIMEOUT), LONGEST_TIMEOUT)
    texts = {
        language: {kind: text for kind, text in found.items() if isinstance(text, str)}
        for language, found in kept.get("texts", {}).items()
        if isinstance(found, dict)
    }
    return replace(default, **(kept | {"timeout": timeout, "texts": texts}))


def write_settings(settings: PatientSettings, file: Path | None = None) -> None:
    """Store the clinic's choices.

    Args:
        settings: the choices.
        file: another file than the user's.

    Raises:
        OutputError: if they can't be saved.
    """
    user_settings.write(file or settings_file(), asdict(settings), "The settings of patient mode")
