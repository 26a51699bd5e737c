"""Fixtures of the panel's tests: the stand-in for Slicer, the loaded module, volumes, a scripted runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from host.fixtures import host, running_host  # noqa: F401  (fixtures)

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "MedFM" / "MedFM.py"


@pytest.fixture
def panel(host):  # noqa: F811
    """The real panel, shown in the main window of the stand-in, without a volume."""
    host.load_module(MODULE)
    host.main_window.show()
    return host.select_module("MedFM")


@pytest.fixture
def add_volume(host):  # noqa: F811
    """Add a head-like volume, bright inside and dark outside; (K, J, I) voxels of `spacing` mm."""

    def add(name="head", shape=(24, 30, 36), spacing=(1.0, 1.5, 2.0)):
        import slicer.util

        grids = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij", sparse=True)
        values = (1000 * (sum(g**2 for g in grids) < 1)).astype(np.int16)
        node = slicer.util.addVolumeFromArray(values, name=name)
        node.SetSpacing(*spacing)
        node.CreateDefaultDisplayNodes()
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node

    return add


@pytest.fixture
def volume(panel, add_volume):
    """A head-like volume, chosen in the panel by itself since it is the only one."""
    return add_volume()
