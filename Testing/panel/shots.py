"""Pictures of the panel for the documentation: `python Testing/panel/shots.py [FOLDER] [--sketch]`.

Loads a real head scan that the package nilearn ships, lets the embedded model segment, answer and report, and
writes panel-segment.png, panel-ask.png and panel-report.png; then it is fine-tuned on computed squares, for
fine-tune.png. With --sketch a threshold plays the model: for a
look at the layout, not for the documentation.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]
SIZE = (1440, 960)


def sketch(request):
    """A response that looks like one, from thresholds."""
    import numpy as np

    from MedFMLib.core.findings import Answer, Measurement, Report, Segment, Segmentation, SliceReference
    from MedFMLib.core.request import Provenance, Response
    from MedFMLib.core.terminology import structure

    image = request.image
    provenance = Provenance(request.task, request.model, seconds=12.3)
    center = tuple(image.geometry.center)
    seen = tuple(
        SliceReference("axial", n, (center[0], center[1], center[2] + 20 * k)) for k, n in enumerate((47, 94, 141))
    )
    if request.task == "ask":
        return Response(
            (Answer(request.question, "T1-weighted MR of the head; brain and ventricles.", seen),), provenance
        )
    values, grid = image.scalars, np.indices(image.geometry.shape)
    half = grid[0] < image.geometry.shape[0] / 2
    limit = np.percentile(values[values > 0], 25)
    masks = {"left cerebral hemisphere": (values > limit) & half, "right cerebral hemisphere": (values > limit) & ~half}
    masks["cerebellum"] = (values > limit) & (grid[2] < 50) & (grid[1] < 90)
    parts = [(structure(name), mask) for name, mask in masks.items()]
    segments = tuple(Segment(s.label, mask, s.color, s.category, s.code, s.side) for s, mask in parts)
    findings = (Segmentation(segments, image.geometry, seen), Measurement("brain", "volume", 1200.0, "mL"))
    if request.task == "report":
        text = "IMAGING REPORT\n\nTECHNIQUE\nMR, 197 × 233 × 189 voxels of 1 × 1 × 1 mm.\n\nFINDINGS\nA sketch."
        findings += (Report("Draft", (), text=text, html="<html></html>"),)
    return Response(findings, provenance)


def run(host, widget, task: str, name: Path, seconds: float) -> None:
    """Do one task in the panel and take its picture."""
    from MedFMLib.cli.demo import questions

    widget.ui.taskTabs.setCurrentIndex(("segment", "ask", "report").index(task))
    for question in questions() if task == "ask" else ("",):
        widget.ui.questionBox.setEditText(question)
        widget.ui.applyButton.click()
        host.run_loop_until(lambda: not widget.session.running, seconds, f"the end of {task}")
        if "Done" not in widget.ui.statusLabel.text:
            raise SystemExit(f"{task} failed: {widget.ui.statusLabel.text}")
    if not widget.ui.show3DButton.checked:  # each result is a new segmentation
        widget.ui.show3DButton.click()
        host.app.layoutManager().resetThreeDViews()
    shrink(host.screenshot(name))
    print(name, f"{name.stat().st_size // 1024} kB", flush=True)


def tune(host, widget, name: Path, seconds: float) -> None:
    """Train an adapter in the fine-tuning window and take its picture at the end."""
    from support import finetune_phantoms

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
    ):  # so that the picture shows no path of this machine
        os.environ["XDG_DATA_HOME"] = str(Path(folder, "own"))
        data = finetune_phantoms.build(Path(folder))
        widget.ui.modelSummaryLabel.linkActivated.emit("fine-tune")
        window = widget.models.tune
        form = window.form
        form.data.text, form.name.text = str(data.relative_to(folder)), "squares"
        form.steps.value, form.epochs.text, form.rate.text, form.clip.text = 120, "100", "2e-3", "10"
        form.buttons["train"].click()
        host.run_loop_until(lambda: not window.busy, seconds, "the end of the training")
        host.process_events()
        window.dialog.grab().save(str(name))
        window.close()
    shrink(name)
    print(name, f"{name.stat().st_size // 1024} kB", flush=True)


def shrink(path: Path) -> None:
    """Fewer colours make a smaller file and look the same."""
    from PIL import Image

    Image.open(path).convert("RGB").quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> int:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "images")
    parser.add_argument("--sketch", action="store_true", help="don't run the model")
    parser.add_argument("--seconds", type=float, default=600, help="longest time for one task")
    options = parser.parse_args()
    from host import install

    host = install()
    import slicer.util
    from support.fake_runner import FakeRunner

    from MedFMLib.cli.demo import find_scan

    volume = slicer.util.loadVolume(str(find_scan()), {"name": "MNI152 T1"})
    volume.SetAttribute("DICOM.Modality", "MR")
    volume.GetDisplayNode().SetAutoWindowLevel(True)
    host.load_module(ROOT / "MedFM" / "MedFM.py")
    host.main_window.resize(*SIZE)
    host.main_window.show()
    host.process_events()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    widget = host.select_module("MedFM")
    if options.sketch:
        widget.session.use(FakeRunner(sketch))
    for task in ("segment", "ask", "report"):
        run(host, widget, task, options.folder / f"panel-{task}.png", options.seconds)
    if not options.sketch:
        tune(host, widget, options.folder / "fine-tune.png", options.seconds)
    host.problems.check()
    host.close()
    sys.stdout.flush()
    os._exit(0)  # Qt and VTK both own windows; their destructors at exit don't agree on the order


if __name__ == "__main__":
    raise SystemExit(main())
