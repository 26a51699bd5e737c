"""A report of a phantom, made by the task with a scripted model."""

import numpy as np
import pytest
from support.phantoms import ct_phantom

from MedFMLib.core.findings import Answer, Segment, Segmentation, SliceReference
from MedFMLib.core.request import Provenance, Request, Response
from MedFMLib.core.terminology import structure
from MedFMLib.imaging.key_images import choose_slices_to_show, key_image
from MedFMLib.interfaces import registry
from MedFMLib.measure import measure_fully
from MedFMLib.reports.document import ReportMaterial, make_report
from MedFMLib.reports.stack import make_stack
from MedFMLib.reports.templates import choose_template


def respond(image, answers=(), template="", **request) -> Response:
    """A response with a report on the parts of the CT phantom."""
    right = (
        np.arange(image.geometry.shape[0])[:, None, None] < image.geometry.shape[0] / 2
    )  # the phantom's x runs to the left
    lungs = (image.scalars > -900) & (image.scalars < -700)
    masks = {"liver": image.scalars == 90, "left lung": lungs & ~right, "right lung": lungs & right}
    segments = []
    for label, mask in masks.items():
        known = structure(label)
        segments.append(Segment(label, mask, known.color, known.category, known.code, known.side))
    segmentation = Segmentation(tuple(segments), image.geometry)
    measurements = measure_fully(segmentation, image)
    provenance = Provenance("report", "medfm-tiny", "abc123", "nf4", started="2026-11-24T00:00:00+00:00")
    shown = choose_slices_to_show(segmentation, "axial")
    pictures = [key_image(image, "axial", n, segmentation.segments) for n, _ in shown]
    material = ReportMaterial(
        image, registry.card("medfm-tiny"), segmentation, measurements, ["spleen"], answers, pictures, provenance, "axial",
        "axial CT", SliceReference("axial", shown[0][0], (0.0, 0.0, 0.0)),
        make_stack(image, segmentation, "axial", [n for n, _ in shown]),
    )  # fmt: skip
    labels = [s.label for s in segmentation.segments]
    report = make_report(
        material, choose_template(template, image.modality, labels), Request("report", image, **request)
    )
    return Response((report, segmentation, *measurements), provenance)


@pytest.fixture
def response():
    """See `respond`, with a question that was asked."""
    seen = (SliceReference("axial", 5, (1.0, 2.0, 3.0)),)
    return respond(ct_phantom(), [Answer("Which organs are visible?", "The liver.", seen)])
