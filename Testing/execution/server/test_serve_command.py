"""`medfm serve`, `medfm server …` and `--server` of the other commands, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from support.phantoms import ct_phantom
from support.server_in_test import ROOT, TOKEN


@pytest.fixture
def medfm(server):
    """Run the command against the server."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "MedFMLib.cli", *map(str, arguments)],
            capture_output=True, text=True, timeout=60, cwd=ROOT,
            env={**os.environ, "MEDFM_SERVER": server.url, "MEDFM_SERVER_KEY": TOKEN, **environment},
        )  # fmt: skip

    return run


def test_state_and_models_are_printed(medfm):
    assert "is idle; 0 jobs run, 0 wait" in medfm("server", "state").stdout
    assert json.loads(medfm("server", "state", "--json").stdout)["running"] == 0
    assert medfm("server", "models").stdout.startswith("medfm-tiny  (")
    assert "unloaded" in medfm("server", "unload").stdout


def test_a_question_is_asked_there(medfm, tmp_path):
    path = tmp_path / "ct.nii.gz"
    picture = sitk.GetImageFromArray(np.ascontiguousarray(ct_phantom().scalars.transpose(2, 1, 0)))
    sitk.WriteImage(picture, str(path))
    done = medfm("ask", path, "mark hello", "--json")
    assert json.loads(done.stdout)["answers"][0]["answer"].startswith("hello sum"), done.stderr


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [({"MEDFM_SERVER_KEY": ""}, "key of 127.0.0.1 is not known"), ({"MEDFM_SERVER_KEY": "x" * 30}, "key is missing or wrong"),
     ({"MEDFM_SERVER": ""}, "No server is given"), ({"MEDFM_SERVER": "http://10.0.0.1:1"}, "use https")],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(medfm, environment, sentence):
    done = medfm("server", "state", **environment)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_prints_an_address_and_a_key_and_ends_at_ctrl_c():
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "MedFMLib.cli", "serve", "--port", "0", "--limit", "queue=3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert re.fullmatch(r"MedFM listens on http://127\.0\.0\.1:\d+", process.stdout.readline().strip())
        assert re.fullmatch(r"Key for this run: \S{40,}", process.stdout.readline().strip())
        process.send_signal(2)
        assert process.wait(15) == 0
        assert "Traceback" not in process.stderr.read()
