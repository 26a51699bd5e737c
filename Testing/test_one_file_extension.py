"""A family and a task are one file and one card each: those of the documentation, in an empty folder, pass the contract suite."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r'^```(?:python|json) title="([\w./]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def blocks(page: str) -> dict[str, str]:
    """File name → content of the titled code blocks of a page."""
    return dict(BLOCK.findall((ROOT / "docs" / "extending" / page).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """A folder with the files of both pages, and nothing else."""
    folder = tmp_path_factory.mktemp("extension")
    for name, content in {**blocks("add-a-model-family.md"), **blocks("add-a-task.md")}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def run(extension, *arguments):
    environment = {**os.environ, "MEDFM_EXTENSIONS": str(extension), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=500
    )


def test_the_pages_show_one_file_and_one_card_for_a_family_and_one_file_for_a_task():
    assert sorted(blocks("add-a-model-family.md")) == ["models/brightness.py", "zoo/brightness.json"]
    assert sorted(blocks("add-a-task.md")) == ["tasks/brightest.py"]


def test_a_dropped_family_passes_the_contract_suite(extension):
    pytest.importorskip("torch")
    done = run(
        extension, "-m", "pytest", "Testing/models/test_contract.py", "-q", "-k", "brightness or checkpoint_and_its"
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    assert done.returncode == 0, done.stdout[-3000:]
    assert counts["passed"] >= 10  # abilities, cancelling, streaming, and every task, the dropped one included


def test_a_dropped_family_and_task_are_listed_with_the_others(extension):
    code = (
        "import json\nfrom MedFMLib.interfaces import registry\n"
        "card = registry.card('example/brightness')\n"
        "print(json.dumps([card.architecture in registry.architectures(), sorted(registry.tasks()), card.title]))"
    )
    done = run(extension, "-c", code)
    known, tasks, title = json.loads(done.stdout)
    assert known and title == "Brightness"
    assert {"segment", "ask", "report", "brightest"} <= set(tasks)


def test_a_dropped_task_has_a_command_with_its_options(extension, tmp_path):
    import numpy as np
    import SimpleITK as sitk

    values = np.zeros((12, 12, 12), np.int16)  # K, J, I
    values[2, 3, 4], values[1, 1, 1] = 900, -50
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "scan.nii.gz"))
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    done = run(extension, "-m", "MedFMLib.cli", "brightest", scan, "-o", out, "--modality", "CT", "--outside-domain")
    assert done.returncode == 0, done.stderr
    assert "The brightest voxel is at R -4.0, A -3.0, S 2.0 mm." in done.stdout
    done = run(extension, "-m", "MedFMLib.cli", "brightest", scan, "-o", out, "--darkest", "--decimals", "0", "--json",
               "--outside-domain")  # fmt: skip
    assert "The darkest voxel is at R -1, A -1, S 1 mm." in json.dumps(json.loads(done.stdout))
    assert json.loads((out / "scan.brightest.json").read_text())
    refused = run(extension, "-m", "MedFMLib.cli", "brightest", scan, "--decimals", "many")
    assert refused.returncode == 2 and "decimals" in refused.stderr


def test_options_of_a_task_are_checked_and_filled_in():
    from MedFMLib.errors import InputError
    from MedFMLib.interfaces.task import TaskOption, options_of

    class Some:
        name = "some"
        options = (TaskOption("fast", "Fast", "Fast.", False), TaskOption("way", "Way", "Way.", "a", ("a", "b")))

    assert options_of(Some, {}) == {"fast": False, "way": "a"}
    assert options_of(Some, {"way": "b"}) == {"fast": False, "way": "b"}
    with pytest.raises(InputError, match="has no option 'slow'; it has fast, way"):
        options_of(Some, {"slow": True})
    with pytest.raises(InputError, match="'fast' must be true or false, not 1"):
        options_of(Some, {"fast": 1})
    with pytest.raises(InputError, match="'way' must be one of a, b, not 'c'"):
        options_of(Some, {"way": "c"})


def test_what_is_wrong_with_an_extension_is_said_in_a_sentence_and_stops_nothing_else(extension, tmp_path):
    task = (extension / "tasks" / "brightest.py").read_text()
    for name, content in {
        "tasks/broken.py": "def broken(:",
        "tasks/raises.py": "raise RuntimeError('not today')",
        "tasks/short.py": "class T:\n    name = 'short'\n    needs = ()\n\n\nTASK = T()\n",
        "tasks/segment.py": task,
        "tasks/clash.py": task.replace('name = "brightest"', 'name = "demo"'),
        "tasks/fine.py": task.replace('name = "brightest"', 'name = "fine"'),
        "models/bare.py": 'MODEL_TYPES = ("bare",)\n',
        "zoo/damaged.json": "{",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    code = (
        "from MedFMLib.interfaces import registry as r\nfrom MedFMLib.cli import app\n"
        "print(sorted(r.tasks()), sorted(r.architectures()), 'medfm-tiny' in r.cards())\n"
        "print([c.name for c in app.app.registered_commands if c.name in ('fine', 'demo', 'short')])"
    )
    done = run(f"{tmp_path}{os.pathsep}{tmp_path / 'nowhere'}", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "'fine'" in done.stdout and "'short'" not in done.stdout and "'bare'" not in done.stdout
    assert "'segment'" in done.stdout and "'gemma3'" in done.stdout and "True" in done.stdout
    assert done.stdout.splitlines()[-1] == "['fine']"
    for said in (
        "broken.py is left out (SyntaxError", "raises.py is left out (RuntimeError: not today); correct or remove it",
        "short.py is left out: it lacks title, summary, button, tab, options, check, run; see docs/extending",
        "segment.py is left out: a file of that name is there already", "bare.py is left out: it lacks TRAITS, load",
        "The task 'demo' gets no command: medfm has one of that name", "damaged.json can't be used",
        "nowhere', which is no folder; correct or unset it",
    ):  # fmt: skip
        assert done.stderr.count(said) == 1, (said, done.stderr)
