"""What a header says about the acquisition, without anything that could be a name."""

from __future__ import annotations

import pydicom
import pytest

from MedFMLib.files.dicom.facts import body_part, facts_of, kernel, manufacturer, model
from MedFMLib.files.dicom.headers import Header


def header(**values):
    """A header with these attributes."""
    data = pydicom.Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return Header(None, data)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("GE MEDICAL SYSTEMS", "GE HealthCare"), ("SIEMENS", "Siemens Healthineers"),
        ("Siemens HealthCare GmbH", "Siemens Healthineers"),
        ("Philips Medical Systems", "Philips"), ("TOSHIBA_MEC", "Canon Medical Systems"), ("UIH", "United Imaging"),
        ("Doe, Jane", ""), ("Radiology Dr. Smith", ""), ("", ""), ("George Smith", ""),
    ],
)  # fmt: skip
def test_manufacturers_are_named_by_the_table(text, known):
    assert manufacturer(text) == known


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("MAGNETOM Skyra", True), ("DISCOVERY MR750w", True), ("LightSpeed VCT", True), ("SOMATOM Definition AS+", True),
        ("Prisma_fit", True),
        ("Brilliance 16P", True), ("SIGNA", True), ("Ingenia Elition X", True), ("Skyra of Jane Doe", False), ("4711", False),
        ("16", False),
        ("Aera 19610412", False), ("https://github.com/x", False), ("", False),
    ],
)  # fmt: skip
def test_a_model_is_kept_if_every_word_of_it_is_known(text, kept):
    assert model(text) == (text if kept else "")


def test_body_parts_and_kernels_are_kept_by_their_words():
    assert (
        body_part("chest") == "CHEST"
        and body_part("ABD_PEL") == ""
        and body_part("CHEST_TO_PELVIS") == "CHEST_TO_PELVIS"
    )
    assert body_part("HEAD DOE") == body_part("JANE") == ""
    assert (kernel("B30f"), kernel("BONEPLUS"), kernel("FC08"), kernel("Jane")) == ("B30f", "BONEPLUS", "FC08", "")


def test_names_in_any_attribute_reach_no_fact():
    name = "DOE^JANE"
    tags = ("BodyPartExamined", "ScanningSequence", "Manufacturer", "ManufacturerModelName", "PatientPosition", "ViewPosition",
            "PatientOrientation", "ConvolutionKernel", "ContrastBolusAgent", "Laterality", "ImageLaterality")  # fmt: skip
    facts = facts_of(header(**dict.fromkeys(tags, name), EchoTime="12.5", RepetitionTime="2000"))
    assert facts == {"EchoTime": "12.5", "RepetitionTime": "2000", "Contrast": "yes"}


def test_usual_values_are_kept():
    facts = facts_of(header(
        BodyPartExamined="HEAD", ScanningSequence=["SE", "IR"], PatientPosition="HFS", ViewPosition="AP",
        PatientOrientation=["L", "F"],
        Manufacturer="SIEMENS", ManufacturerModelName="Prisma_fit", MagneticFieldStrength="3", Laterality="L",
    ))  # fmt: skip
    assert facts == {
        "BodyPartExamined": "HEAD", "ScanningSequence": "SE\\IR", "PatientPosition": "HFS", "ViewPosition": "AP",
        "PatientOrientation": "L\\F",
        "Manufacturer": "Siemens Healthineers", "ManufacturerModelName": "Prisma_fit", "MagneticFieldStrength": "3",
        "Contrast": "not stated",
        "Laterality": "left",
    }  # fmt: skip
