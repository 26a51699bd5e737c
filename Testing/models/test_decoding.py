"""Least-error decoding: known distributions, known choices."""

import pytest

torch = pytest.importorskip("torch")

from MedFMLib.models.parts.decoding import LeastErrorDecoding  # noqa: E402

LOCATION, CODE, SIZE = 10, 1034, 1170
CODEBOOK = torch.stack([torch.linspace(0, 1, 128), torch.zeros(128)], dim=1)


def choose(**likelihoods):
    """Token chosen from {"t<number>": probability}."""
    scores = torch.full((1, SIZE), -30.0)
    for name, share in likelihoods.items():
        scores[0, int(name[1:])] = torch.log(torch.tensor(share))
    return int(LeastErrorDecoding(LOCATION, CODE, CODEBOOK)(None, scores).argmax())


def test_a_sure_model_is_taken_at_its_word():
    assert choose(t500=0.97, t20=0.03) == 500
    assert choose(t1050=0.99, t1100=0.01) == 1050
    assert choose(t3=0.6, t500=0.4) == 3


def test_an_unsure_location_is_the_median_not_the_peak():
    assert choose(t100=0.3, t400=0.25, t410=0.25, t420=0.2) == 400
    assert choose(t100=0.4, t900=0.2, t910=0.2, t920=0.2) == 900


def test_an_unsure_code_is_nearest_to_the_expected_vector():
    # codes 0 and 100 with 0.5 each lie around code 50 of an evenly spaced codebook
    assert choose(t1034=0.501, t1134=0.499) == CODE + 50


def test_words_between_are_not_touched():
    scores = torch.full((2, SIZE), -30.0)
    scores[0, 3], scores[1, LOCATION + 7] = 0.0, 0.0
    raised = LeastErrorDecoding(LOCATION, CODE, CODEBOOK)(None, scores)
    assert raised.argmax(dim=-1).tolist() == [3, LOCATION + 7]


def test_without_a_codebook_codes_stay_as_they_are():
    scores = torch.full((1, SIZE), -30.0)
    scores[0, CODE], scores[0, CODE + 100] = 0.0, -0.01
    assert int(LeastErrorDecoding(LOCATION, CODE, None)(None, scores).argmax()) == CODE
