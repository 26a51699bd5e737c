"""Pytest fixtures of the stand-in; a conftest imports them by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import install


@pytest.fixture(scope="session")
def running_host() -> Iterator:
    """The stand-in, once for the whole run: an application object can't be made twice."""
    host = install()
    yield host
    host.close()


@pytest.fixture
def host(running_host) -> Iterator:
    """The stand-in with an empty scene; whatever the application would only print fails the test."""
    import slicer.util

    other_scene, slicer.mrmlScene = getattr(slicer, "mrmlScene", None), running_host.scene
    running_host.dialogs.forget()
    running_host.installer.requested.clear()
    running_host.installer.accept = True
    running_host.problems.seen.clear()
    yield running_host
    running_host.unload_modules()
    running_host.main_window.hide()
    running_host.scene.Clear(0)
    for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):  # singletons survive a clear
        running_host.scene.RemoveNode(node)
    running_host.process_events()
    slicer.mrmlScene = other_scene
    running_host.problems.check()
