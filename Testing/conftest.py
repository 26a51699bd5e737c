"""Fixtures that several folders of tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
DATA = Path(os.environ.get("MEDFM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What MedFM keeps for later, what a person chose and what a person got is for this run alone."""
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))
    yield
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder as the embedded one is laid out: base (NF4), adapters/default, mask_codec, card."""
    pytest.importorskip("torch")
    from support.random_tiny import build

    return build(tmp_path_factory.mktemp("models") / "random-tiny", quantized=True)


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory):
    """The same without quantization and adapter, as a hub folder is laid out."""
    pytest.importorskip("torch")
    from support.random_tiny import build

    return build(tmp_path_factory.mktemp("models") / "random-dense", quantized=False)


@pytest.fixture
def one_thread():
    """Very small models are several times as fast without waiting for a second thread on a busy machine."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def open_data():
    """Finds a file among the open test images; a test that needs a missing one is skipped by name."""

    def find(*parts: str) -> Path:
        path = DATA.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"the open test image {'/'.join(parts)} is not on this machine (set MEDFM_TEST_DATA)")
        return path

    return find
