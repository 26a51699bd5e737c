"""Fixtures for tests of servers: images, servers in separate processes, runners of every kind."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from support.server_in_test import COMPUTE, COMPUTES, ROOT, ServerInTest, wait_for

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.execution.remote import ServerRunner
from MedFMLib.execution.worker import ProcessRunner
from MedFMLib.interfaces.jobs import LocalRunner


@pytest.fixture(autouse=True)
def _computes(monkeypatch):
    """Worker processes find the tests' computes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(COMPUTES), str(ROOT)]))


@pytest.fixture
def image():
    """An oblique image whose voxels are not contiguous, as those of a volume node are."""
    affine = np.array([[0, 2, 0, 5.0], [1.5, 0, 0.1, -7], [0, 0, 3, 2], [0, 0, 0, 1]])
    voxels = np.arange(10 * 12 * 9, dtype=np.int16).reshape(9, 12, 10).transpose(2, 1, 0)[None]
    return Image(voxels, Geometry((10, 12, 9), affine, "1.2.3"), "MR", "Größe", {"KVP": "120"})


@pytest.fixture
def request_for(image):
    """question → Request."""
    return lambda question, **options: Request("ask", image, question=question, **options)


@pytest.fixture
def start_server(tmp_path):
    """Start servers; each has ended, with its worker and its files, when the test is over."""
    started: list[ServerInTest] = []
    temp = tmp_path / "temp"
    temp.mkdir()

    def start(*arguments, **options):
        started.append(ServerInTest(*arguments, temp=temp, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()
    wait_for(lambda: not list(temp.glob("medfm-server-*")), 10, f"no file to stay: {list(temp.rglob('*'))}")


@pytest.fixture
def server(start_server):
    """One server with scripted jobs."""
    return start_server()


RUNNERS = ("local", "process", "server", "remote")


@pytest.fixture(params=RUNNERS)
def runner(request, start_server):
    """Each kind of runner, with the same scripted jobs."""
    if request.param == "local":
        sys.path.insert(0, str(COMPUTES))
        from server_examples import Scripted

        sys.path.remove(str(COMPUTES))
        made = LocalRunner(Scripted().run)
    elif request.param == "process":
        made = ProcessRunner(("--compute", COMPUTE))
    elif request.param == "server":
        made = ServerRunner(("--compute", COMPUTE))
    else:
        made = start_server().runner()
    made.kind = request.param
    yield made
    made.close()
