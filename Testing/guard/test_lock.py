"""The lock of patient mode: it can't be left without the PIN, whatever happens to the program or its file."""

import json

import pytest

from MedFMLib.errors import InputError
from MedFMLib.guard import PatientLock


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def lock(tmp_path):
    made = PatientLock(tmp_path / "mode.json", Clock())
    made.choose_pin("2468")
    return made


def again(lock):
    """The same lock after a restart."""
    return PatientLock(lock.file, lock._clock)


def test_it_is_off_until_somebody_with_a_pin_turns_it_on(tmp_path):
    lock = PatientLock(tmp_path / "mode.json")
    assert not lock.on and not lock.has_pin
    with pytest.raises(InputError, match="Choose a PIN first"):
        lock.enter()
    assert not lock.file.exists()


def test_a_clock_that_was_set_back_locks_nobody_out(lock):
    lock.enter()
    for _ in range(3):
        with pytest.raises(InputError, match="wrong"):
            lock.leave("0000")
    lock._clock.now -= 3e7
    again(lock).leave("2468")
    assert not again(lock).on


def test_only_the_pin_leaves_it_also_after_a_restart(lock):
    lock.enter()
    with pytest.raises(InputError, match="PIN is wrong"):
        again(lock).leave("1234")
    assert again(lock).on
    again(lock).leave("2468")
    assert not again(lock).on


def test_wrong_pins_have_to_wait_longer_each_time_and_a_right_one_ends_that(lock):
    lock.enter()
    for _ in range(2):
        with pytest.raises(InputError, match="wrong. Ask"):
            lock.leave("0000")
    with pytest.raises(InputError, match="Try again in 10 s"):
        lock.leave("0000")
    with pytest.raises(InputError, match="Too many wrong PINs"):
        again(lock).leave("2468")
    lock._clock.now += 11
    with pytest.raises(InputError, match="Try again in 20 s"):
        lock.leave("0000")
    lock._clock.now += 21
    lock.leave("2468")
    lock.enter()
    with pytest.raises(InputError, match="wrong. Ask"):
        lock.leave("0000")


def test_the_pin_is_nowhere_in_the_file_and_is_no_word(lock):
    assert "2468" not in lock.file.read_text()
    for pin in ("123", "abcd", "12 4", ""):
        with pytest.raises(InputError, match="at least 4 digits"):
            lock.choose_pin(pin, "2468")


def test_another_pin_needs_the_one_so_far_and_never_comes_from_inside(lock):
    with pytest.raises(InputError, match="PIN is wrong"):
        lock.choose_pin("1357", "1111")
    lock.choose_pin("1357", "2468")
    lock.enter()
    with pytest.raises(InputError, match="can't be changed in patient mode"):
        lock.choose_pin("9999", "1357")
    with pytest.raises(InputError):
        lock.leave("2468")
    lock.leave("1357")


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"on": False}), json.dumps({"hash": 3, "salt": None})])
def test_a_damaged_file_opens_no_door(lock, content):
    lock.enter()
    lock.file.write_text(content)
    assert again(lock).on
    with pytest.raises(InputError):
        again(lock).leave("2468")
