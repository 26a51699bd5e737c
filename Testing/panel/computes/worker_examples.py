"""Compute functions for a worker process, for tests of how it behaves."""

import os
import sys
import time

from MedFMLib.core.findings import Answer, Segment, Segmentation
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import Cancelled, ModelError


def answering():
    """Answers with what it got; says so on the way, on stdout as well, as libraries do."""
    calls = []

    def compute(request, progress):
        calls.append(request)
        print("a library prints")
        progress.stage("Looking")
        progress.fraction(0.5)
        progress.partial("par")
        progress.note("noted")
        text = f"{request.image.voxels.sum()} {request.image.voxels.dtype} call {len(calls)} torch {'torch' in sys.modules}"
        mask = request.image.scalars > 0
        findings = (Answer(request.question, text), Segmentation((Segment("x", mask),), request.image.geometry))
        return Response(findings, Provenance(request.task, request.model))

    return compute


def endless():
    """Goes on until it is cancelled."""

    def compute(request, progress):
        while not progress.cancelled():
            progress.fraction(0.1)
            time.sleep(0.01)
        raise Cancelled()

    return compute


def deaf():
    """Never looks whether it was cancelled."""

    def compute(request, progress):
        progress.stage("Deaf")
        time.sleep(600)

    return compute


def failing():
    """Raises what the question says."""

    def compute(request, progress):
        raise {"model": ModelError("There is no model 'x'."), "bug": ZeroDivisionError("oops")}[request.question]

    return compute


def dying():
    """The process ends, as when memory runs out."""

    def compute(request, progress):
        print("Killed by a test", file=sys.stderr, flush=True)
        os._exit(3)

    return compute


def missing():
    """What the engine needs is not installed."""
    raise ModelError("The package 'torch' is not installed.")
