"""A patient's five minutes, played in the stand-in: `python Testing/panel/patient_shots.py [FOLDER]`.

The embedded model names the parts of a real head that the package nilearn ships. Writes a picture of each step, the screen in
three languages at two sizes, and docs/patient-five-minutes.md with what stood on the screen.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]
SIZES = {"1080p": (1920, 1080), "tablet": (1280, 800)}
LANGUAGES = ("en", "de", "ar")
PIN = "2468"
HEAD = """# A patient's five minutes

What happens on the screen of [patient mode](patient-mode.md), step by step, with the words that stand there. The pictures were
made in the stand-in for Slicer by `python Testing/panel/patient_shots.py`, with the embedded model on the average head
ICBM 2009a (`--stored` takes its segments from an earlier run; then the step *Show me a healthy one* is left out).
"""


class Story:
    """The steps so far.

    Args:
        host: the stand-in.
        panel: the module's widget.
        folder: of the pictures.
    """

    def __init__(self, host, panel, folder: Path):
        self._host, self._panel, self._folder, self.text = host, panel, folder, HEAD

    def press(self, text: str, seconds: float = 900) -> None:
        """Press a button of the patient, and wait for its job."""
        (button,) = [
            b for b in self._panel.patient.screen.frame.findChildren("QPushButton") if b.accessibleName == text
        ]
        button.click()
        self.wait(seconds)

    def ask(self, question: str, seconds: float = 900) -> None:
        """Type a question."""
        self._panel.ui.questionBox.setEditText(question)
        self._panel.ui.applyButton.click()
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Wait for the end of a job, and of reading its segments."""
        self._host.process_events()
        self._host.wait_until(lambda: not self._panel.session.running, seconds, "the job's end")
        for _ in range(3):
            self._host.process_events()
        self._host.wait_until(lambda: self._panel.patient.picture._task is None, 60, "the segments")

    def step(self, title: str, about: str, name: str) -> None:
        """Take a picture, and write down what is on the screen."""
        from panel.shots import shrink

        self._host.process_events()
        shrink(self._host.screenshot(self._folder / f"patient-{name}.png"))
        buttons = [
            b.accessibleName for b in self._panel.patient.screen.frame.findChildren("QPushButton") if b.isVisible()
        ]
        view = self._panel.ui.conversationView
        said = view.toPlainText().splitlines() if view.isVisible() else []
        quoted = "\n>\n".join(f"> {line}" for line in said if line.strip())
        self.text += f"\n## {title}\n\n{about}\n\n![{title}](images/patient-{name}.png)\n\n"
        self.text += f"{quoted}\n\n" if quoted else ""
        self.text += f"Buttons: {' · '.join(buttons)}\n"


def take_home(panel, folder: Path) -> None:
    """Draft a report on the head, and take a picture of the page that the patient takes home, in Chromium."""
    import shutil
    import subprocess

    from panel.shots import shrink

    from MedFMLib.core.findings import Answer
    from MedFMLib.core.request import Request
    from MedFMLib.engine import local_runner
    from MedFMLib.patient import Visit, make_leaflet
    from MedFMLib.scene import read_image

    turns = [turn for turn in panel.results.conversation.turns if turn.answer is not None]
    asked = tuple(Answer(t.question, "", parts=panel.patient.screen.approved(t.answer.parts)) for t in turns)
    runner = local_runner()
    response = runner.submit(Request("report", read_image(panel.parameters.volume))).result(900)
    runner.close()
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary) / "page.html"
        leaflet = make_leaflet(response, "en", visit=Visit("en", asked, tuple(panel.patient.chosen)))
        page.write_text(leaflet.html, encoding="utf-8")
        picture = folder / "patient-11-take-home.png"
        subprocess.run(
            [shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--window-size=900,2600",
             f"--user-data-dir={temporary}/profile", f"--screenshot={picture}", page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    shrink(picture)


def stored_runner(file: Path):
    """A runner under the real guard whose model is a stored segmentation."""
    from support.fake_runner import FakeRunner

    from MedFMLib.core.request import Response
    from MedFMLib.execution.serialization import loads
    from MedFMLib.interfaces.jobs import NoProgress
    from MedFMLib.patient.serving import run_for_patient

    stored = loads(file.read_bytes())
    drawn = Response((stored.segmentation,), stored.provenance)
    return FakeRunner(lambda request: run_for_patient(request, NoProgress(), lambda *_: drawn))


def main() -> int:
    """Write the pictures and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "images")
    parser.add_argument("--stored", type=Path, help="stored response with the head's segments, instead of the model")
    options = parser.parse_args()
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        os.environ[name] = tempfile.mkdtemp()
    from host import install

    host = install()
    import numpy as np
    import slicer.util

    from MedFMLib.cli.demo import find_scan
    from MedFMLib.patient import glossary

    volume = slicer.util.loadVolume(str(find_scan()), {"name": "MNI152 T1"})
    volume.SetAttribute("DICOM.Modality", "MR")
    volume.GetDisplayNode().SetAutoWindowLevel(True)
    host.load_module(ROOT / "MedFM" / "MedFM.py")
    host.main_window.resize(*SIZES["tablet"])
    host.main_window.show()
    host.process_events()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    panel = host.select_module("MedFM")
    if options.stored is not None:
        panel.session.use(stored_runner(options.stored))
    panel.patient.lock.choose_pin(PIN)
    panel.patient.enter()
    story, words = Story(host, panel, options.folder), glossary()
    story.step("Start", "The staff handed the computer over. The patient chooses a language.", "1-start")
    story.press(words.name_of_language)
    story.step("Ready", "Everything is reached by a tap; typing is possible, not necessary.", "2-ready")
    story.press(words.buttons["looking_at"])
    story.step("What am I looking at?", "The embedded model names the parts.", "3-looking-at")
    index = panel.patient.picture.index
    (part,) = [
        s for s in index.segmentation.segments if words.key(s.label) == "thalamus" and s.label.startswith("left")
    ]
    places = np.argwhere(part.mask)
    place = index.image.geometry.to_world(places[np.abs(places - places.mean(0)).sum(1).argmin()])
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place)
    panel.patient.touched(index.at(place), panel.parameters.volume)
    story.step(
        "Touch", "The finger is on a part deep in the brain; it is highlighted, the others become faint.", "4-touch"
    )
    for size, (width, height) in SIZES.items():
        host.main_window.resize(width, height)
        for language in LANGUAGES:
            panel.patient.act("language", language)
            host.process_events()
            panel.patient.touched(index.at(place), panel.parameters.volume)
            story.step("", "", f"{language}-{size}")
    story.text = story.text[: story.text.index("\n## \n")]
    host.main_window.resize(*SIZES["tablet"])
    panel.patient.act("language", "en")
    if options.stored is None:
        story.press(words.buttons["healthy"])
        story.step("A healthy one", "Side by side, at about the same level.", "5-healthy")
    story.ask("Is it cancer?")
    story.step("A question that is not answered", "A refusal says what is possible, with three buttons.", "6-refusal")
    story.press(words.buttons["keep"])
    story.ask("I can't breathe")
    story.step("An emergency", "The staff come before anything else.", "7-emergency")
    panel.patient.act("call", "")
    host.wait_until(lambda: panel.patient.call._sent is None)
    story.step(
        "Calling somebody", "One tap on the red button; the notice stays until a member of the staff comes.", "10-call"
    )
    panel.patient.act("seen", "")
    story.press(words.buttons["ask_doctor"])
    story.press(words.ask[2])
    story.press(words.buttons["back"])
    story.press(words.buttons["list"])
    story.step(
        "Questions for the doctor", "Collected with one tap each; they are printed on the page to take home.", "8-list"
    )
    take_home(panel, options.folder)
    story.text += (
        "\n## The page to take home\n\nThe staff print it after they ended the mode with the PIN: pictures with names, what was "
        "asked, the questions for the doctor as a list and as a QR code. Here is its beginning, of a report on the same head.\n\n"
        "![The page to take home]"
        "(images/patient-11-take-home.png)\n"
    )
    panel.patient._last -= 3600
    panel.patient.tick()
    story.step("Time-out", "Nobody touched the screen for three minutes: everything is forgotten.", "9-time-out")
    names = [f"{language}-{size}" for size in SIZES for language in LANGUAGES]
    story.text += (
        "\n## Three languages, two sizes\n\nEnglish, German and Arabic, at 1080p and on a tablet of 1280 × 800.\n\n"
    )
    story.text += "".join(f"![{name}](images/patient-{name}.png)\n" for name in names)
    (ROOT / "docs" / "patient-five-minutes.md").write_text(story.text, encoding="utf-8")
    host.problems.check()
    host.close()
    sys.stdout.flush()
    os._exit(0)  # see shots.py


if __name__ == "__main__":
    raise SystemExit(main())
