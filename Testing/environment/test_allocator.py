"""Freed memory that the process retains for its next array, and returns on request."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import json, resource, sys
import numpy as np
from MedFMLib.environment import allocator
kept = allocator.keep_freed_memory() if sys.argv[1] != "usual" else False
if sys.argv[1] == "return":
    kept = allocator.return_freed_memory()
def held():
    return int(open("/proc/self/statm").read().split()[1])
for _ in range(2):
    array = np.empty(64 << 20, np.uint8); array.fill(1); del array
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    array = np.empty(64 << 20, np.uint8); array.fill(1); del array
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
full = held()
allocator.trim()
print(json.dumps([kept, faults, full - held()]))
"""


def measured(mode: str) -> tuple[bool, int, int]:
    """Return (whether it is supported, page faults of four more arrays of 64 MB, pages returned by trimming)."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", MEASURE, mode], cwd=root, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can keep memory")
def test_freed_arrays_are_used_again_without_asking_the_system_and_given_back_when_trimmed():
    usual, kept = measured("usual"), measured("keep")
    assert kept[0]
    assert kept[1] < 100 < usual[1]  # four arrays are 65,536 small pages, or 128 huge ones
    assert kept[2] * 4096 > 60e6 > usual[2] * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc supports this")
def test_a_process_that_retains_memory_can_be_set_to_return_it_at_once():
    returned = measured("return")
    assert returned[0] and returned[1] > 100 and returned[2] * 4096 < 20e6
