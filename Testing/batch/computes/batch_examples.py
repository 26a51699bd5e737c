"""Compute functions for the workers of a batch; the name of the case decides what happens."""

import os
import time
from pathlib import Path

import numpy as np

from MedFMLib.core.findings import Answer, Measurement, Segment, Segmentation
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import InputError


class ByName:
    """Counts bright voxels; crashes, hangs or fails where the name of the case says so."""

    def run(self, request, progress):
        """One job."""
        progress.stage("Looking")
        word, _, seconds = request.image.name.partition("_")[0].partition("-")
        getattr(self, f"do_{word}", lambda *_: None)(request, seconds)
        time.sleep(float(os.environ.get("MEDFM_TEST_SECONDS", 0)))
        count = int((request.image.scalars > 50).sum())
        findings = (Answer(request.question, f"={count}"),)
        if request.task == "segment":
            segment = Segment("bright", request.image.scalars > 50)
            findings = (
                Segmentation((segment,), request.image.geometry),
                Measurement("bright", "volume", count / 1000, "mL", "counted"),
            )
        started = f"{time.time()}"
        return Response(
            findings, Provenance(request.task, request.model, "r1", "fp32", started=started, seconds=time.time())
        )

    def do_crash(self, request, seconds):
        """End the process, as when memory runs out."""
        os.kill(os.getpid(), 9)

    def do_hang(self, request, seconds):
        """Hear nothing, but for questions."""
        time.sleep(60 if request.task == "segment" else 0)

    def do_refuse(self, request, seconds):
        """A sentence for the person."""
        raise InputError("This image has no slices that can be looked at; choose another.")

    def do_bug(self, request, seconds):
        """A defect."""
        raise ZeroDivisionError("oops")

    def do_flaky(self, request, seconds):
        """Crash once."""
        mark = Path(os.environ["MEDFM_TEST_MARKS"]) / request.image.name
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)


class Burns:
    """Computes for a fixed number of steps on one core, for the bench."""

    def run(self, request, progress):
        """One job."""
        total = np.float64(0)
        for n in range(int(os.environ.get("MEDFM_BENCH_STEPS", 400_000))):
            total += n * 0.5
        return Response((Answer("", f"{total:g}"),), Provenance(request.task, request.model))
