"""Store whether patient mode is on at this computer, and the PIN required to leave it, in one small file.

The state is stored with the user's settings, not in a scene: closing, loading or reloading anything does not change it.
The PIN
is stored as a salted hash (scrypt). A wrong PIN causes a delay that grows with each one and survives a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, OutputError
from ..storage import paths, user_settings
from ..storage.locks import exclusive

SHORTEST = 4
FREE_TRIES = 3
FIRST_WAIT, LONGEST_WAIT = 10.0, 600.0
"""Seconds to wait after more than `FREE_TRIES` wrong PINs; doubled each time."""

SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
WHAT = "Patient mode's state"


class PatientLock:
    """State of patient mode.

    Args:
        file: settings file; the user's by default.
        clock: returns seconds since 1970.
    """

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time):
        self.file, self._clock = file or paths.settings() / "patient-mode.json", clock

    @property
    def on(self) -> bool:
        """Whether it is on. An unreadable file counts as on, so that damaging it does not unlock."""
        return bool(self._state().get("on", False))

    @property
    def has_pin(self) -> bool:
        """Whether a PIN was set."""
        return "hash" in self._state()

    def choose_pin(self, pin: str, old: str = "") -> None:
        """Set or change the PIN.

        Args:
            pin: the new one, digits only.
            old: the present one, if there is one.

        Raises:
            InputError: if it is too short, the old one is wrong, or patient mode is on.
            OutputError: if it can't be saved.
        """
        if len(pin) < SHORTEST or not (pin.isascii() and pin.isdigit()):
            raise InputError(f"A PIN has at least {SHORTEST} digits and nothing else; choose another one.")
        with self._alone():
            state = self._state()
            if state.get("on"):
                raise InputError("The PIN can't be changed in patient mode; leave it first.")
            if "hash" in state:
                state = self._tried(state, old)
            salt = os.urandom(16)
            self._keep(state | {"salt": salt.hex(), "hash": _hash(pin, salt)})

    def enter(self) -> None:
        """Turn patient mode on.

        Raises:
            InputError: if no PIN is set: then it could not be left.
            OutputError: if it can't be saved.
        """
        if "hash" not in self._state():
            raise InputError("Choose a PIN first: without one, patient mode could not be left.")
        with self._alone():
            self._keep(self._state() | {"on": True})

    def leave(self, pin: str) -> None:
        """Turn patient mode off.

        Raises:
            InputError: for a wrong PIN, or during the delay.
            OutputError: if it can't be saved.
        """
        with self._alone():
            self._keep(self._tried(self._state(), pin) | {"on": False})

    def _tried(self, state: dict, pin: str) -> dict:
        """Return the state after a right PIN; a wrong one is counted and refused."""
        left = state.get("until", 0.0) - self._clock()
        if 0 < left <= LONGEST_WAIT:  # a longer delay means that the clock was set back; it is ignored
            raise InputError(f"Too many wrong PINs; try again in {left:.0f} s.")
        if "hash" in state and hmac.compare_digest(_hash(pin, bytes.fromhex(state["salt"])), state["hash"]):
            return {key: value for key, value in state.items() if key not in ("wrong", "until")}
        wrong = state.get("wrong", 0) + 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(wrong - FREE_TRIES, 16)) if wrong >= FREE_TRIES else 0.0
        self._keep(state | {"wrong": wrong, "until": self._clock() + wait})
        raise InputError(f"This PIN is wrong.{f' Try again in {wait:.0f} s.' if wait else ''} Ask the staff.")

    def _state(self) -> dict:
        """Return the stored state; {"on": True} for anything but a complete one, such as a dangling link or a closed folder."""
        try:
            os.lstat(self.file)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError:  # somebody took the permission to look into the folder
            return {"on": True}
        state = user_settings.read(self.file)
        return state if _is_complete(state) else {"on": True}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time try a PIN, so that parallel tries are all counted.

        Raises:
            InputError: if another process tries one.
            OutputError: if the folder can't be written, so that a try could not be counted; then no PIN is tried.
        """
        busy = InputError("Another PIN is being checked; try again.")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(self.file.with_name(f"{self.file.name}.lock"), busy):
                yield
        except OSError as error:
            raise OutputError(
                f"{WHAT} can't be written to {self.file} ({error.strerror}); make that folder writable, with free space."
            ) from error

    def _keep(self, state: dict) -> None:
        user_settings.write(self.file, state, WHAT)


def _is_complete(state: dict) -> bool:
    """Return whether a stored state has a PIN's hash and values of the right types."""
    numbers = (state.get("wrong", 0), state.get("until", 0.0))
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) and n >= 0 for n in numbers):
        return False
    if not isinstance(state.get("on", False), bool):
        return False
    salt, made = state.get("salt"), state.get("hash")
    return isinstance(salt, str) and isinstance(made, str) and re.fullmatch(r"(?:[0-9a-f]{2})+", salt) is not None


def _hash(pin: str, salt: bytes) -> str:
    return hashlib.scrypt(pin.encode(), salt=salt, **SCRYPT).hex()
