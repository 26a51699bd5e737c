"""Export and import of models and adapters, and what is refused."""

import json
import shutil
import stat
import zipfile

import pytest
from support.store_progress import Recorder

from MedFMLib import model_store
from MedFMLib.errors import Cancelled, InputError, ModelError, OutputError
from MedFMLib.interfaces import registry
from MedFMLib.model_store import adapters, disk
from MedFMLib.models.runtime import checkpoint, loading
from MedFMLib.storage import installed_models, paths

pytestmark = pytest.mark.usefixtures("models_folder")


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def nothing_is_left():
    root = installed_models.models_root()
    assert not root.exists() or not list(root.iterdir())


@pytest.fixture
def exported(tiny_folder, tmp_path):
    """An export of a model with adapter and mask codec."""
    return model_store.export_model(registry.card(str(tiny_folder)), tmp_path / "stick.zip")


def rewrite(path, change):
    """The zip again, with {name: bytes} changed; returns it."""
    with zipfile.ZipFile(path) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_model_comes_back_as_it_was(tiny_folder, tmp_path, as_zip):
    reported = Recorder()
    target = tmp_path / "stick" / ("model.zip" if as_zip else "model")
    path = model_store.export_model(registry.card(str(tiny_folder)), target, reported)
    assert path == target and reported.fractions[-1] == 1.0
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    card = model_store.import_model(path)
    assert card.id == "random-tiny" and registry.cards()["random-tiny"].labels == card.labels
    folder = installed_models.model_folder("random-tiny")
    before, after = content(tiny_folder), content(folder)
    for name in set(before) - {installed_models.CARD}:
        assert before[name] == after[name], name
    assert set(after) - set(before) == {installed_models.MANIFEST}
    assert loading.base_folder(card) == folder / "base"
    from MedFMLib.models.runtime.adapters import adapter_folder

    assert adapter_folder(card, "default") == folder / "adapters" / "default"
    with pytest.raises(InputError, match="A model 'random-tiny' is already installed"):
        model_store.import_model(path)


def test_an_export_goes_into_a_folder_that_exists_and_over_nothing(tiny_folder, tmp_path):
    card = registry.card(str(tiny_folder))
    stick = tmp_path / "stick"
    stick.mkdir()
    made = model_store.export_model(card, stick)
    assert made == stick / "random-tiny"
    with pytest.raises(OutputError, match="already exists"):
        model_store.export_model(card, stick)


def test_a_plain_transformers_folder_is_taken_without_what_could_run(published, tmp_path):
    reported = Recorder()
    card = model_store.import_model(published, "eyes", reported)
    folder = installed_models.model_folder("eyes")
    assert card.id == "eyes" and card.architecture == "paligemma"
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.py")) + list(folder.glob("*.png"))
    assert "modeling_eyes.py, pytorch_model.bin" in reported.notes[0]
    assert loading.base_folder(registry.card("eyes")) == folder


def refusal(path, **options):
    with pytest.raises((InputError, ModelError)) as caught:
        model_store.import_model(path, **options)
    nothing_is_left()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_changed_byte_is_found(exported):
    def change(files):
        data = bytearray(files["base/model.safetensors"])
        data[-1] ^= 1
        files["base/model.safetensors"] = bytes(data)

    assert "base/model.safetensors in 'stick.zip' is damaged: its checksum differs" in refusal(
        rewrite(exported, change)
    )


def test_a_missing_and_a_longer_file_are_found(exported):
    text = refusal(rewrite(exported, lambda files: files.pop("base/config.json")))
    assert "lacks base/config.json" in text
    text = refusal(rewrite(exported, lambda files: files.update({"base/config.json": b"x" * 1_000_000})))
    assert "larger than in its manifest" in text


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "a/../../evil.json", "C:/evil.json", "..\\evil.json"])
def test_a_zip_writes_nothing_outside_of_its_folder(exported, name, tmp_path):
    def in_zip(files):
        files[name] = b"{}"

    assert "outside of its folder" in refusal(rewrite(exported, in_zip))

    def in_manifest(files):
        files.pop(name)
        manifest = json.loads(files[installed_models.MANIFEST])
        manifest["files"][name] = {"size": 2, "sha256": ""}
        files[installed_models.MANIFEST] = json.dumps(manifest).encode()

    assert "outside of its folder" in refusal(rewrite(exported, in_manifest))
    assert not list(tmp_path.rglob("evil.json"))


@pytest.mark.parametrize("name", ["base/pytorch_model.bin", "modeling.py", "adapters/default/adapter_model.pt"])
def test_a_zip_with_a_pickle_or_code_is_refused(exported, name):
    assert f"a pickle, code or an encrypted file ({name})" in refusal(
        rewrite(exported, lambda f: f.update({name: b"x"}))
    )


def test_a_zip_with_a_link_is_refused(exported):
    link = zipfile.ZipInfo("base/link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "has a link" in refusal(exported)


def test_what_is_no_export_is_named(tmp_path, exported):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "was not exported by MedFM" in refusal(tmp_path / "other.zip")
    assert "neither a folder nor a complete zip" in refusal(tmp_path / "nowhere.zip")
    data = exported.read_bytes()
    exported.write_bytes(data[: len(data) // 2])
    assert "neither a folder nor a complete zip" in refusal(exported)


def edit_json(path, **change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_card_with_an_unknown_field_is_refused(published, tiny_folder):
    shutil.copy(tiny_folder / installed_models.CARD, published)
    edit_json(published / installed_models.CARD, weight="heavy")
    assert "unknown fields weight" in refusal(published, name="eyes")


def test_a_truncated_file_and_a_missing_shard_are_refused(published):
    path = published / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "model.safetensors in" in refusal(published, name="eyes") and "eyes" not in registry.cards()
    path.write_bytes(whole)
    index = {"weight_map": {"a": "model-00001.safetensors"}}
    (published / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00001.safetensors" in refusal(published, name="eyes")


def test_weights_of_a_wrong_type_and_an_unknown_architecture_are_refused(published):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"layer.weight": np.zeros((2, 2), np.int16)}, published / "more.safetensors")
    assert "layer.weight in more.safetensors has the type I16" in refusal(published, name="eyes")
    (published / "more.safetensors").unlink()
    edit_json(published / "config.json", model_type="resnet")
    assert "a model of type 'resnet', which MedFM does not know" in refusal(published, name="eyes")


def test_pickles_alone_and_a_bad_name_are_refused(published):
    (published / "model.safetensors").unlink()
    assert "only weights that can run code when opened" in refusal(published, name="eyes")
    for name in ("../eyes", "a/b/c", ".hidden", "a b"):
        assert "is not a valid name" in refusal(published, name=name)


def test_a_cancelled_import_and_a_full_disk_leave_nothing(published, monkeypatch, tmp_path, tiny_folder):
    class Stops(Recorder):
        def fraction(self, value):
            raise Cancelled

    with pytest.raises(Cancelled):
        model_store.import_model(published, "eyes", Stops())
    nothing_is_left()
    monkeypatch.setattr("MedFMLib.model_store.files.shutil.disk_usage", lambda _: type("", (), {"free": 10}))
    with pytest.raises(OutputError, match="are needed in"):
        model_store.import_model(published, "eyes")
    with pytest.raises(OutputError, match="are needed in"):
        model_store.export_model(registry.card(str(tiny_folder)), tmp_path / "out.zip")
    nothing_is_left()
    assert not list(tmp_path.glob("*out.zip*"))


def test_a_disk_that_gets_full_on_the_way_leaves_nothing(published, monkeypatch, tmp_path, tiny_folder):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("MedFMLib.model_store.files.copy_hashed", full)
    with pytest.raises(OutputError, match="the disk is full, free some space; nothing was changed"):
        model_store.import_model(published, "eyes")
    nothing_is_left()
    with pytest.raises(OutputError, match="the disk is full"):
        model_store.export_model(registry.card(str(tiny_folder)), tmp_path / "out.zip")
    assert not list(tmp_path.glob("*out.zip*"))


def test_removing_frees_what_was_counted_and_touches_nothing_else(published, tiny_folder):
    card = model_store.import_model(published, "eyes")
    folder = installed_models.model_folder("eyes")
    mark = checkpoint.fingerprint(checkpoint.check_folder(folder))[:16]
    mine = paths.cache() / "quantized" / f"{folder.name}-{mark}-nf4"
    other = paths.cache() / "quantized" / f"{folder.name}-{'0' * 16}-nf4"
    for path in (mine, other):
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"x" * 1000)
    assert disk.quantized_copies(card) == [mine]
    use = {(u.id, u.kind): u.bytes for u in model_store.disk_use()}
    assert use["eyes", "quantized copy"] == 1000 and use[other.name, "quantized copy"] == 1000
    expected = use["eyes", "model"] + 1000
    assert model_store.remove("eyes", dry=True) == expected and folder.is_dir()
    assert model_store.remove("eyes") == expected
    assert not folder.exists() and not mine.exists() and other.exists()
    nothing_is_left()
    with pytest.raises(ModelError, match="'eyes' is not on this machine"):
        model_store.remove("eyes")
    with pytest.raises(InputError, match="comes with MedFM"):
        model_store.remove("medfm-tiny")
    with pytest.raises(InputError, match="a folder of yours; MedFM doesn't delete it"):
        model_store.remove(str(tiny_folder))
    assert tiny_folder.is_dir()


def test_what_a_kill_left_is_counted_and_removed_with_the_model(published):
    model_store.import_model(published, "eyes")
    for name in (".eyes.part", ".eyes.ab12_cd3", ".eyes.gone", ".eyes.v2.part"):
        (installed_models.models_root() / name).mkdir()
        (installed_models.models_root() / name / "model.safetensors").write_bytes(b"x" * 10)
    left = [(use.id, use.bytes) for use in model_store.disk_use() if use.kind == "unfinished"]
    assert sorted(left) == [("eyes", 10), ("eyes", 10), ("eyes", 10), ("eyes.v2", 10)]
    model_store.remove("eyes")
    assert [path.name for path in installed_models.models_root().iterdir()] == [".eyes.v2.part"]


def test_a_damaged_card_of_an_installed_model_stops_no_other(published):
    model_store.import_model(published, "eyes")
    broken = installed_models.models_root() / "broken"
    broken.mkdir()
    (broken / installed_models.CARD).write_text("{")
    assert "eyes" in registry.cards() and "broken" not in registry.cards()
    assert ("broken", "model") in {(u.id, u.kind) for u in model_store.disk_use()}
    model_store.remove("broken")
    assert not broken.exists()


def test_an_adapter_goes_out_and_in(tiny_folder, tmp_path):
    source = tiny_folder / "adapters" / "default"
    assert adapters.import_adapter(source, "lungs") == "lungs"
    facts = adapters.facts("lungs")
    assert facts["rank"] == 4 and facts["targets"] == "q_proj, v_proj" and len(facts["sha256"]) == 64
    path = adapters.export_adapter("lungs", tmp_path / "lungs.zip")
    with pytest.raises(InputError, match="is of the kind adapter; import it with `medfm adapters import`"):
        model_store.import_model(path)
    assert adapters.remove_adapter("lungs") > 0 and installed_models.adapters() == {}
    assert adapters.import_adapter(path) == "lungs"
    files = content(installed_models.adapter_folder("lungs"))
    assert files["adapter_model.safetensors"] == (source / "adapter_model.safetensors").read_bytes()
    with pytest.raises(InputError, match="already"):
        adapters.import_adapter(path)


def test_an_adapter_that_is_none_is_refused(tiny_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    def copied(name):
        return shutil.copytree(tiny_folder / "adapters" / "default", tmp_path / name)

    def refused(folder):
        with pytest.raises(ModelError) as caught:
            adapters.import_adapter(folder)
        assert installed_models.adapters() == {}
        return str(caught.value)

    folder = copied("nan")
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")
    assert "NaN" in refused(folder)
    folder = copied("ia3")
    edit_json(folder / "adapter_config.json", peft_type="IA3")
    assert "of the type IA3" in refused(folder)
    folder = copied("pickle")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "can run code when opened" in refused(folder)
