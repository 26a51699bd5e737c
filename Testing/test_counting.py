"""The count of tests: a run that skips too much fails, and its closing lines say how many ran."""

import subprocess
import sys
from pathlib import Path

from conftest import MOST_SKIPPED, MOST_WITHOUT_IMAGES, too_many_skipped

ROOT = Path(__file__).resolve().parents[1]


def test_a_whole_run_may_skip_so_many_and_no_more():
    assert too_many_skipped(MOST_SKIPPED, MOST_WITHOUT_IMAGES, whole=True) == ""
    assert "Too many tests were skipped" in too_many_skipped(MOST_SKIPPED + 1, 0, whole=True)
    assert "Too many tests were skipped" in too_many_skipped(0, MOST_WITHOUT_IMAGES + 1, whole=True)
    assert too_many_skipped(MOST_SKIPPED + 1, 0, whole=False) == ""


def test_a_run_says_how_many_tests_ran():
    command = [sys.executable, "-m", "pytest", "Testing/storage/test_json_records.py", "-q", "-p", "no:warnings"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "tests ran, 0 were skipped, 0 of them for want of open test images" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("s") and "passed" in done.stdout.splitlines()[-1]
