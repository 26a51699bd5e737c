"""Lets a test move the wall clock of a process: to what the file named by MEDFM_TEST_CLOCK says, in seconds from now."""

import os
import time

if path := os.environ.get("MEDFM_TEST_CLOCK"):
    real = time.time

    def moved():
        """The time, with the file's offset."""
        try:
            with open(path) as stream:
                return real() + float(stream.read())
        except (OSError, ValueError):
            return real()

    time.time = moved
