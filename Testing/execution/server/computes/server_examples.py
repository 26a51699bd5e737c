"""Compute functions for a server's worker process, for tests of how servers and runners behave."""

import os
import sys
import time

import numpy as np

from MedFMLib.core.findings import Answer, Segment, Segmentation
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import Cancelled, InputError


class Scripted:
    """Does what the question says; counts what it did."""

    def __init__(self):
        self.calls, self.prepared = 0, ""

    def prepare(self, model, adapter="", precision=""):
        """Remember what was loaded ahead."""
        self.prepared = f"{model} {adapter} {precision}".strip()

    def run(self, request, progress):
        """One job."""
        self.calls += 1
        word, _, rest = request.question.partition(" ")
        progress.stage("Looking")
        getattr(self, f"do_{word}", self.do_sum)(request, progress, rest)
        text = f"{rest} sum {int(request.image.voxels.astype(np.int64).sum())} {request.image.voxels.dtype}"
        if word == "count":
            text = f"call {self.calls} prepared {self.prepared!r} pid {os.getpid()}"
        findings = (Answer(request.question, text.strip()),)
        if word == "segment":
            findings += (Segmentation((Segment("x", request.image.scalars > 0),), request.image.geometry),)
        provenance = Provenance(request.task, request.model, adapter=request.adapter, tokens=(11, 5))
        return Response(findings, provenance)

    def do_sum(self, request, progress, rest):
        """Say something of each kind."""
        progress.fraction(0.5)
        progress.partial("par")
        progress.note("noted")

    def do_mark(self, request, progress, rest):
        """Nothing but the answer."""

    do_count = do_mark

    def do_words(self, request, progress, rest):
        """Text word by word."""
        for word in rest.split(" "):
            progress.partial(word + " ")
            time.sleep(0.02)

    def do_fail(self, request, progress, rest):
        """A sentence for the person."""
        raise InputError(f"The slice {rest} does not exist; choose another.")

    def do_bug(self, request, progress, rest):
        """A defect."""
        raise ZeroDivisionError("oops")

    def do_sleep(self, request, progress, rest):
        """Go on for so many seconds, or until cancelled."""
        until = time.monotonic() + float(rest)
        while time.monotonic() < until:
            if progress.cancelled():
                raise Cancelled()
            progress.fraction(0.1)
            time.sleep(0.01)

    def do_deaf(self, request, progress, rest):
        """Never look whether it was cancelled."""
        time.sleep(float(rest))

    def do_die(self, request, progress, rest):
        """End the process, as when memory runs out."""
        print(rest or "Killed by a test", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)


def SlowToLoad():
    """Takes a minute until it is there."""
    time.sleep(60)
    return Scripted()
