"""`medfm data`, `medfm finetune`, `medfm eval` and `medfm adapters accept`, as a user types them."""

import json

import pytest
from support import finetune_phantoms

pytest.importorskip("accelerate", reason="fine-tuning needs the extra train")
pytestmark = pytest.mark.usefixtures("models_folder", "one_thread")


@pytest.fixture
def data(medfm, tmp_path):
    """A data set that the command built."""
    table = finetune_phantoms.write_table(tmp_path / "source")
    done = medfm("data", "build", table, "--output", tmp_path / "data", "--json", "--licence", "CC0")
    card = json.loads(done.stdout)
    assert (card["images"], card["patients"], card["pairs"], card["patients_in_two_splits"]) == (36, 12, 72, 0)
    assert set(card["splits"]) == {"train", "validation", "test"} and card["licence"] == "CC0"
    return tmp_path / "data"


def test_a_built_data_set_is_checked_and_a_leak_ends_it(medfm, data):
    assert medfm("data", "check", data).returncode == 0
    line = (data / "train.jsonl").read_text().splitlines()[0]
    with (data / "test.jsonl").open("a") as stream:
        stream.write(line + "\n")
    done = medfm("data", "check", data)
    assert done.returncode == 2 and "The split leaks: patient" in done.stderr


def test_what_can_not_be_used_ends_the_building_unless_it_is_skipped(medfm, tmp_path):
    table = finetune_phantoms.write_table(tmp_path / "source")
    (tmp_path / "source" / "p0_0.png").unlink()
    done = medfm("data", "build", table, "--output", tmp_path / "data")
    assert done.returncode == 2 and '--skip "missing picture"' in done.stderr and not (tmp_path / "data").exists()
    done = medfm("data", "build", table, "--output", tmp_path / "data", "--skip", "missing picture")
    assert done.returncode == 0 and "missing picture" in done.stdout


def test_an_adapter_is_trained_listed_shown_judged_and_carried(medfm, data, dense_folder, tmp_path):
    options = (
        "--model",
        dense_folder,
        "--precision",
        "fp32",
        "--compute",
        "fp32",
        "--steps",
        3,
        "--epochs",
        9,
        "--most",
        6,
    )
    done = medfm("finetune", data, "--output", tmp_path / "run", "--name", "squares", "--json", *options)
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["results"]["pairs"] == 6 and card["training"]["watched"]["steps"] == 3
    (row,) = (row for row in json.loads(medfm("adapters", "list", "--json").stdout) if row["id"] == "squares")
    shown = json.loads(medfm("adapters", "show", "squares", "--json").stdout)
    assert shown["licence"] == "CC0" and shown["refused"] == row["refused"]
    if row["refused"]:
        assert medfm("adapters", "accept", "squares", "--yes").returncode == 0
    done = medfm("adapters", "accept", "squares", "--yes")
    assert done.returncode == 2 and "nothing to accept" in done.stderr
    done = medfm("eval", data, "--adapter", "squares", "--model", dense_folder, "--precision", "fp32", "--most", 6,
                 "--output", tmp_path / "judged")  # fmt: skip
    assert done.returncode == 0 and "Held-out patients:" in done.stdout, done.stderr
    assert (tmp_path / "judged" / "adapter-eval.html").stat().st_size > 10_000
    assert medfm("adapters", "export", "squares", tmp_path / "squares.zip").returncode == 0
    assert medfm("adapters", "remove", "squares", "--yes").returncode == 0
    assert medfm("adapters", "import", tmp_path / "squares.zip").returncode == 0
    assert json.loads(medfm("adapters", "show", "squares", "--json").stdout)["difference"] == shown["difference"]


def test_estimates_need_no_training_and_on_paper_no_weights(medfm, data, dense_folder, tmp_path):
    done = medfm(
        "finetune",
        data,
        "--output",
        tmp_path / "run",
        "--estimate",
        "--json",
        "--model",
        dense_folder,
        "--precision",
        "fp32",
    )
    found = json.loads(done.stdout)
    assert found["fits"] and found["norm"] > 0 and found["steps"] > 0 and not (tmp_path / "run").exists()
    done = medfm("finetune", "none", "--output", "none", "--on-paper", "--json", "--model", "google/paligemma-3b-mix-224",
                 "--precision", "nf4", "--batch", 1)  # fmt: skip
    found = json.loads(done.stdout)
    assert found["trained_weights"] == 9_805_824
    assert 1.7e9 < found["bytes"]["weights"] < 1.9e9 and found["total"] < 4e9


def test_a_training_that_does_not_exist_takes_no_commands(medfm, tmp_path):
    done = medfm("finetune", "none", "--output", tmp_path, "--tell", "pause")
    assert done.returncode == 2 and "There is no training" in done.stderr
