"""Where packages are installed: decided for many machines; real installations are stopped, resumed and undone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MedFMLib import environment
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.environment import looking, pip_errors, separate, wheelhouse
from MedFMLib.environment.looking import EnvironmentFacts
from MedFMLib.environment.planning import InstallPlan, plan
from MedFMLib.errors import Cancelled, InputError, ModelError
from MedFMLib.execution.worker import ProcessRunner
from MedFMLib.interfaces.jobs import NoProgress

ALL = {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2", "bitsandbytes": "0.50.2", "jinja2": "3.1.6"}
LINUX = EnvironmentFacts("Linux", "x86_64", "x86_64", (3, 12), "5.12.3", "packaging", free=10**12,
              pythons={"/usr/bin/python3.12": ((3, 12), "x86_64")})  # fmt: skip


# -- decisions ---------------------------------------------------------------------------------------------


def test_nothing_is_planned_where_everything_is_there():
    made = plan(replace(LINUX, installed=ALL))
    assert made.where == "nothing"
    assert "installed" in made.text()


@pytest.mark.parametrize("installer", ["packaging", "util"])
def test_slicer_gets_what_is_missing_into_its_own_python_torch_first(installer):
    made = plan(replace(LINUX, installer=installer, installed={"transformers": "5.23.0", "numpy": "2.4.6"}))
    assert made.where == "slicer"
    assert [looking.name_of(r) for r in made.packages] == ["torch", "peft", "bitsandbytes", "jinja2"]
    assert not {"numpy", "simpleitk", "pydicom", "requests"} & {looking.name_of(r) for r in made.packages}
    assert "Slicer's own Python" in made.text() and "GB to download" in made.text()


def test_without_slicer_it_is_the_commands_python():
    assert plan(replace(LINUX, slicer="", installer="")).where == "this"


def test_a_slicer_without_an_installer_gets_a_separate_environment():
    assert plan(replace(LINUX, installer="")).where == "separate"


def test_packages_of_others_are_not_replaced():
    made = plan(replace(LINUX, installed={**ALL, "transformers": "4.57.6"}))
    assert made.where == "separate"
    assert "other programs rely on versions here that are too old: transformers 4.57.6" in made.why
    assert made.python == "/usr/bin/python3.12"


def test_a_translated_slicer_on_an_apple_processor_gets_a_native_environment():
    mac = EnvironmentFacts("Darwin", "x86_64", "arm64", (3, 12), "5.12.3", "packaging", gpu="mps", free=10**12,
                pythons={"/usr/local/bin/python3.12": ((3, 12), "x86_64"),
                         "/opt/homebrew/bin/python3.12": ((3, 12), "arm64")})  # fmt: skip
    made = plan(mac)
    assert (made.where, made.python, made.build) == ("separate", "/opt/homebrew/bin/python3.12", "mps")
    assert "translated (x86_64 on arm64)" in made.why
    assert plan(replace(mac, pythons={}, uv="/opt/homebrew/bin/uv")).python == "uv"
    with pytest.raises(ModelError, match=r"no Python 3\.11 to 3\.13 for arm64 .*python\.org"):
        plan(replace(mac, pythons={"/usr/local/bin/python3.12": ((3, 12), "x86_64")}))


def test_an_arm_slicer_on_a_mac_uses_its_own_python():
    mac = EnvironmentFacts("Darwin", "arm64", "arm64", (3, 12), "6.0.0", "packaging", gpu="mps", free=10**12)
    assert plan(mac).where == "slicer"
    assert any(r.startswith("bitsandbytes") for r in plan(mac).packages)


def test_a_real_intel_mac_gets_the_remaining_options():
    made = plan(EnvironmentFacts("Darwin", "x86_64", "x86_64", (3, 12), "5.12.3", "packaging"))
    assert made.where == "server"
    assert "Intel Macs have no current PyTorch" in made.text()


def test_an_old_python_gets_a_separate_environment():
    assert "3.11 to 3.13 and this is 3.9" in plan(replace(LINUX, python=(3, 9))).why


def test_windows_and_gpus_choose_builds():
    windows = replace(LINUX, system="Windows", machine="AMD64", native="AMD64", gpu="cuda")
    assert (plan(windows).build, plan(windows).index) == ("cuda", "")
    assert plan(replace(LINUX, gpu="rocm")).index.endswith("rocm6.4")
    assert plan(LINUX).index.endswith("/cpu")
    assert "estimated" in plan(windows).text()
    assert "measured" in plan(LINUX).text()


def test_a_small_disk_is_reported_before_anything_is_done():
    with pytest.raises(ModelError, match=r"would take 8\.0 GB, and 2\.0 GB are free"):
        plan(replace(LINUX, gpu="cuda", free=2 * 10**9))


def test_a_person_may_want_it_apart():
    assert plan(replace(LINUX, installed=ALL), separate=True).where == "separate"


def test_this_machine_is_looked_at(monkeypatch):
    monkeypatch.delitem(sys.modules, "slicer", raising=False)  # other tests bring its stand-in
    facts = environment.look()
    assert facts.python == sys.version_info[:2]
    assert facts.installed["numpy"] == np.__version__
    assert facts.free > 0
    assert facts.slicer == ""
    assert any(version >= (3, 11) for version, _ in facts.pythons.values())


def test_a_slicer_is_seen_by_what_it_offers(monkeypatch):
    slicer = types.ModuleType("slicer")
    slicer.__spec__ = types.SimpleNamespace()
    slicer.app = types.SimpleNamespace(applicationVersion="5.10.0")
    util = types.ModuleType("slicer.util")
    util.pip_install = lambda packages: None
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setitem(sys.modules, "slicer.util", util)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(looking, "_has", lambda name: False)
    assert looking._slicer() == ("5.10.0", "util", ())
    monkeypatch.setattr(looking, "_has", lambda name: name == "slicer.packaging")
    assert looking._slicer()[1] == "packaging"


@pytest.mark.parametrize(
    "arguments", [("askConfirmation", "forceComputationBackend"), ("askConfirmation", "torchVersionRequirement", "x")]
)
def test_the_pytorch_extension_is_asked_only_what_it_takes(monkeypatch, arguments):
    module = types.ModuleType("PyTorchUtils")
    scope: dict = {}
    exec(f"def installTorch(self, {', '.join(f'{a}=None' for a in arguments)}): pass", scope)
    module.PyTorchUtilsLogic = type("PyTorchUtilsLogic", (), {"installTorch": scope["installTorch"]})
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    monkeypatch.setattr(looking, "_has", lambda name: True)
    assert looking.torch_arguments() == arguments


# -- for real, with wheels that we make here -----------------------------------------------------------------


def make_wheel(folder: Path, name: str, version: str = "99.0", body: str = "") -> Path:
    """A tiny wheel that can be imported."""
    module = {"pillow": "PIL"}.get(name.lower(), name)
    files = {
        f"{module}/__init__.py": body or f"__version__ = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def line(path, content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        return f"{path},sha256={digest},{len(content.encode())}"

    record = f"{name}-{version}.dist-info/RECORD"
    listed = [line(path, content) for path, content in files.items()]
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(record, "\n".join([*listed, f"{record},,"]) + "\n")
    return wheel


WHEELS = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "jinja2",
    "numpy",
    "SimpleITK",
    "pydicom",
    "requests",
    "pillow",
    "psutil",
)


@pytest.fixture
def wheels(tmp_path):
    """A wheelhouse of stand-ins."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in WHEELS:
        make_wheel(folder, name)
    wheelhouse.write_manifest(folder)
    return folder


@pytest.fixture
def planned(wheels, tmp_path):
    facts = replace(LINUX, pythons={sys.executable: (sys.version_info[:2], "x86_64")})
    return replace(plan(facts, wheels, separate=True), folder=tmp_path / "env")


class Recorded(NoProgress):
    """Records stages and notes; asks the work to stop at one stage, in a step that asks by itself."""

    def __init__(self, stop_at=""):
        self.stages, self.notes, self._stop_at = [], [], stop_at

    def stage(self, name):
        self.stages.append(name)

    def fraction(self, value):
        pass

    def note(self, text):
        self.notes.append(text)

    def cancelled(self):
        return bool(self._stop_at) and self.stages[-1:] == [self._stop_at]


def test_an_environment_is_made_without_internet_used_and_undone(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/never")
    reported = Recorded()
    python = environment.apply(planned, reported)
    assert python == environment.interpreter(planned.folder)
    assert reported.stages == list(separate.TITLES.values())
    done = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__, torch.__file__)"], capture_output=True, text=True
    )
    assert done.stdout.startswith("99.0") and str(planned.folder) in done.stdout
    reported = Recorded()
    environment.apply(planned, reported)  # again: nothing is left to do
    assert not reported.notes
    assert environment.undo(planned.folder) > 0
    assert not planned.folder.exists()
    assert environment.interpreter(planned.folder) == ""


def test_a_stopped_installation_goes_on_where_it_was(planned):
    with pytest.raises(Cancelled, match="continues from here"):
        environment.apply(planned, Recorded(stop_at="Installing PyTorch"))
    assert environment.interpreter(planned.folder) == ""
    state = json.loads((planned.folder / "state.json").read_text())
    assert state["done"] == ["environment"]
    made = (planned.folder / "venv" / "pyvenv.cfg").stat().st_mtime_ns
    assert environment.apply(planned, Recorded())
    assert (planned.folder / "venv" / "pyvenv.cfg").stat().st_mtime_ns == made


def test_a_killed_installation_goes_on_and_is_never_taken_for_a_whole_one(planned, tmp_path):
    script = """
import sys; sys.path[:0] = sys.argv[1:3]
import pickle
from environment.test_environment import *
environment.apply(pickle.loads(bytes.fromhex(sys.argv[3])), Recorded())
"""
    import pickle

    root = Path(__file__).resolve().parents[2]
    arguments = [str(root / "Testing"), str(root), pickle.dumps(planned).hex()]
    for moment in (0.6, 2.0, 3.0):
        with subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
        state = planned.folder / "state.json"
        if state.exists() and not json.loads(state.read_text())["ready"]:
            assert environment.interpreter(planned.folder) == ""
    assert environment.apply(planned, Recorded())


def test_another_plan_begins_anew(planned, wheels):
    environment.apply(planned, Recorded())
    other = replace(planned, packages=planned.packages[:1])
    reported = Recorded()
    environment.apply(other, reported)
    python = environment.interpreter(planned.folder)
    assert subprocess.run([python, "-c", "import peft"], capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            lambda folder: (folder / "peft-99.0-py3-none-any.whl").write_bytes(b"x"),
            "'peft-99.0.*' is missing or damaged",
        ),
        (lambda folder: (folder / "peft-99.0-py3-none-any.whl").unlink(), "'peft-99.0.*' is missing or damaged"),
        (lambda folder: make_wheel(folder, "evil"), "'evil-99.0.*' is not in the folder's list"),
        (lambda folder: (folder / wheelhouse.MANIFEST).unlink(), "has no medfm-wheelhouse.json"),
    ],
)
def test_a_wheelhouse_that_did_not_arrive_whole_is_refused(planned, wheels, harm, sentence):
    harm(wheels)
    with pytest.raises(InputError, match=sentence):
        environment.apply(planned, Recorded())
    assert environment.interpreter(planned.folder) == ""


def test_a_missing_wheel_is_one_sentence_with_the_log(planned, wheels):
    (wheels / "peft-99.0-py3-none-any.whl").unlink()
    wheelhouse.write_manifest(wheels)
    with pytest.raises(ModelError, match=r"there is no build of peft>=0\.17 for this computer\. The log is .*log\.txt"):
        environment.apply(planned, Recorded())


def test_a_package_that_can_not_be_imported_is_found_by_the_check(planned, wheels):
    make_wheel(wheels, "peft", body="raise ImportError('libfoo.so is missing')")
    wheelhouse.write_manifest(wheels)
    with pytest.raises(ModelError, match=r"libfoo\.so is missing"):
        environment.apply(planned, Recorded())
    assert environment.interpreter(planned.folder) == ""


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("Cannot connect to proxy. ProxyError('Tunnel connection failed: 407')", "the proxy refused"),
        ("SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED", "not trusted"),
        ("NewConnectionError: Temporary failure in name resolution", "can't be reached"),
        ("ERROR: No matching distribution found for torch>=2.6", "no build of torch>=2.6"),
        ("ERROR: something else", "ERROR: something else"),
    ],
)
def test_what_pip_says_becomes_one_clause(said, meant):
    assert meant in pip_errors.explain(["Collecting torch", said, "note: see above"])


def test_a_worker_runs_in_the_separate_environment(tmp_path):
    """A real environment that sees this one's packages: its interpreter computes a job."""
    folder = tmp_path / "env"
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(folder / "venv")], check=True
    )
    site = next((folder / "venv").rglob("site-packages"))
    (site / "outer.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    (site / "where.py").write_text(
        "import sys\nfrom MedFMLib.core.findings import Answer\nfrom MedFMLib.core.request import Provenance, Response\n"
        "def make():\n    return lambda request, progress: Response((Answer('?', sys.prefix),), Provenance('ask', 'm'))\n"
    )
    python = str(folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    runner = ProcessRunner(("--compute", "where:make"), interpreter=python)
    image = Image(np.zeros((1, 4, 4, 4), np.int16), Geometry((4, 4, 4), np.eye(4)))
    assert runner.submit(Request("ask", image, question="?")).result(60).answers[0].text == str(folder / "venv")
    runner.close()


def test_only_a_plan_for_a_separate_environment_is_applied():
    with pytest.raises(InputError, match="into 'slicer'"):
        environment.apply(InstallPlan("slicer", ""), Recorded())


def test_undoing_nothing_frees_nothing(tmp_path):
    assert environment.undo(tmp_path / "none") == 0


def test_the_command_shows_and_plans(tmp_path):
    environment_ = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    for arguments, words in ((["show"], "Python 3."), (["plan", "--separate"], "separate environment")):
        done = subprocess.run(
            [sys.executable, "-m", "MedFMLib.cli", "environment", *arguments],
            capture_output=True,
            text=True,
            env=environment_,
        )
        assert words in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
