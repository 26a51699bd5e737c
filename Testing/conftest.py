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


# -- how many tests ran ------------------------------------------------------------------------------------

MOST_SKIPPED = 80
"""Most tests of a whole run that may be skipped though everything they need is installed and the open images are there."""

MOST_WITHOUT_IMAGES = 120
"""Most tests that may be skipped besides because open test images are not on this machine."""

NO_IMAGE = "the open test image"


def pytest_terminal_summary(terminalreporter, config):
    """Print how many tests ran and were skipped, and why; a whole run that skips more than it may fails."""
    ran = sum(len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed", "xfailed", "xpassed"))
    reasons = [
        report.longrepr[2] if isinstance(report.longrepr, tuple) else "" for report in _skipped(terminalreporter)
    ]
    images = sum(NO_IMAGE in reason for reason in reasons)
    terminalreporter.write_line(
        f"{ran} tests ran, {len(reasons)} were skipped, {images} of them for want of open test images"
    )
    if problem := too_many_skipped(len(reasons) - images, images, _is_whole_run(config)):
        terminalreporter.write_line(problem, red=True)


def pytest_sessionfinish(session):
    """Fail a whole run that skipped too much: tests that do not run prove nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.exitstatus != 0:
        return
    reasons = [report.longrepr[2] if isinstance(report.longrepr, tuple) else "" for report in _skipped(reporter)]
    images = sum(NO_IMAGE in reason for reason in reasons)
    if too_many_skipped(len(reasons) - images, images, _is_whole_run(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def too_many_skipped(skipped: int, without_images: int, whole: bool) -> str:
    """Return what is wrong with the number of skipped tests, "" if nothing.

    Args:
        skipped: tests skipped for another reason than missing images.
        without_images: tests skipped because images are missing.
        whole: is this a run of all tests?
    """
    if not whole or (skipped <= MOST_SKIPPED and without_images <= MOST_WITHOUT_IMAGES):
        return ""
    return (
        f"Too many tests were skipped: {skipped} (at most {MOST_SKIPPED}), and {without_images} for want of images (at most "
        f"{MOST_WITHOUT_IMAGES}); see the reasons with -rs."
    )


def _skipped(reporter) -> list:
    return [report for report in reporter.stats.get("skipped", ()) if hasattr(report, "longrepr")]


def _is_whole_run(config) -> bool:
    """Whether all of Testing was asked for, with every package there (Python 3.12 runs without torch)."""
    import importlib.util

    everything = [str(arg).rstrip("/") for arg in config.args] in (["Testing"], [str(Path(__file__).parent)])
    return everything and not config.option.keyword and importlib.util.find_spec("torch") is not None
