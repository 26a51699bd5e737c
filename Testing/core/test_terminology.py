"""Names of structures."""

import pytest

from MedFMLib.core.terminology import choose, normalize, structure
from MedFMLib.errors import InputError
from MedFMLib.storage import resources


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Liver", "liver"), ("Lung, left", "left lung"), ("left_kidney", "left kidney"), ("Brain Stem", "brainstem"),
        ("kidneys", "kidney"), ("bladder", "urinary bladder"), ("right hemisphere", "right cerebral hemisphere"),
        ("something else", "something else"),
    ],
)  # fmt: skip
def test_names_are_normalised(said, meant):
    assert normalize(said) == meant


def test_a_name_without_a_side_means_both():
    assert choose(["kidney"], ["left kidney", "right kidney", "liver"], "M") == ("left kidney", "right kidney")
    assert choose(["Left kidney", "liver"], ["left kidney", "right kidney", "liver"], "M") == ("left kidney", "liver")


def test_an_unknown_name_gets_near_misses_or_the_list():
    with pytest.raises(InputError, match="does not know 'spleeen'; did you mean spleen"):
        choose(["spleeen"], ["liver", "spleen"], "Tiny")
    with pytest.raises(InputError, match="it knows liver, spleen"):
        choose(["qqqq"], ["liver", "spleen"], "Tiny")


def test_sides_are_coded_and_coloured_apart():
    left, right = structure("left lung"), structure("right lung")
    assert left.code == right.code
    assert (left.side.meaning, right.side.meaning) == ("Left", "Right")
    assert left.color != right.color
    assert structure("liver").side is None


def test_an_unknown_structure_has_a_stable_colour_and_no_code():
    assert structure("frobnicator").code is None
    assert structure("frobnicator").color == structure("frobnicator").color
    assert structure("frobnicator").color != structure("gizmo").color


def test_every_code_is_in_dicoms_own_list():
    from pydicom.sr import _concepts_dict

    known = {
        (scheme, code): meaning
        for scheme in ("SCT", "DCM")
        for entries in _concepts_dict.concepts[scheme].values()
        for code, (meaning, *_) in entries.items()
    }
    # the three that pydicom's edition of the context groups does not list, checked against SNOMED CT by hand
    checked = {"83678007", "15926001", "68455001"}
    for name, entry in resources.load_json("terminology", "structures.json")["structures"].items():
        code, scheme, meaning = entry["code"]
        key = (scheme, code)
        assert key in known or code in checked, name
        words = {w for w in meaning.lower().replace("(", " ").split() if len(w) > 4}
        if key in known and words:
            stem = [w[:4] for w in words]
            assert any(s in known[key].lower() for s in stem), f"{name}: {meaning} against {known[key]}"
