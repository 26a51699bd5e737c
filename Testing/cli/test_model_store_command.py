"""`medfm models get|import|export|remove|disk` and `medfm adapters …`, and the console's functions for the same."""

import json
import shutil

import pytest

import MedFMLib as library
from MedFMLib.cli import model_store as cli_store
from MedFMLib.errors import InputError
from MedFMLib.interfaces import registry
from MedFMLib.storage import installed_models, licence_acceptance

pytestmark = pytest.mark.usefixtures("models_folder")
ID = "acme/eyes-3b"


@pytest.fixture
def answers(monkeypatch):
    """What a person answers to the questions, in order; the questions are kept."""
    asked = []

    def prepare(*given):
        left = list(given)
        monkeypatch.setattr(cli_store.typer, "confirm", lambda text: asked.append(text) or left.pop(0))
        return asked

    return prepare


def test_a_model_is_offered_asked_for_and_fetched(medfm, hub, zoo, answers):
    card = zoo(gate="Accept its terms.", licence="Some licence")
    asked = answers(True, False)
    done = medfm("models", "get", ID)
    assert done.returncode == 130 and "Nothing was changed" in done.stderr
    assert asked == ["Did you read and accept these terms?", "Download it?"]
    for text in ("Accept its terms.", "Eyes: 1.4 MB in", f"{hub.url}/{ID}, revision 0123456789ab", "Some licence"):
        assert text in done.stdout
    assert installed_models.model_folder(ID) is None and licence_acceptance.accepted(card)
    refused = medfm("models", "get", ID, "--json")
    assert refused.returncode == 2 and "add --yes" in refused.stderr
    done = medfm("models", "get", ID, "--yes", "--json")
    content = json.loads(done.stdout)
    assert content["folder"] == str(installed_models.model_folder(ID)) and content["commit"]
    assert "here; gated, accepted" in " ".join(medfm("models", "show", ID).stdout.split())
    (row,) = [row for row in json.loads(medfm("models", "disk", "--json").stdout) if row["id"] == ID]
    assert row["kind"] == "model" and row["bytes"] > 1_000_000
    assert ID in medfm("models", "disk").stdout


def test_yes_alone_accepts_no_terms(medfm, hub, zoo):
    zoo(gate="Accept its terms.")
    done = medfm("models", "get", ID, "--yes")
    assert done.returncode == 3 and f"medfm models accept {ID}" in done.stderr


def test_a_model_goes_out_in_and_away(medfm, tiny_folder, tmp_path, answers):
    zipped = tmp_path / "tiny.zip"
    done = medfm("models", "export", tiny_folder, zipped, "--json")
    assert json.loads(done.stdout)["path"] == str(zipped)
    done = medfm("models", "import", zipped, "--json")
    assert json.loads(done.stdout) == {"model": "random-tiny", "title": "Random tiny"}
    assert "random-tiny" in medfm("models", "list").stdout
    asked = answers(False, True)
    assert medfm("models", "remove", "random-tiny").returncode == 130
    assert installed_models.model_folder("random-tiny")
    assert asked[0].startswith("Delete random-tiny from this machine and free ")
    done = medfm("models", "remove", "random-tiny")
    assert done.returncode == 0 and "are free again" in done.stdout
    assert installed_models.model_folder("random-tiny") is None
    assert "Nothing was downloaded" in medfm("models", "disk").stdout
    done = medfm("models", "import", tmp_path / "nowhere.zip")
    assert done.returncode == 2 and done.stderr.strip().count("\n") == 0


def test_adapters_are_listed_shown_and_managed(medfm, tiny_folder, tmp_path):
    source = tiny_folder / "adapters" / "default"
    assert medfm("adapters", "import", source, "--name", "lungs").returncode == 0
    rows = {row["id"]: row for row in json.loads(medfm("adapters", "list", "--json").stdout)}
    assert rows["lungs"]["rank"] == 4 and rows["lungs"]["from"] == "import"
    assert rows["brain-mr"]["model"] == "medfm-tiny"
    assert "any that fits" in medfm("adapters", "list").stdout
    assert json.loads(medfm("adapters", "show", "lungs", "--json").stdout)["targets"] == "q_proj, v_proj"
    assert "q_proj, v_proj" in medfm("adapters", "show", "lungs").stdout
    zipped = tmp_path / "lungs.zip"
    assert medfm("adapters", "export", "lungs", zipped).returncode == 0 and zipped.is_file()
    done = medfm("adapters", "merge", "lungs", "--model", tiny_folder, "--output", tmp_path / "merged", "--json")
    assert registry.card(json.loads(done.stdout)["path"]).adapters == ()
    assert medfm("adapters", "remove", "lungs", "--yes").returncode == 0
    done = medfm("adapters", "show", "lungs")
    assert done.returncode == 3 and "The adapter 'lungs' is not installed" in done.stderr
    done = medfm("adapters", "remove", "brain-mr", "--yes")
    assert done.returncode == 2 and "comes with MedFM-tiny" in done.stderr


def test_an_adapter_is_got_by_its_id(medfm, hub, zoo, tiny_folder):
    hub.repositories["acme/lungs"] = tiny_folder / "adapters" / "default"
    done = medfm("adapters", "get", "acme/lungs", "--yes")
    assert done.returncode == 0 and "--adapter acme/lungs" in done.stdout
    assert installed_models.adapter_folder("acme/lungs")


def test_the_console_does_the_same_and_asks_for_a_yes(hub, zoo, tmp_path):
    with pytest.raises(InputError, match=r"Eyes would be 1.4 MB from http.*, under none; call again with yes=True"):
        library.get_model(ID)
    folder = library.get_model(ID, yes=True)
    zipped = library.export_model(ID, tmp_path / "eyes.zip")
    with pytest.raises(InputError, match=r"This would delete acme/eyes-3b and free .* MB"):
        library.remove_model(ID)
    assert folder.is_dir()
    assert library.remove_model(ID, yes=True) > 1_000_000 and not folder.exists()
    assert library.import_model(zipped) == ID
    shutil.rmtree(folder)


def test_an_installed_adapter_or_one_for_another_base_is_named_in_the_provenance(zoo, tiny_folder, tmp_path):
    import numpy as np

    from MedFMLib.core.geometry import Geometry
    from MedFMLib.core.image import Image
    from MedFMLib.model_store import adapters
    from MedFMLib.model_store import import_model as take

    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    take(copy, "acme/tiny")
    lora = shutil.copytree(tiny_folder / "adapters" / "default", tmp_path / "lora")
    config = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "acme/other"}))
    adapters.import_adapter(lora, "lungs")
    image = Image(np.zeros((1, 8, 8, 2), np.float32) + np.arange(8)[:, None], Geometry((8, 8, 2), np.eye(4)), "CT")
    response = library.ask(image, "Which plane?", model="acme/tiny", adapter="lungs", precision="fp32", max_tokens=2)
    assert response.provenance.adapter == "lungs" and len(response.provenance.adapter_hash) == 64
    assert (
        "The adapter lungs was made for acme/other and is used with acme/tiny; expect worse answers."
        in response.provenance.notes
    )
