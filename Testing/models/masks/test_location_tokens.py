"""The notation of boxes and masks: round trips, and wrong output of models is dropped and counted."""

import pytest

from MedFMLib.models.masks import location_tokens as tokens

CODES = tuple(range(0, 128, 8))


def test_an_object_is_four_locations_sixteen_codes_and_a_name():
    text = tokens.format_object((0, 0.25, 0.5, 1), CODES, "left lung")
    assert text.startswith("<loc0000><loc0256><loc0512><loc1023><seg000><seg008>")
    assert text.endswith("<seg120> left lung")


def test_what_is_written_is_read_back():
    written = tokens.format_objects(
        [tokens.format_object((0.1, 0.2, 0.3, 0.4), CODES, "liver"), tokens.format_object((0, 0, 1, 1), None, "brain")]
    )
    first, second = tokens.parse_objects(written)
    assert first.box == pytest.approx((0.1, 0.2, 0.3, 0.4), abs=0.5 / 1023)
    assert (first.codes, first.name) == (CODES, "liver")
    assert (second.box, second.codes, second.name) == ((0, 0, 1, 1), None, "brain")


def test_order_of_positions_is_y_before_x():
    (found,) = tokens.parse_objects("<loc0000><loc0100><loc1023><loc0200> spine")
    y0, x0, y1, x1 = found.box
    assert (y0, y1) == (0, 1)
    assert (x0, x1) == pytest.approx((100 / 1023, 200 / 1023))


@pytest.mark.parametrize(
    ("text", "whole", "dropped"),
    [
        ("", 0, 0),
        ("none", 0, 0),
        ("<loc0001><loc0002><loc0003>", 0, 1),
        ("<loc0500><loc0002><loc0003><loc0004> liver", 0, 1),
        ("<loc0001><loc0002><loc0001><loc0004> liver", 0, 1),
        ("<loc0001><loc0002><loc0003><loc0004><seg001><seg002> liver", 0, 1),
        ("<loc0001><loc0002><loc0003><loc1024> liver", 0, 1),
        ("<loc0001><loc0002><loc0003><loc0004>" + "<seg128>" * 16, 0, 1),
        ("<loc0001><loc0002><loc0003><loc0004>" + "<seg127>" * 18 + " liver<eos>", 1, 0),
        ("<seg001><seg002> liver ; <loc0001><loc0002><loc0003><loc0004> spleen ; <loc00", 1, 1),
    ],
)
def test_malformed_objects_are_dropped_and_counted(text, whole, dropped):
    parsed = tokens.parse(text)
    assert (len(parsed.objects), parsed.dropped) == (whole, dropped)


def test_special_tokens_are_no_part_of_a_name():
    (found,) = tokens.parse_objects("<bos><loc0001><loc0002><loc0003><loc0004>  left  lung \n<eos><pad>")
    assert found.name == "left lung"


def test_positions_outside_the_picture_move_to_its_edge():
    assert (tokens.location_token(-0.2), tokens.location_token(1.7)) == ("<loc0000>", "<loc1023>")


def test_wrong_codes_are_refused():
    with pytest.raises(ValueError, match="16 codes"):
        tokens.format_object((0, 0, 1, 1), (1, 2, 3), "liver")
    with pytest.raises(ValueError, match="16 codes"):
        tokens.format_object((0, 0, 1, 1), (128,) * 16, "liver")
    with pytest.raises(ValueError, match="four positions"):
        tokens.format_object((0, 0, 1), None, "liver")


def test_prompts_have_the_forms_of_paligemma():
    assert tokens.segment_prompt(["left lung", "liver"]) == "segment left lung ; liver"
    assert tokens.detect_prompt(["liver"]) == "detect liver"
    assert tokens.answer_prompt(" which plane is this? ") == "answer en which plane is this?"
    assert (tokens.caption_prompt(), tokens.describe_prompt()) == ("caption en", "describe en")


def test_an_answer_without_objects_says_none():
    assert tokens.format_objects([]) == "none"
