"""Records from JSON: which fields, which types, and the clause that says what is wrong."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MedFMLib.storage.json_records import check_record


@dataclass(frozen=True)
class Record:
    name: str
    count: int
    share: float = 0.0
    flag: bool = False
    items: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    maybe: str | None = None


GOOD = {"name": "a", "count": 1, "share": 2, "flag": True, "items": ["x"], "more": {}, "maybe": "b"}


def test_a_good_record_comes_back_as_it_is():
    assert check_record(Record, GOOD) is GOOD
    assert check_record(Record, GOOD, complete=True) is GOOD
    assert check_record(Record, {"name": "a", "count": 1})


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        ([], "it must be a JSON object, not a list"),
        ({"name": "a"}, "it lacks count"),
        (GOOD | {"colour": 1}, "it has unknown fields colour"),
        (GOOD | {"name": 1}, "its field 'name' must be a text, not 1"),
        (GOOD | {"count": 1.5}, "its field 'count' must be a whole number, not 1.5"),
        (GOOD | {"count": True}, "its field 'count' must be a whole number, not True"),
        (GOOD | {"share": "1"}, "its field 'share' must be a number, not '1'"),
        (GOOD | {"share": False}, "its field 'share' must be a number, not False"),
        (GOOD | {"flag": 1}, "its field 'flag' must be true or false, not 1"),
        (GOOD | {"items": "x"}, "its field 'items' must be a list, not 'x'"),
        (GOOD | {"more": []}, "its field 'more' must be an object, not []"),
    ],
)
def test_what_is_wrong_is_said_with_the_value(content, clause):
    with pytest.raises(ValueError) as caught:
        check_record(Record, content)
    assert str(caught.value) == clause


def test_a_complete_record_needs_the_fields_with_defaults_too():
    with pytest.raises(ValueError, match="it lacks share, flag, items, more, maybe"):
        check_record(Record, {"name": "a", "count": 1}, complete=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine draws slowly
@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), JSON))
def test_any_json_is_either_a_record_or_refused_with_a_clause(content):
    clause = ""
    try:
        checked = check_record(Record, content)
    except ValueError as error:
        clause = str(error)
    assert clause.startswith("it") if clause else Record(**checked)
