"""Fixtures of the panel's tests: the stand-in for Slicer, the loaded module, volumes, a scripted runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from host.fixtures import host, running_host  # noqa: F401  (fixtures)
from support.fake_runner import FakeRunner

from MedFMLib.core.findings import Answer, Measurement, Report, ReportSection, Segment, Segmentation, SliceReference
from MedFMLib.core.request import Provenance, Response

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "MedFM" / "MedFM.py"


@pytest.fixture
def panel(host):  # noqa: F811
    """The real panel, shown in the main window of the stand-in, without a volume."""
    host.load_module(MODULE)
    host.main_window.show()
    return host.select_module("MedFM")


@pytest.fixture
def add_volume(host):  # noqa: F811
    """Add a head-like volume, bright inside and dark outside; (K, J, I) voxels of `spacing` mm."""

    def add(name="head", shape=(24, 30, 36), spacing=(1.0, 1.5, 2.0)):
        import slicer.util

        grids = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij", sparse=True)
        values = (1000 * (sum(g**2 for g in grids) < 1)).astype(np.int16)
        node = slicer.util.addVolumeFromArray(values, name=name)
        node.SetSpacing(*spacing)
        node.CreateDefaultDisplayNodes()
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node

    return add


@pytest.fixture
def volume(panel, add_volume):
    """A head-like volume, chosen in the panel by itself since it is the only one."""
    return add_volume()


def answer_request(request) -> Response:
    """What a model would answer: one structure, the bright part, for segment and report; words otherwise."""
    provenance = Provenance(request.task, request.model, seconds=1.5, slices=("axial slice 12",))
    seen = (SliceReference("axial", 12, (3.0, 4.0, 6.0)),)
    if request.task == "ask":
        return Response((Answer(request.question, "Yes, the brain.", seen),), provenance)
    mask = request.image.scalars > 500
    segmentation = Segmentation((Segment("brain", mask, (0.9, 0.6, 0.5)),), request.image.geometry, seen)
    findings = (segmentation, Measurement("brain", "volume", 12.5, "mL"))
    if request.task == "report":
        findings += (
            Report(
                "Draft",
                (ReportSection("Findings", ("Brain: 12.5 mL",)),),
                text="FINDINGS\nBrain: 12.5 mL",
                html="<html>Brain: 12.5 mL</html>",
            ),
        )
    return Response(findings, provenance)


@pytest.fixture
def respond():
    """The function that stands for a model."""
    return answer_request


@pytest.fixture
def use_runner(panel):
    """Give the panel another runner; a `FakeRunner` that answers with `answer_request` by default."""

    def use(runner=None, **options):
        runner = runner or FakeRunner(options.pop("response", answer_request), **options)
        panel.session.abandon()
        panel.session.use(runner)
        return runner

    yield use
    panel.session.close()


@pytest.fixture
def finish(host, panel):  # noqa: F811
    """Run the event loop until the job has ended and its result is shown."""

    def wait(seconds=10):
        host.wait_until(lambda: not panel.session.running, seconds, "the job's end")
        host.process_events()  # the result is shown in a turn of its own

    return wait


@pytest.fixture
def choose_task(panel):
    """Open a tab by its task."""
    return lambda task: panel.ui.taskTabs.setCurrentIndex(("segment", "ask", "report").index(task))
