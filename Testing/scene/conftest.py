"""A scene of the real MRML (slicer-core), with a new one for each test."""

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")


@pytest.fixture
def session():
    from MedFMLib.scene.session import SceneSession

    return SceneSession()


@pytest.fixture
def scene(session):
    return session.scene
